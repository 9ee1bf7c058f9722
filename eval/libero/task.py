"""One LIBERO task, compiled once: reset without recompiling, stepped without drawing or sensing.

Runs in LIBERO's own environment. What is left out changes no bit of the physics (tests/eval/libero hold it against
robosuite's own reset and step):
- robosuite's `reset` parses and compiles the model again (1.4-5 s); here its data is cleared and the few model arrays
  that episodes change are put back (20 ms).
- robosuite's `step` computes the positions three times for each 2 ms and updates every observable; here once.
"""

from typing import Any

import mujoco  # type: ignore[import-not-found]
import numpy as np
from numpy.typing import NDArray

from data_mixtures.spaces.rotations import robosuite_axis_angle_from_xyzw
from eval.libero.initial_states import load_initial_states
from eval.libero.upstream import Upstream

SETTLING_ACTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
"""Stay, fingers opening."""

CONTROL_HZ = 20
"""Actions a second; each lasts 25 physics steps of 2 ms."""

# What an episode may change in the model: where fixtures were put, and marks that show a stove is on.
_CHANGED = ("body_pos", "body_quat", "site_rgba")


class Task:
    """A compiled task with room for one episode at a time.

    Attributes:
        env: robosuite's environment; it neither draws nor senses. Step it through `step` only.
        model, data: MuJoCo's own.
        initial_states: float64 [trials, 1 + nq + nv].
    """

    def __init__(self, upstream: Upstream, suite: str, name: str) -> None:
        self.suite, self.name = suite, name
        self.initial_states = load_initial_states(upstream.initial_states / suite / f"{name}.pruned_init")
        self.env = upstream.environment(suite, name)
        self.env.hard_reset = False
        self.model: Any = self.env.sim.model._model  # noqa: SLF001 robosuite wraps what mujoco's functions take
        self.data: Any = self.env.sim.data._data  # noqa: SLF001
        self._pristine = {field: getattr(self.model, field).copy() for field in _CHANGED}
        self._substeps = int(self.env.control_timestep / self.env.model_timestep)
        # Random states before each reset of the stream that a seed starts, as far as it was played.
        self._streams: dict[int, list[Any]] = {}

    def start(self, init: int, seed: int, resets: int) -> None:
        """Begin an episode in initial state `init`, not settled yet.

        Args:
            init: Which initial state; they repeat from the start when there are no more.
            seed: What numpy is seeded with: a reset draws where fixtures (cabinets, stoves) stand, up to 1 cm off,
                and initial states say nothing of them.
            resets: How many resets came before this one since the seed was set.
        """
        self._enter_stream(seed, resets)
        self._reset()
        self.env.sim.set_state_from_flattened(self.initial_states[init % len(self.initial_states)])
        self._begin()

    def scatter(self, seed: int) -> None:
        """Begin an episode with objects and fixtures placed anew, as `seed` draws them; not settled yet."""
        np.random.seed(seed)
        self._reset()
        self._begin()

    def _begin(self) -> None:
        """What LIBERO does when it is given a state."""
        mujoco.mj_forward(self.model, self.data)
        self.success()
        self.env._post_process()  # noqa: SLF001

    def _enter_stream(self, seed: int, resets: int) -> None:
        """Put numpy's global random state where it is after `seed` and so many resets."""
        states = self._streams.setdefault(seed, [])
        if not states:
            np.random.seed(seed)
            states.append(np.random.get_state())
        while len(states) <= resets:
            np.random.set_state(states[-1])
            self._reset()
            states.append(np.random.get_state())
        np.random.set_state(states[resets])

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
        env, model, data = self.env, self.model, self.data
        command = np.asarray(action, dtype=np.float64)
        env.timestep += 1
        # The controller computes positions anew at each call; they are the present ones already.
        env.sim.forward = _nothing
        try:
            for substep in range(self._substeps):
                mujoco.mj_step1(model, data)
                env._pre_action(command, substep == 0)  # noqa: SLF001 robosuite's controller, unchanged
                mujoco.mj_step2(model, data)
        finally:
            del env.sim.forward
        env.cur_time += env.control_timestep
        env._post_process()  # noqa: SLF001 stoves light up

    def success(self) -> bool:
        """Whether the task's goal holds now."""
        return bool(self.env._check_success())  # noqa: SLF001 LIBERO's own

    def state(self) -> NDArray[np.float32]:
        """[8]: end effector xyz (m, world), axis-angle of the hand's body (rad), two finger joints (m)."""
        robot, sim = self.env.robots[0], self.env.sim
        position = sim.data.site_xpos[robot.eef_site_id]
        w, x, y, z = sim.data.get_body_xquat(robot.robot_model.eef_name)
        fingers = sim.data.qpos[robot._ref_gripper_joint_pos_indexes]  # noqa: SLF001
        rotation = robosuite_axis_angle_from_xyzw([x, y, z, w])
        return np.concatenate([position, rotation, fingers]).astype(np.float32)


def _nothing() -> None:
    """In place of a recomputation whose result is there already."""
