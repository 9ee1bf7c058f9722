"""Meta-World episodes: seeding that works, action repeat, the scripted expert, snapshots.

Facts this file is built on (metaworld 3.1.1, mujoco 3.3.0): `reset(seed=)` is ignored, so the environment's own
switches are set and `seed()` is called; a compiled model is copied in 20 ms where parsing the XML takes 250-380.
"""

import copy
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eval.gl_backend import select_gl_backend
from eval.metaworld.renderer import Renderer
from eval.metaworld.tasks import MetaWorldTask, metaworld_task

ACTION_REPEAT = 3
"""Simulator steps a decision lasts, unless another number is asked for."""

SIMULATOR_STEP_HZ = 80
"""Meta-World's control rate: 5 physics steps of 2.5 ms."""

LONGEST_EPISODE = 500
"""Simulator steps after which the environment refuses to go on."""

Observation = Literal["robot", "full"]
"""`robot`: [4], end-effector xyz (m, world frame) and gripper opening (0 closed .. 1 open). `full`: [39], what
Meta-World observes when the goal is shown: the same four, then position (m, world) and quaternion of up to two
objects (14 numbers, 0 where there are fewer); these 18 once more as they were one simulator step before; the goal."""

_FIXED_BODIES = ("world", "tablelink", "RetainingWall")


@dataclass(frozen=True)
class Snapshot:
    """What is needed to draw a moment again: positions, and where goal markers were put."""

    qpos: NDArray[np.float64]
    mocap_pos: NDArray[np.float64]
    mocap_quat: NDArray[np.float64]
    sites: tuple[tuple[str, NDArray[np.float64]], ...]


class MetaWorldEpisode:
    """One seeded episode of one task. Made by `CompiledTask.episode`.

    Attributes:
        task: The row of the task table.
        seed: The seed its initial state was drawn from.
        decisions: Decisions taken so far.
        success_any: Whether Meta-World's `info["success"]` held at any simulator step so far.
        success_now: Whether it held at the last simulator step.
        rewards: Sum of Meta-World's rewards (0 to 10 each) of all simulator steps so far.
        touched: Whether the robot touched an object at any simulator step of the last decision that was watched.
    """

    def __init__(
        self,
        task: MetaWorldTask,
        seed: int,
        environment: Any,
        expert: Any,
        action_repeat: int,
        observation: Observation,
    ) -> None:
        self.task, self.seed = task, seed
        self._environment, self._expert = environment, expert
        self._action_repeat, self._observation = action_repeat, observation
        self.model, self.data = environment.model, environment.data
        self.decisions, self.success_any, self.success_now = 0, False, False
        self.rewards, self.touched = 0.0, False
        self._privileged = self._reset()

    def _reset(self) -> NDArray[np.float64]:
        environment = self._environment
        # What set_task would do, less the frozen random vector.
        environment._partially_observable = False
        environment._set_task_called = True
        environment._freeze_rand_vec = False
        environment.seeded_rand_vec = True
        # Cached while goals were hidden; the observation is clipped to it.
        environment.__dict__.pop("sawyer_observation_space", None)
        environment.seed(self.seed)
        environment.reset()
        return self._settled_observation()

    def _settled_observation(self) -> NDArray[np.float64]:
        """The privileged observation [39] at the start, with objects where the seed put them.

        `reset` moves bodies in the model and returns without recomputing where that puts them: its observation, and
        a picture drawn then, show the positions of the draw before.
        """
        import mujoco

        environment = self._environment
        mujoco.mj_forward(self.model, self.data)
        for name, position in environment._target_site_config:
            self.data.site(name).xpos[:] = position
        observation = environment._get_obs()
        environment._prev_obs = observation[:18].copy()
        observation[18:36] = environment._prev_obs
        return observation

    @cached_property
    def _robot_and_object_geoms(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which geoms are the robot's, and which belong to neither it nor the floor, the table and the walls."""
        model = self.model
        roots = model.body_rootid[model.geom_bodyid]
        fixed = [i for i in range(model.nbody) if model.body(i).name in _FIXED_BODIES]
        robot = roots == model.body_rootid[model.body("hand").id]
        return robot, ~robot & ~np.isin(roots, model.body_rootid[fixed])

    @property
    def state(self) -> NDArray[np.float32]:
        """Raw `observation.state` [4] or [39]: see `Observation`."""
        if self._observation == "full":
            return self._privileged.astype(np.float32)
        return self._environment._get_curr_obs_combined_no_goal()[:4].astype(np.float32)

    def _in_contact(self) -> bool:
        """Whether the robot touches an object now."""
        robot, objects = self._robot_and_object_geoms
        pairs = self.data.contact.geom[: self.data.ncon]
        return bool((robot[pairs] & objects[pairs][:, ::-1]).any())

    def expert_command(self) -> NDArray[np.float32]:
        """The scripted expert's command [4] for the present state, clipped to +-1 (it reaches 11 unclipped)."""
        with warnings.catch_warnings():
            # It warns at every command the environment will clip, which is most of them.
            warnings.simplefilter("ignore")
            command = self._expert.get_action(self._privileged)
        return np.clip(command, -1.0, 1.0).astype(np.float32)

    def step(self, command: NDArray[np.float32], watch_contacts: bool = False) -> None:
        """Take one decision: hold `command` for `action_repeat` simulator steps.

        Args:
            command: [4], clipped to +-1: xyz displacement (1 = 0.01 m a simulator step), gripper (-1 open .. 1 closed).
            watch_contacts: Set `touched`.
        """
        clipped = np.clip(np.asarray(command, dtype=np.float32), -1.0, 1.0)
        self.touched = False
        for _ in range(self._action_repeat):
            self._privileged, reward, _, _, info = self._environment.step(clipped)
            self.rewards += float(reward)
            self.success_now = bool(info["success"])
            self.success_any = self.success_any or self.success_now
            self.touched = watch_contacts and (self.touched or self._in_contact())
        self.decisions += 1

    def snapshot(self) -> Snapshot:
        """The present moment, to be drawn later: simulate first, render only what is kept."""
        sites = tuple((name, np.array(position)) for name, position in self._environment._target_site_config)
        data = self.data
        return Snapshot(data.qpos.copy(), data.mocap_pos.copy(), data.mocap_quat.copy(), sites)

    def show(self, snapshot: Snapshot) -> None:
        """Pose the scene as in `snapshot`, for drawing. The episode must not be stepped afterwards."""
        import mujoco

        self.data.qpos[:] = snapshot.qpos
        self.data.mocap_pos[:], self.data.mocap_quat[:] = snapshot.mocap_pos, snapshot.mocap_quat
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        for name, position in snapshot.sites:
            self.data.site(name).xpos[:] = position


class CompiledTask:
    """A task whose model is parsed once and copied for each episode, with one renderer for all of them.

    A context manager; `close` frees the OpenGL context.

    Args:
        name: The task's.
        action_repeat: Simulator steps of each decision.
        observation: What an episode's `state` is.
    """

    def __init__(self, name: str, action_repeat: int = ACTION_REPEAT, observation: Observation = "robot") -> None:
        self.task = metaworld_task(name)
        self.action_repeat = action_repeat
        self._observation: Observation = observation
        self._cannot_draw: RuntimeError | None = None
        try:
            select_gl_backend()
        except RuntimeError as error:  # who looks at nothing can do without
            self._cannot_draw = error
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
        from metaworld.policies import ENV_POLICY_MAP

        self._environment_class: Any = ALL_V3_ENVIRONMENTS[name]
        self._expert_class: Any = ENV_POLICY_MAP[name]
        self._renderer: Renderer | None = None

    def __enter__(self) -> "CompiledTask":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the renderer, if one was made."""
        if self._renderer:
            self._renderer.close()
        self._renderer = None

    def episode(self, seed: int) -> MetaWorldEpisode:
        """A fresh episode: nothing of an earlier one survives, so results do not depend on the order of episodes."""
        return MetaWorldEpisode(
            self.task, seed, self._copied_environment(), self._expert_class(), self.action_repeat, self._observation
        )

    @cached_property
    def _copied_environment(self) -> Any:
        """The environment's class, but with a model that is copied: made once, for classes are freed late."""
        import mujoco

        pristine = self._environment_class().model
        # Before any context is made from it: no multisampling, no shadow map.
        pristine.vis.quality.offsamples = 0

        class Copied(self._environment_class):
            def _initialize_simulation(self) -> tuple[Any, Any]:
                model = copy.copy(pristine)
                return model, mujoco.MjData(model)

        return Copied

    def render(self, episode: MetaWorldEpisode, camera: str, size: int) -> NDArray[np.uint8]:
        """What `camera` sees of `episode` now: RGB uint8 [size, size, 3], row 0 on top."""
        if self._cannot_draw is not None:
            raise self._cannot_draw
        if self._renderer is None:
            self._renderer = Renderer(episode.model)
        return self._renderer.render(episode.model, episode.data, camera, size)
