"""What a window spans: which frames it shows, and how the changes between them add up.

A window has `horizon` steps. A step is one frame of the data set, or, with `stride_s`, that many seconds, so that a
3 Hz and a 30 Hz data set span the same time:

    stride_s None    step k is frame k
    stride_s 0.5     step k is the frame nearest to 0.5 k seconds (fps 3: 0 2 3 5 6 ..; fps 30: 0 15 30 45 ..)

The change of a step is that of all the frames it spans, composed: translations add, rotations multiply, a gripper
takes its last value. A step that spans no frame (a stride shorter than the data set's own) has no change: masked.
"""

import numpy as np

from data_mixtures.config import WindowConfig
from data_mixtures.rotations import euler_from_matrix, matrix_from_euler
from data_mixtures.unified import ACTION_FINGERTIPS, ACTION_GRIPPER_DIMS, ARM_ACTION_DIM, Numerics

_ARMS = tuple(slice(first, first + ARM_ACTION_DIM) for first in (0, ARM_ACTION_DIM))


def step_offsets(window: WindowConfig, fps: np.ndarray) -> np.ndarray:
    """Frame rates [n] -> the frames at which steps 0..horizon begin, from the window's first on: int64 [n, H + 1]."""
    steps = np.arange(window.horizon + 1)
    if window.stride_s is None:
        return np.broadcast_to(steps, (len(fps), len(steps)))
    return np.round(steps * window.stride_s * np.asarray(fps, dtype=np.float64)[:, None]).astype(np.int64)


def shown_steps(window: WindowConfig) -> np.ndarray:
    """The steps whose frames a window shows: int64 [frames], the first and the last among them when frames > 1."""
    return np.round(np.linspace(0, window.horizon, window.frames)).astype(np.int64)


def compose(
    actions: np.ndarray, mask: np.ndarray, spans: np.ndarray, axes: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Changes of single frames -> changes of the steps they make up.

    Args:
        actions: float32 [n, H, K, 44]; step h of a window is made of up to K frames.
        mask: bool, the same shape.
        spans: bool [n, H, K], True for the frames that belong to the step; a prefix of every [K].
        axes: rotations [n, H, K, 3, 3] that turn each frame's changes into the window's axes (a moving camera's), or
            None where all frames share them.

    Returns:
        actions float32 [n, H, 44] and mask bool [n, H, 44]; 0 and False where any frame of the step is masked.
    """
    used = spans[..., None]
    last = np.maximum(spans.sum(-1) - 1, 0)
    changes = np.where(used & mask, actions, 0).astype(np.float64)
    seen: np.ndarray = np.all(mask | ~used, axis=2) & np.any(used, axis=2)
    whole = changes.sum(axis=2)
    if axes is not None:
        tips = changes[..., ACTION_FINGERTIPS].reshape(*changes.shape[:-1], 10, 3)
        turned = np.einsum("nhkij,nhkpj->nhpi", axes, tips)
        whole[..., ACTION_FINGERTIPS] = turned.reshape(*whole.shape[:-1], 30)
    for arm in _ARMS:
        whole[..., arm.start : arm.start + 3] = _translation(changes[..., arm.start : arm.start + 3], axes)
        rotation = slice(arm.start + 3, arm.start + 6)
        if mask[..., rotation].any():
            whole[..., rotation] = _rotation(changes[..., rotation], axes)
    for gripper in ACTION_GRIPPER_DIMS:
        at_last = np.take_along_axis(actions[..., gripper], last[..., None], axis=2)[..., 0]
        whole[..., gripper] = at_last
        seen[..., gripper] = np.take_along_axis(mask[..., gripper], last[..., None], axis=2)[..., 0] & spans.any(-1)
    return (whole * seen).astype(np.float32), seen


def turn_into_first(numerics: Numerics, axes: np.ndarray) -> Numerics:
    """Changes [n, H, 44], each in its own frame's axes, into the axes of the window's first frame.

    Args:
        numerics: of a window without strides (one frame a step).
        axes: rotations [n, H, 3, 3] from each frame's axes to the first one's.
    """
    spans = np.ones((*numerics.actions.shape[:2], 1), dtype=bool)
    actions, mask = compose(numerics.actions[:, :, None], numerics.action_mask[:, :, None], spans, axes[:, :, None])
    return Numerics(numerics.state, numerics.state_mask, actions, mask)


def _translation(changes: np.ndarray, axes: np.ndarray | None) -> np.ndarray:
    return changes.sum(axis=2) if axes is None else np.einsum("nhkij,nhkj->nhi", axes, changes)


def _rotation(changes: np.ndarray, axes: np.ndarray | None) -> np.ndarray:
    """Euler changes [n, H, K, 3] -> [n, H, 3]: later turns multiply from the left."""
    turns = matrix_from_euler(changes)
    if axes is not None:
        turns = axes @ turns @ axes.swapaxes(-1, -2)
    whole = turns[:, :, 0]
    for frame in range(1, turns.shape[2]):
        whole = turns[:, :, frame] @ whole
    return euler_from_matrix(whole)
