"""Actions seen from other axes: what a moving camera needs, and a change of base."""

import numpy as np

from data_mixtures.spaces.rotations import euler_from_matrix, matrix_from_euler
from data_mixtures.spaces.unified import ACTION_FINGERTIPS, ARM_ACTION_DIM, LEFT_ROTATION, LEFT_TRANSLATION


def turned_actions(actions: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """The same changes in other axes; grippers have none and stay.

    An action k of a window that starts at s, given in the axes of camera k, is in the axes of camera s after
    `turned_actions(action_k, camera_s.T @ camera_k)` with the cameras' rotations to the world.

    Args:
        actions: [..., 44], unified.
        rotation: [..., 3, 3], a vector's old coordinates to its new ones; leading dimensions as those of actions.

    Returns:
        float32 [..., 44]; zeros (what is masked) stay zeros.
    """
    turned = np.array(actions, dtype=np.float64)
    inverse = np.swapaxes(rotation, -1, -2)
    for arm in (0, ARM_ACTION_DIM):
        moved = slice(LEFT_TRANSLATION.start + arm, LEFT_TRANSLATION.stop + arm)
        rolled = slice(LEFT_ROTATION.start + arm, LEFT_ROTATION.stop + arm)
        turned[..., moved] = (rotation @ turned[..., moved, None])[..., 0]
        turned[..., rolled] = euler_from_matrix(rotation @ matrix_from_euler(turned[..., rolled]) @ inverse)
    tips = turned[..., ACTION_FINGERTIPS].reshape(*turned.shape[:-1], 10, 3)
    turned[..., ACTION_FINGERTIPS] = (tips @ inverse).reshape(*turned.shape[:-1], 30)
    return turned.astype(np.float32)
