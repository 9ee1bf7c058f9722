"""One LIBERO task, compiled once: reset without recompiling, stepped without drawing or sensing.

Runs in LIBERO's own environment. What is left out changes no bit of the physics (tests/eval/libero hold it against
robosuite's own reset and step):
- robosuite's `reset` parses and compiles the model again (1.4-5 s); here its data is cleared and the few model arrays
  that episodes change are put back (20 ms).
- robosuite's `step` computes positions, collisions and velocities three times for each 2 ms, and every observable
  after it; here positions once. The contact solver runs three times all the same: each run starts from the one before,
  and leaving two out changes the last digits, which grow.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import mujoco  # type: ignore[import-not-found]
import numpy as np
from numpy.typing import NDArray

from data_mixtures.spaces.rotations import robosuite_axis_angle_from_xyzw
from eval.libero.drawing import Snapshot, take_snapshot
from eval.libero.initial_states import load_initial_states
from eval.libero.upstream import Upstream

SETTLING_ACTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
"""Stay, fingers opening."""

CONTROL_HZ = 20
"""Actions a second; each lasts 25 physics steps of 2 ms."""

_NOTHING_KNOWN, _MOTION_KNOWN = int(mujoco.mjtStage.mjSTAGE_NONE), int(mujoco.mjtStage.mjSTAGE_VEL)
_WITHOUT_SENSORS = 1

# robosuite's sensors take their values every 25 physics steps, from the moment the episode is given its state: one step
# before an action ends. So pictures and states, in its data sets too, are 2 ms older than the moment they belong to.
_LOOKS_BEFORE_END = 1

# What an episode may change in the model: where fixtures were put, and marks that show a stove is on.
_CHANGED = ("body_pos", "body_quat", "site_rgba")


class Seen(NamedTuple):
    """What robosuite's sensors took last.

    Attributes:
        snapshot: To be drawn by `Renderer.draw`.
        state: float32 [8]: end effector xyz (m, world), axis-angle of the hand's body (rad), two finger joints (m).
    """

    snapshot: Snapshot
    state: NDArray[np.float32]


class Task:
    """A compiled task with room for one episode at a time.

    Attributes:
        seen: What a policy may see now.
        env: robosuite's environment; it neither draws nor senses. Step it through `step` only.
        model, data: MuJoCo's own.
        initial_states: float64 [trials, 1 + nq + nv].
    """

    def __init__(self, upstream: Upstream, suite: str, name: str) -> None:
        self.suite, self.name = suite, name
        self.initial_states = load_initial_states(upstream.initial_states / suite / f"{name}.pruned_init")
        with _numpy_random(np.random.RandomState(0).get_state()):
            self.env = upstream.environment(suite, name)
        self.env.hard_reset = False
        self.model: Any = self.env.sim.model._model  # noqa: SLF001 robosuite wraps what mujoco's functions take
        self.data: Any = self.env.sim.data._data  # noqa: SLF001
        self._pristine = self._as_compiled()
        assert self.model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
        self._substeps = int(self.env.control_timestep / self.env.model_timestep)
        # Random states before each reset of the stream that a seed starts, as far as it was played.
        self._streams: dict[int, list[Any]] = {}

    def _as_compiled(self) -> dict[str, NDArray[Any]]:
        """The model arrays that episodes change; fixtures were placed once already while the environment was made."""
        arrays = {field: getattr(self.model, field).copy() for field in _CHANGED}
        for fixture in self.env.fixtures_dict.values():
            body = self.env.model.worldbody.find(f".//body[@name='{fixture.root_body}']")
            number = self.model.body(fixture.root_body).id
            arrays["body_pos"][number] = np.fromstring(body.get("pos", "0 0 0"), sep=" ")
            arrays["body_quat"][number] = np.fromstring(body.get("quat", "1 0 0 0"), sep=" ")
        return arrays

    def start(self, init: int, seed: int, resets: int) -> None:
        """Begin an episode in initial state `init`, not settled yet.

        Args:
            init: Which initial state; they repeat from the start when there are no more.
            seed: What numpy is seeded with: a reset draws where fixtures (cabinets, stoves) stand, up to 1 cm off,
                and initial states say nothing of them.
            resets: How many resets came before this one since the seed was set.
        """
        with _numpy_random(self._before_reset(seed, resets)):
            self._reset()
        self.env.sim.set_state_from_flattened(self.initial_states[init % len(self.initial_states)])
        self._begin()

    def scatter(self, seed: int) -> None:
        """Begin an episode with objects and fixtures placed anew, as `seed` draws them; not settled yet."""
        with _numpy_random(self._before_reset(seed, resets=0)):
            self._reset()
        self._begin()

    def _begin(self) -> None:
        """What LIBERO does when it is given a state."""
        mujoco.mj_forward(self.model, self.data)
        self.success()
        self.env._post_process()  # noqa: SLF001
        self.seen = self._look()

    def _before_reset(self, seed: int, resets: int) -> Any:
        """The random state of numpy after `seed` and so many resets."""
        states = self._streams.setdefault(seed, [np.random.RandomState(seed).get_state()])
        while len(states) <= resets:
            with _numpy_random(states[-1]):
                self._reset()
                states.append(np.random.get_state())
        return states[resets]

    def _reset(self) -> None:
        from robosuite.utils.errors import RandomizationError  # type: ignore[import-not-found]

        while True:  # as LIBERO does: objects that found no free place are thrown again
            for field, pristine in self._pristine.items():
                getattr(self.model, field)[:] = pristine
            for robot in self.env.robots:
                robot.gripper.current_action = np.zeros(robot.gripper.dof)
            try:
                self.env.reset()
            except RandomizationError:
                continue
            return

    def step(self, action: NDArray[np.floating[Any]]) -> None:
        """Hold one command [7] for 50 ms: pose change in +-1 (0.05 m, 0.5 rad), gripper -1 open .. +1 closed."""
        env = self.env
        command = np.asarray(action, dtype=np.float64)
        env.timestep += 1
        # The controller asks for a forward pass that `_present` has done already.
        env.sim.forward = _nothing
        try:
            for substep in range(1, self._substeps + 1):
                self._present()
                env._pre_action(command, substep == 1)  # noqa: SLF001 robosuite's controller, unchanged
                self._advance()
                if substep == self._substeps - _LOOKS_BEFORE_END:
                    self.seen = self._look()
        finally:
            del env.sim.forward
        env.cur_time += env.control_timestep
        env._post_process()  # noqa: SLF001 stoves light up

    def _present(self) -> None:
        """What robosuite's two forward passes compute; the second only solves the contacts again, from the first."""
        mujoco.mj_forwardSkip(self.model, self.data, _NOTHING_KNOWN, _WITHOUT_SENSORS)
        mujoco.mj_forwardSkip(self.model, self.data, _MOTION_KNOWN, _WITHOUT_SENSORS)

    def _advance(self) -> None:
        """MuJoCo's step of 2 ms, less the positions and velocities it would compute a third time."""
        model, data = self.model, self.data
        mujoco.mj_checkPos(model, data)
        mujoco.mj_checkVel(model, data)
        mujoco.mj_forwardSkip(model, data, _MOTION_KNOWN, _WITHOUT_SENSORS)
        mujoco.mj_checkAcc(model, data)
        mujoco.mj_Euler(model, data)

    def success(self) -> bool:
        """Whether the task's goal holds now."""
        return bool(self.env._check_success())  # noqa: SLF001 LIBERO's own

    def _look(self) -> Seen:
        robot, sim = self.env.robots[0], self.env.sim
        position = sim.data.site_xpos[robot.eef_site_id]
        w, x, y, z = sim.data.get_body_xquat(robot.robot_model.eef_name)
        fingers = sim.data.qpos[robot._ref_gripper_joint_pos_indexes]  # noqa: SLF001
        rotation = robosuite_axis_angle_from_xyzw([x, y, z, w])
        state = np.concatenate([position, rotation, fingers]).astype(np.float32)
        return Seen(take_snapshot(self.model, self.data), state)


@contextmanager
def _numpy_random(state: Any) -> Iterator[None]:
    """Let numpy's global generator, which resets draw from, go on from `state`; others find it as it was."""
    before = np.random.get_state()
    np.random.set_state(state)
    try:
        yield
    finally:
        np.random.set_state(before)


def _nothing() -> None:
    """In place of a recomputation whose result is there already."""
