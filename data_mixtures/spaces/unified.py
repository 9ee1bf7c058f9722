"""The unified action and state spaces every embodiment is written into (LatBot, supplement 6.1).

Action, 44 dimensions, changes per step: 0-6 left arm (dx dy dz in metres, d-roll d-pitch d-yaw in radians,
gripper 0 closed .. 1 open, absolute), 7-13 right arm, 14-43 changes of ten fingertip positions (m).
State, 46 dimensions: 0-7 left arm (xyz in metres, quaternion xyzw, gripper 0..1), 8-15 right arm,
16-45 ten fingertip positions (m). A mask beside each says which dimensions an embodiment has.
A single-arm robot fills the left side.

Frames: an arm's pose and its changes are in that robot's base (or world) frame, a human hand's in the camera frame of
the window's first frame. A change of rotation is R[t+1] R[t]^T, written as Euler angles about the fixed x, y and z
axes in that order (roll, pitch, yaw). Quaternions are xyzw with w >= 0.
Fingertips: left thumb, index, middle, ring, little, then right; xyz each.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

ACTION_DIM = 44
STATE_DIM = 46

# What a data set's numerics mean: the layout above, or a robot's own columns as they were recorded (joints, for one),
# which then fill the first dimensions of the same arrays.
NumericSpace = Literal["unified", "recorded"]

LEFT_TRANSLATION = slice(0, 3)
LEFT_ROTATION = slice(3, 6)
LEFT_GRIPPER = 6
STATE_LEFT_POSITION = slice(0, 3)
STATE_LEFT_QUATERNION = slice(3, 7)
STATE_LEFT_GRIPPER = 7
ARM_ACTION_DIM, ARM_STATE_DIM = 7, 8  # the right arm's dimensions are the left's plus these
ACTION_FINGERTIPS = slice(14, 44)
STATE_FINGERTIPS = slice(16, 46)

# Normalisation leaves these as they are: they are already 0 (closed) to 1 (open).
ACTION_GRIPPER_DIMS = (6, 13)
STATE_GRIPPER_DIMS = (7, 15)


@dataclass(frozen=True)
class Numerics:
    """States and actions in the unified spaces, 0 and False where there is nothing or nothing may be seen.

    Attributes:
        state: float32 [n, 46], and `state_mask` bool [n, 46].
        actions: float32 [n, 44] or [n, horizon, 44], and `action_mask` bool of the same shape.
    """

    state: np.ndarray
    state_mask: np.ndarray
    actions: np.ndarray
    action_mask: np.ndarray


def no_numerics(count: int) -> Numerics:
    """States and actions of `count` frames of action-free video: all 0, all masked."""
    return Numerics(
        state=np.zeros((count, STATE_DIM), dtype=np.float32),
        state_mask=np.zeros((count, STATE_DIM), dtype=bool),
        actions=np.zeros((count, ACTION_DIM), dtype=np.float32),
        action_mask=np.zeros((count, ACTION_DIM), dtype=bool),
    )
