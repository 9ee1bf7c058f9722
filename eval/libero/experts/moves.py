"""Moves of the hand, and the controller that carries them out: the small vocabulary all skills are written in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eval.libero.experts.scene import Array, Scene

Gripper = Literal["open", "close"]

# Action 1.0 sets the controller's goal this far ahead of the hand (metres, radians).
METRES, RADIANS = 0.05, 0.5
# Of the distance left, what is commanded: the controller's goal is dropped anew each step, so 1.0 never arrives.
GAIN = 1.5
# A hand that comes no nearer for this many steps has arrived as far as it can.
_STALLED_STEPS, _STALLED_M = 8, 0.001


@dataclass(frozen=True)
class Move:
    """Go to a pose, then it is over: when the hand is near, when it stalls, or after `max_steps`.

    Attributes:
        text: The sub-task it belongs to, in words.
        position: Of the grip site, [3] m, world.
        rotation: Of the grip site, [3, 3], world <- hand.
        gripper: Commanded all along.
        near: Distance that counts as there (m); wide for way points, so that paths are round.
        turned: Angle that counts as there (rad).
        speed: Largest command, of 1.
        min_steps: Goes on this long even when there: for fingers to open, for things to come to rest.
        until: Where given, the move goes on until this is true, there or not.
        max_steps: Given up after so many; the skill looks at what came of it.
    """

    text: str
    position: Array
    rotation: Array
    gripper: Gripper
    near: float = 0.02
    turned: float = 0.2
    speed: float = 1.0
    min_steps: int = 0
    until: Callable[[Scene], bool] | None = None
    max_steps: int = 80


def downward(closing: Array) -> Array:
    """Rotation of a hand that points straight down and closes along `closing` [2 or 3], world."""
    first = np.array([closing[0], closing[1], 0.0])
    first /= np.linalg.norm(first)
    third = np.array([0.0, 0.0, -1.0])
    return np.stack([first, np.cross(third, first), third], axis=1)


def about(axis: Array, angle: float) -> Array:
    """Rotation matrix by `angle` rad about `axis` [3]."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def turn_between(current: Array, wanted: Array) -> Array:
    """Axis-angle [3] in the world that turns rotation `current` into `wanted`; below pi."""
    turn = wanted @ current.T
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    sine, cosine = np.linalg.norm(axis) / 2, (np.trace(turn) - 1) / 2
    angle = float(np.arctan2(sine, cosine))
    return axis / max(2 * sine, 1e-9) * angle


def command(scene: Scene, move: Move) -> NDArray[np.float32]:
    """The action [7] towards a move's pose: translation and rotation in the world frame, gripper -1 open, +1 close."""
    ahead = GAIN * (move.position - scene.hand_position) / METRES
    turn = GAIN * turn_between(scene.hand_rotation, move.rotation) / RADIANS
    gripper = -1.0 if move.gripper == "open" else 1.0
    return np.array([*_shortened(ahead, move.speed), *_shortened(turn, 1.0), gripper], dtype=np.float32)


def _shortened(vector: Array, longest: float) -> Array:
    """`vector` scaled down so that no entry exceeds `longest`: clipping each alone would bend the path."""
    return vector * min(1.0, longest / max(float(np.abs(vector).max()), 1e-9))


class Progress:
    """Whether the move under way is over."""

    def __init__(self, move: Move) -> None:
        self.move, self.steps = move, 0
        self._nearest, self._since = np.inf, 0

    def is_over(self, scene: Scene) -> bool:
        """Call once before each step of the move."""
        left = float(np.linalg.norm(self.move.position - scene.hand_position))
        angle = float(np.linalg.norm(turn_between(scene.hand_rotation, self.move.rotation)))
        self._watch(left + 0.05 * angle)
        there = left < self.move.near and angle < self.move.turned
        arrived = self.move.until(scene) if self.move.until else there or self._since >= _STALLED_STEPS
        over = self.steps >= self.move.max_steps or (arrived and self.steps >= self.move.min_steps)
        self.steps += 1
        return over

    def _watch(self, left: float) -> None:
        if left < self._nearest - _STALLED_M:
            self._nearest, self._since = left, 0
        else:
            self._since += 1
