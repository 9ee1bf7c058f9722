"""Episodes of Hopper and HalfCheetah: gymnasium's v5 environments, stepped without its wrappers.

Positions, rewards and draws of initial states are those of `gymnasium.envs.mujoco` 1.x (a test compares them step for
step); a decision's simulator steps are one call of MuJoCo where nothing must be looked at in between, which is 2.5
times as fast.

Episodes have a fixed length and never end early, as CLAM has it (appendix E). A hopper that fell (gymnasium's
`is_healthy` fails) stays as it lies, and nothing is rewarded from then on. D4RL's reference returns are of episodes
that end there, so a return means the same on both sides; were a fallen hopper to go on it could collect reward by
sliding, which no reference contains.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.locomotion.tasks import ACTION_REPEAT, LocomotionTask, locomotion_task

_LOWEST_Z, _LARGEST_ANGLE, _LARGEST_STATE = 0.7, 0.2, 100.0


@dataclass(frozen=True)
class Pose:
    """What is needed to draw a moment again."""

    qpos: NDArray[np.float64]


class LocomotionEpisode:
    """One robot, which can be reset to any seed; nothing of an earlier episode survives.

    Args:
        name: The robot's.
        seed: Of its first initial state.
        action_repeat: Simulator steps of each decision.

    Attributes:
        task: The row of the task table.
        decisions: Decisions since the reset.
        total: Sum of rewards since the reset.
        fallen: Whether it has fallen; it then moves no more.
    """

    def __init__(self, name: str, seed: int, action_repeat: int = ACTION_REPEAT) -> None:
        import mujoco

        self.task: LocomotionTask = locomotion_task(name)
        self._mujoco: Any = mujoco
        self._action_repeat = action_repeat
        self.model = mujoco.MjModel.from_xml_path(str(asset(self.task.model)))
        self.data = mujoco.MjData(self.model)
        self._step_seconds = self.model.opt.timestep * self.task.physics_steps
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Begin again at the initial state gymnasium draws with this seed."""
        task, data = self.task, self.data
        self.decisions, self.total, self.fallen = 0, 0.0, False
        draws, noise = np.random.default_rng(seed), self.task.initial_noise
        self._mujoco.mj_resetData(self.model, data)
        data.qpos[:] += draws.uniform(-noise, noise, self.model.nq)
        if task.normal_velocities:
            data.qvel[:] += noise * draws.standard_normal(self.model.nv)
        else:
            data.qvel[:] += draws.uniform(-noise, noise, self.model.nv)
        self._mujoco.mj_forward(self.model, data)

    @property
    def observation(self) -> NDArray[np.float32]:
        """Joint positions but for x, then velocities: [11] of Hopper, [17] of HalfCheetah."""
        limit = self.task.velocity_limit
        velocities = self.data.qvel if limit == float("inf") else np.clip(self.data.qvel, -limit, limit)
        return np.concatenate((self.data.qpos[1:], velocities), dtype=np.float32, casting="same_kind")

    def step(self, action: NDArray[np.floating]) -> float:
        """Take one decision: hold an action for `action_repeat` simulator steps.

        Args:
            action: [3] or [6], cut to [-1, 1].

        Returns:
            The sum of the simulator steps' rewards; 0 once it has fallen.
        """
        self.decisions += 1
        if self.fallen:
            return 0.0
        self.data.ctrl[:] = np.minimum(np.maximum(action, -1.0), 1.0)
        reward = self._watched() if self.task.falls else self._unwatched()
        self.total += reward
        return reward

    def _unwatched(self) -> float:
        """All simulator steps at once: forward rewards add up to the way that was covered."""
        return self._advance(self._action_repeat)

    def _watched(self) -> float:
        """Simulator steps one by one, up to the one in which it falls."""
        reward = 0.0
        for _ in range(self._action_repeat):
            reward += self._advance(1)
            self.fallen = not self._is_upright()
            if self.fallen:
                break
            reward += self.task.alive_reward
        return reward

    def _advance(self, steps: int) -> float:
        data, before = self.data, float(self.data.qpos[0])
        self._mujoco.mj_step(self.model, data, nstep=self.task.physics_steps * steps)
        forward = (float(data.qpos[0]) - before) / self._step_seconds
        return forward - steps * self.task.control_cost * float(data.ctrl @ data.ctrl)

    def _is_upright(self) -> bool:
        z, angle = self.data.qpos[1], self.data.qpos[2]
        if not (z > _LOWEST_Z and abs(angle) < _LARGEST_ANGLE):
            return False
        return max(np.abs(self.data.qpos[2:]).max(), np.abs(self.data.qvel).max()) < _LARGEST_STATE

    def pose(self) -> Pose:
        """The present moment, to be drawn later."""
        return Pose(self.data.qpos.copy())

    def show(self, pose: Pose) -> None:
        """Put the robot as in `pose`, for drawing; not stepped afterwards."""
        self.data.qpos[:] = pose.qpos
        self._mujoco.mj_forward(self.model, self.data)


def asset(name: str) -> Path:
    """A model among gymnasium's files, found without importing its environments."""
    found = find_spec("gymnasium")
    if found is None or found.origin is None:
        raise ValueError("gymnasium is not installed: pip install gymnasium mujoco")
    return Path(found.origin).parent / "envs" / "mujoco" / "assets" / name
