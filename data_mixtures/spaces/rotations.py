"""Rotations between every form robot data comes in and the two kept here: 3 x 3 matrices and quaternions xyzw, w >= 0.

All functions take arrays with any leading dimensions and give float64. A matrix maps the body's coordinates to the
base's (its columns are the body's axes). Euler angles are about FIXED axes, applied in the order of their letters:
"xyz" is R = Rz(c) Ry(b) Rx(a); capital letters ("XYZ") mean the axes turn with the body, as in scipy. Angles in
radians. What is no rotation (a zero quaternion, NaN) gives NaN, never a warning: `check_episode` finds it.
"""

import numpy as np
from numpy.typing import ArrayLike

# Below this cos(pitch), roll and yaw turn about the same axis: all of the turn is given to roll. Smaller than float32
# noise would leave yaw to chance; larger would lose pitch.
_GIMBAL_COSINE = 1e-7

_quiet = np.errstate(divide="ignore", invalid="ignore", over="ignore")


def _float64(values: ArrayLike, width: int, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != width:
        raise ValueError(f"{name} has shape {array.shape}: its last dimension must be {width}")
    return array


def xyzw_from_wxyz(q: ArrayLike) -> np.ndarray:
    """Quaternions [..., 4] with the real part first -> real part last; w >= 0."""
    return _positive(np.roll(_float64(q, 4, "q"), -1, axis=-1))


@_quiet
def matrix_from_xyzw(xyzw: ArrayLike) -> np.ndarray:
    """Quaternions [..., 4] xyzw of any length but 0 -> [..., 3, 3]."""
    q = _float64(xyzw, 4, "xyzw")
    x, y, z, w = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


@_quiet
def xyzw_from_matrix(m: ArrayLike) -> np.ndarray:
    """Rotations [..., 3, 3] -> unit quaternions [..., 4] xyzw, w >= 0."""
    m = np.asarray(m, dtype=np.float64)
    diagonal = np.diagonal(m, axis1=-2, axis2=-1)
    trace = diagonal.sum(axis=-1)
    # Row k of `products` is q times 4 q[k]; the row of the largest |q[k]| loses no digits (Shepperd, 1978).
    products = np.empty((*m.shape[:-2], 4, 4))
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        products[..., i, i] = 1 + 2 * diagonal[..., i] - trace
        products[..., i, j] = products[..., j, i] = m[..., j, i] + m[..., i, j]
        products[..., i, 3] = products[..., 3, i] = m[..., k, j] - m[..., j, k]
    products[..., 3, 3] = 1 + trace
    best = np.argmax(np.diagonal(products, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(products, best[..., None, None], axis=-2)[..., 0, :]
    return _positive(q / np.linalg.norm(q, axis=-1, keepdims=True))


def _positive(q: np.ndarray) -> np.ndarray:
    return np.where(q[..., 3:] < 0, -q, q)


@_quiet
def matrix_from_euler(angles: ArrayLike, order: str = "xyz") -> np.ndarray:
    """Euler angles [..., 3] in the order of `order`'s letters -> [..., 3, 3]; see the top for small and capitals."""
    angles = _float64(angles, 3, "angles")
    if len(order) != 3 or not set(order.lower()) <= set("xyz") or order not in (order.lower(), order.upper()):
        raise ValueError(f"order is {order!r}: give three of x, y, z (fixed axes) or of X, Y, Z (turning axes)")
    turns = [_about_axis("xyz".index(axis), angles[..., i]) for i, axis in enumerate(order.lower())]
    if order.isupper():  # turning axes are the fixed ones in reverse
        turns.reverse()
    return turns[2] @ turns[1] @ turns[0]


def _about_axis(axis: int, angle: np.ndarray) -> np.ndarray:
    m = np.zeros((*angle.shape, 3, 3))
    j, k = (axis + 1) % 3, (axis + 2) % 3
    m[..., axis, axis] = 1
    m[..., j, j] = m[..., k, k] = np.cos(angle)
    m[..., k, j] = np.sin(angle)
    m[..., j, k] = -m[..., k, j]
    return m


@_quiet
def euler_from_matrix(m: ArrayLike) -> np.ndarray:
    """Rotations [..., 3, 3] -> [..., 3] roll, pitch, yaw about the fixed x, y, z; pitch in [-pi/2, pi/2].

    At pitch = +-pi/2 only roll -+ yaw is defined: yaw is then 0.
    """
    m = np.asarray(m, dtype=np.float64)
    cosine = np.hypot(m[..., 0, 0], m[..., 1, 0])
    locked = cosine < _GIMBAL_COSINE
    roll = np.where(locked, np.arctan2(-m[..., 1, 2], m[..., 1, 1]), np.arctan2(m[..., 2, 1], m[..., 2, 2]))
    yaw = np.where(locked, 0.0, np.arctan2(m[..., 1, 0], m[..., 0, 0]))
    return np.stack([roll, np.arctan2(-m[..., 2, 0], cosine), yaw], axis=-1)


@_quiet
def matrix_from_axis_angle(v: ArrayLike) -> np.ndarray:
    """Axes times angles [..., 3], rad -> [..., 3, 3] (Rodrigues)."""
    v = _float64(v, 3, "v")
    half = np.linalg.norm(v, axis=-1, keepdims=True) / 2
    # np.sinc(x) = sin(pi x) / (pi x) is exact at 0, where the axis is not defined
    return matrix_from_xyzw(np.concatenate([v / 2 * np.sinc(half / np.pi), np.cos(half)], axis=-1))


@_quiet
def axis_angle_from_matrix(m: ArrayLike) -> np.ndarray:
    """Rotations [..., 3, 3] -> axes times angles [..., 3], rad, the short way round: angles in [0, pi]."""
    return robosuite_axis_angle_from_xyzw(xyzw_from_matrix(m))


@_quiet
def robosuite_axis_angle_from_xyzw(xyzw: ArrayLike) -> np.ndarray:
    """Unit quaternions [..., 4] xyzw -> axes times angles [..., 3], rad, as robosuite's quat2axisangle gives them.

    It does not first turn w < 0 to w > 0, so angles lie in [0, 2 pi]: q and -q, the same rotation, give different
    vectors. MuJoCo's quaternions keep the sign they happen to have, and LIBERO's data sets were recorded so: taking
    the short way instead costs up to 40 points of success on LIBERO-Long. Within 1e-12 of no turn it gives 0.
    """
    q = _float64(xyzw, 4, "xyzw")
    sine = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[..., 3:])
    return q[..., :3] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), np.where(q[..., 3:] >= 0, 2.0, 0.0))


@_quiet
def antipodal_axis_angle(v: ArrayLike) -> np.ndarray:
    """The same rotations [..., 3] the other way round: about the opposite axis by 2 pi less the angle."""
    v = _float64(v, 3, "v")
    angle = np.linalg.norm(v, axis=-1, keepdims=True)
    return v * np.where(angle > 1e-12, 1 - 2 * np.pi / np.maximum(angle, 1e-12), 1.0)


@_quiet
def matrix_from_6d_columns(columns: ArrayLike) -> np.ndarray:
    """A matrix's first two columns, one after the other [..., 6] -> [..., 3, 3]: Gram-Schmidt (Zhou et al., 2019)."""
    columns = _float64(columns, 6, "columns")
    x = columns[..., :3] / np.linalg.norm(columns[..., :3], axis=-1, keepdims=True)
    y = columns[..., 3:] - (x * columns[..., 3:]).sum(axis=-1, keepdims=True) * x
    y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def matrix_from_column_major(flat16: ArrayLike) -> np.ndarray:
    """Homogeneous matrices written column by column [..., 16] -> [..., 4, 4]; position is [..., :3, 3]."""
    flat = _float64(flat16, 16, "flat16")
    return flat.reshape(*flat.shape[:-1], 4, 4).swapaxes(-1, -2)


@_quiet
def rotation_change(before: ArrayLike, after: ArrayLike) -> np.ndarray:
    """Euler angles [..., 3] about the fixed x, y, z of after @ before^T: the turn, seen from the base."""
    return euler_from_matrix(np.asarray(after, np.float64) @ np.asarray(before, np.float64).swapaxes(-1, -2))
