"""Poses with their conventions in the names: quaternions are wxyz unless a name says xyzw. numpy only.

The simulator gives poses as seven numbers, position (m) then quaternion wxyz, in the world frame. `agent/eef_pos` of
some forks does not exist here: the end effector in the robot's base frame is computed below.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Bridge writes down how far the gripper is turned away from pointing straight down: its rotation times the inverse of
# this one, a quarter turn about y.
BRIDGE_DOWN = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


def matrix_from_wxyz(quaternion: Floats) -> Floats:
    """Rotation matrix [3, 3] of a quaternion wxyz of any length but 0."""
    w, x, y, z = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def xyzw_from_matrix(matrix: Floats) -> Floats:
    """Quaternion xyzw of a rotation matrix, w >= 0."""
    # Each row is the quaternion (wxyz) times four times one of its own components; the longest is the most exact.
    m = matrix
    rows = np.array(
        [
            [1 + m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], 1 - m[0, 0] + m[1, 1] - m[2, 2], m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 - m[0, 0] - m[1, 1] + m[2, 2]],
        ]
    )
    wxyz = rows[np.argmax(np.diag(rows))]
    wxyz = wxyz / np.linalg.norm(wxyz) * (1.0 if wxyz[0] >= 0 else -1.0)
    return np.roll(wxyz, -1)


def euler_from_matrix(matrix: Floats) -> Floats:
    """Roll, pitch, yaw (rad) about the fixed x, y, z in that order: matrix = Rz(yaw) Ry(pitch) Rx(roll)."""
    m = matrix
    flat = np.hypot(m[0, 0], m[1, 0])
    pitch = np.arctan2(-m[2, 0], flat)
    if flat < 1e-6:  # roll and yaw turn about the same axis: all of it is called roll
        return np.array([np.arctan2(-m[1, 2], m[1, 1]), pitch, 0.0])
    return np.array([np.arctan2(m[2, 1], m[2, 2]), pitch, np.arctan2(m[1, 0], m[0, 0])])


def matrix_from_euler(angles: Floats) -> Floats:
    """The inverse of `euler_from_matrix`."""
    (sr, sp, sy), (cr, cp, cy) = np.sin(angles), np.cos(angles)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def axis_angle_from_euler(angles: Floats) -> Floats:
    """Axis times angle (rad, 0 to pi) of the same turn; at small angles the two look alike, at large they do not."""
    x, y, z, w = xyzw_from_matrix(matrix_from_euler(np.asarray(angles, np.float64)))
    vector = np.array([x, y, z])
    sine = np.linalg.norm(vector)
    if sine < 1e-12:
        return 2 * vector
    return vector / sine * 2 * np.arctan2(sine, w)


def in_base(base_pose: Floats, pose: Floats) -> tuple[Floats, Floats]:
    """Position [3] (m) and rotation [3, 3] of `pose` seen from `base_pose`; both are seven numbers in the world."""
    base_pose, pose = np.asarray(base_pose, np.float64), np.asarray(pose, np.float64)
    to_base = matrix_from_wxyz(base_pose[3:]).T
    return to_base @ (pose[:3] - base_pose[:3]), to_base @ matrix_from_wxyz(pose[3:])


def half_turned_wxyz(yaw: float) -> list[float]:
    """Quaternion wxyz of half a turn about z and then `yaw` (rad) more: how SIMPLER's robots stand."""
    return [float(-np.sin(yaw / 2)), 0.0, 0.0, float(np.cos(yaw / 2))]
