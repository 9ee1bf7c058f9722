"""Locomotion as the engine plays it: runs in a simulator's process."""

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.locomotion.ars import LinearPolicy
from eval.locomotion.episode import LocomotionEpisode, Pose
from eval.locomotion.snapshots import read_snapshots
from eval.suite import Case, Film, Success, View

_FILM_HZ = 10.0  # drawing is most of a film's cost
_NO_SUCCESS = Success(now=False, ever=False)


class PlayedEpisode:
    """An episode and the moments it has been through."""

    def __init__(self, episode: LocomotionEpisode, expert: LinearPolicy | None, decision_hz: float) -> None:
        self._episode, self._expert, self._hz = episode, expert, decision_hz
        self._stride = max(1, round(decision_hz / _FILM_HZ))
        self._poses: list[Pose] = []
        self._upright = 0

    def view(self) -> View:
        """No pictures: the observation [11] or [17], and the instruction."""
        return View({}, self._episode.observation, self._episode.task.instruction)

    def step(self, action: NDArray[np.float32]) -> Success:
        """One decision: torques [3] or [6] held for the case's `action_repeat` simulator steps; there is no success."""
        if self._episode.decisions % self._stride == 0:
            self._poses.append(self._episode.pose())
        self._episode.step(action)
        self._upright += not self._episode.fallen
        return _NO_SUCCESS

    def expert(self) -> NDArray[np.float32]:
        """The action [3] or [6] of the recording's best snapshot."""
        if self._expert is None:
            raise NotImplementedError(
                "a trained one comes from a recording's file, --suite.locomotion.snapshots RUN/snapshots.npz"
            )
        return np.clip(self._expert(self._episode.observation), -1.0, 1.0).astype(np.float32)

    def readings(self) -> dict[str, Any]:
        """How far it got.

        `return`: the sum of rewards. `normalised_return`: 0 for random actions, 1 for the stand-in expert.
        `d4rl_normalised_return`: between D4RL's references. `upright`: decisions that ended upright.
        """
        task, total = self._episode.task, float(self._episode.total)
        return {
            "return": total,
            "normalised_return": task.stand_in.normalised(total),
            "d4rl_normalised_return": task.d4rl.normalised(total),
            "upright": self._upright,
        }

    def film(self, size: int) -> Film:
        """Its moments about ten times a second, from the side, following it."""
        import mujoco

        episode, quality = self._episode, self._episode.model.vis.quality
        # On a CPU the shadow map and multisampling are nearly all of a picture's cost.
        quality.shadowsize = quality.offsamples = 0
        with mujoco.Renderer(episode.model, size, size) as renderer:
            frames = []
            for pose in self._poses:
                episode.show(pose)
                renderer.update_scene(episode.data, camera="track")
                for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                    renderer.scene.flags[flag] = 0
                frames.append(renderer.render().copy())
        return Film(np.stack(frames), self._hz / self._stride)


class LocomotionSimulator:
    """Makes episodes of either robot.

    Args:
        snapshots: A recording's snapshots.npz, for its expert.
    """

    def __init__(self, snapshots: str | None = None) -> None:
        self._expert = None if snapshots is None else read_snapshots(Path(snapshots))[0].expert.policy

    def facts(self) -> dict[str, str]:
        """Models are a part of gymnasium, so it is what decides the physics beside MuJoCo."""
        return {name: metadata.version(name) for name in ("mujoco", "gymnasium")} | {"assets": "own"}

    def episode(self, case: Case) -> PlayedEpisode:
        """A fresh episode, its initial state drawn with the case's seed."""
        repeat = int(case.options["action_repeat"])
        episode = LocomotionEpisode(case.task, case.seed, repeat)
        return PlayedEpisode(episode, self._expert, episode.task.step_hz / repeat)

    def close(self) -> None:
        """Nothing is held."""
