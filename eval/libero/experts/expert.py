"""The scripted expert of one episode: its plan carried out step by step, with jitter on the way if wanted."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eval.libero.experts.moves import Move, Progress, command
from eval.libero.experts.plans import plan
from eval.libero.experts.scene import Scene

_PRECISE_M = 0.015
"""Moves that must end nearer than this are not jittered: they touch things."""

_FULL_NOISE_M = 0.02
"""Moves that must end nearer than this have proportionally less noise: it would keep them from ending."""


@dataclass(frozen=True)
class Jitter:
    """How unlike each other an expert's episodes are.

    Attributes:
        waypoint_m: Standard deviation of way points, each axis. Moves that touch things are exact.
        noise: Standard deviation of what is added to the first six commands (of 1) as they are carried out;
            less in moves that must be exact.
        held_steps: Steps a draw of the noise is held: noise drawn anew each step averages out to nothing.
    """

    waypoint_m: float = 0.0
    noise: float = 0.0
    held_steps: int = 4


class Expert:
    """Acts in one episode; made when its scene has settled.

    Args:
        scene: The episode's.
        first_grasp: Which grasp is tried first; the others follow.
        jitter: None of it unless given.
        rng: Draws the jitter.
    """

    def __init__(
        self, scene: Scene, first_grasp: int = 0, jitter: Jitter | None = None, rng: np.random.Generator | None = None
    ) -> None:
        self._scene, self._jitter = scene, jitter or Jitter()
        self._rng = rng or np.random.default_rng(0)
        self._moves: Iterator[Move] = plan(scene, first_grasp)
        self._progress: Progress | None = None
        self._noise = np.zeros(6, dtype=np.float32)
        self._steps, self._done = 0, False

    @property
    def subtask(self) -> str:
        """What the move under way is for, in words."""
        return self._progress.move.text if self._progress else ""

    @property
    def is_done(self) -> bool:
        """Whether the last move is over; known once `action` was asked for."""
        return self._done

    def action(self) -> NDArray[np.float32]:
        """What to do now, [7] in LIBERO's raw columns, each in [-1, 1]; call once a step."""
        while self._progress is None or self._progress.is_over(self._scene):
            move = next(self._moves, None)
            if move is None:
                self._done = True
                return self._rest()
            self._progress = Progress(self._jittered(move))
        return command(self._scene, self._progress.move)

    def executed(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """`action` with noise on top, clipped to [-1, 1]: what a recorded episode does, while `action` is its label."""
        if self._steps % self._jitter.held_steps == 0:
            self._noise = self._rng.normal(0.0, self._jitter.noise, 6).astype(np.float32)
        self._steps += 1
        exactness = min(1.0, self._progress.move.near / _FULL_NOISE_M) if self._progress else 1.0
        noisy = action.copy()
        noisy[:6] = np.clip(action[:6] + exactness * self._noise, -1.0, 1.0)
        return noisy

    def _jittered(self, move: Move) -> Move:
        offset = self._rng.normal(0.0, self._jitter.waypoint_m, 3)
        return replace(move, position=move.position + offset) if move.near > _PRECISE_M else move

    def _rest(self) -> NDArray[np.float32]:
        """Nothing more to do: the hand stays, the fingers as they were."""
        gripper = self._progress.move.gripper if self._progress else "open"
        return np.array([0, 0, 0, 0, 0, 0, -1.0 if gripper == "open" else 1.0], dtype=np.float32)
