"""A robot's state as its data set writes it down; joint limits are read from the robot, never assumed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.simpler.poses import BRIDGE_DOWN, Floats, euler_from_matrix, in_base, xyzw_from_matrix

_WIDOWX_FINGERS = ("left_finger", "right_finger")
_GOOGLE_FINGERS = ("joint_finger_right", "joint_finger_left")


def bridge_state(
    base: Floats, hand: Floats, joints: Floats, names: Sequence[str], limits: Floats
) -> NDArray[np.float32]:
    """Bridge's seven: position (m) and roll, pitch, yaw (rad) in the base frame, opening 0 closed .. 1 open.

    The angles are those of the gripper's turn away from pointing straight down (`BRIDGE_DOWN`).

    Args:
        base: The robot's base, position and quaternion wxyz in the world.
        hand: The end effector, likewise.
        joints: All joint positions.
        names: Theirs, in the same order.
        limits: [joints, 2], lowest and highest.
    """
    position, rotation = in_base(base, hand)
    angles = euler_from_matrix(rotation @ BRIDGE_DOWN.T)
    opening = np.clip(np.mean(_shares(_WIDOWX_FINGERS, joints, names, limits)), 0, 1)
    return np.concatenate([position, angles, [opening]]).astype(np.float32)


def fractal_state(
    base: Floats, hand: Floats, joints: Floats, names: Sequence[str], limits: Floats
) -> NDArray[np.float32]:
    """RT-1's eight: position (m) and quaternion xyzw in the base frame, gripper 0 open .. 1 closed; as `bridge_state`.

    The fingers close towards their upper limit.
    """
    position, rotation = in_base(base, hand)
    closed = np.clip(np.mean(_shares(_GOOGLE_FINGERS, joints, names, limits)), 0, 1)
    return np.concatenate([position, xyzw_from_matrix(rotation), [closed]]).astype(np.float32)


def _shares(fingers: Sequence[str], joints: Floats, names: Sequence[str], limits: Floats) -> Floats:
    """Where each finger stands between its lowest (0) and highest (1) position."""
    places = [list(names).index(finger) for finger in fingers]
    low, high = np.asarray(limits)[places].T
    return (np.asarray(joints)[places] - low) / (high - low)
