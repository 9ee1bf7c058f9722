"""How each robot's raw columns map into the unified spaces of `unified.py`, and back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_mixtures.unified import ACTION_DIM, LEFT_GRIPPER, STATE_DIM, STATE_LEFT_GRIPPER


@dataclass(frozen=True)
class Dimension:
    """One raw value's place: unified[..., unified] = scale * raw[..., raw] + offset."""

    raw: int
    unified: int
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Embodiment:
    """A robot's raw state and action columns, with the units and frames they are in.

    Attributes:
        state: where the values of `state_column` go.
        action: where the values of `action_column` go.
        action_range: limits of every raw command; `action_from_unified` clips to them.
    """

    robot_type: str
    state: tuple[Dimension, ...]
    action: tuple[Dimension, ...]
    action_range: tuple[float, float]
    state_column: str = "observation.state"
    action_column: str = "action"

    def to_unified_state(self, raw: np.ndarray) -> np.ndarray:
        """Raw states [..., d] -> float32 [..., 46], 0 where the robot has no such dimension."""
        return _place(raw, self.state, STATE_DIM)

    def to_unified_action(self, raw: np.ndarray) -> np.ndarray:
        """Raw actions [..., d] -> float32 [..., 44], 0 where the robot has no such dimension."""
        return _place(raw, self.action, ACTION_DIM)

    def action_from_unified(self, action: np.ndarray) -> np.ndarray:
        """Unified actions [..., 44] -> raw commands float32 [..., d], clipped to `action_range`."""
        raw = np.zeros((*action.shape[:-1], len(self.action)), dtype=np.float32)
        for dim in self.action:
            raw[..., dim.raw] = (action[..., dim.unified] - dim.offset) / dim.scale
        return raw.clip(*self.action_range)

    @property
    def state_mask(self) -> np.ndarray:
        """The unified state dimensions this robot has: bool [46]."""
        return _mask(self.state, STATE_DIM)

    @property
    def action_mask(self) -> np.ndarray:
        """The unified action dimensions this robot has: bool [44]."""
        return _mask(self.action, ACTION_DIM)


def _place(raw: np.ndarray, dimensions: Sequence[Dimension], size: int) -> np.ndarray:
    unified = np.zeros((*raw.shape[:-1], size), dtype=np.float32)
    for dim in dimensions:
        unified[..., dim.unified] = raw[..., dim.raw] * np.float32(dim.scale) + np.float32(dim.offset)
    return unified


def _mask(dimensions: Sequence[Dimension], size: int) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[[dim.unified for dim in dimensions]] = True
    return mask


# Meta-World's Sawyer. State: end effector xyz (m, world), gripper opening 0..1. Action: commands in [-1, 1], xyz then
# gripper (-1 opens, +1 closes). A command of 1 moves the mocap target 0.01 m in each simulator step, and one
# decision is repeated for 3 steps.
METAWORLD_SAWYER = Embodiment(
    robot_type="metaworld_sawyer",
    state=(Dimension(0, 0), Dimension(1, 1), Dimension(2, 2), Dimension(3, STATE_LEFT_GRIPPER)),
    action=(
        *(Dimension(axis, axis, scale=0.03) for axis in range(3)),
        Dimension(3, LEFT_GRIPPER, scale=-0.5, offset=0.5),
    ),
    action_range=(-1.0, 1.0),
)

EMBODIMENTS = {METAWORLD_SAWYER.robot_type: METAWORLD_SAWYER}


def embodiment_of(robot_type: str) -> Embodiment:
    """The embodiment a data set's `robot_type` names."""
    if robot_type not in EMBODIMENTS:
        raise ValueError(
            f"robot_type {robot_type!r} has no unified mapping; known: {sorted(EMBODIMENTS)}. Describe it in "
            "data_mixtures/embodiments.py, or read the data set as video only with labelled_share: 0"
        )
    return EMBODIMENTS[robot_type]
