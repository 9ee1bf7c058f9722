"""What a window spans: which frames it shows, and how the changes between them add up.

A window has `horizon` steps. A step is one frame of the data set, or, with `stride_s`, that many seconds, so that a
3 Hz and a 30 Hz data set span the same time:

    stride_s None    step k is frame k
    stride_s 0.5     step k is the frame nearest to 0.5 k seconds (fps 3: 0 2 3 5 6 ..; fps 30: 0 15 30 45 ..)

The change of a step is that of all the frames it spans, composed: translations add, rotations multiply, a gripper
takes its last value. A step that spans no frame (a stride shorter than the data set's own) has no change: masked.
A robot's own columns are not known to be changes: of them a step has the last frame's command (`last_command`).
"""

import numpy as np

from data_mixtures.config import WindowConfig
from data_mixtures.spaces.rotations import euler_from_matrix, matrix_from_euler
from data_mixtures.spaces.unified import ACTION_GRIPPER_DIMS, ARM_ACTION_DIM, LEFT_ROTATION


def step_offsets(window: WindowConfig, fps: np.ndarray) -> np.ndarray:
    """Frame rates [n] -> the frames at which steps 0..horizon begin, from the window's first on: int64 [n, H + 1]."""
    steps = np.arange(window.horizon + 1)
    if window.stride_s is None:
        return np.broadcast_to(steps, (len(fps), len(steps)))
    return np.round(steps * window.stride_s * np.asarray(fps, dtype=np.float64)[:, None]).astype(np.int64)


def shown_steps(window: WindowConfig) -> np.ndarray:
    """The steps whose frames a window shows: int64 [frames], the first and the last among them when frames > 1."""
    return np.round(np.linspace(0, window.horizon, window.frames)).astype(np.int64)


def compose(actions: np.ndarray, mask: np.ndarray, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Changes of single frames -> changes of the steps they make up.

    Args:
        actions: float32 [n, H, K, 44]; step h of a window is made of up to K frames, all in the same axes.
        mask: bool, the same shape.
        spans: bool [n, H, K], True for the frames that belong to the step; a prefix of every [K].

    Returns:
        actions float32 [n, H, 44] and mask bool [n, H, 44]; 0 and False where any frame of the step is masked.
    """
    used = spans[..., None]
    changes = np.where(used & mask, actions, 0).astype(np.float64)
    seen: np.ndarray = np.all(mask | ~used, axis=2) & np.any(used, axis=2)
    whole = changes.sum(axis=2)
    for arm in (0, ARM_ACTION_DIM):
        turn = slice(arm + LEFT_ROTATION.start, arm + LEFT_ROTATION.stop)
        if mask[..., turn].any():
            whole[..., turn] = _composed_turn(changes[..., turn])
    last = np.maximum(spans.sum(-1) - 1, 0)[..., None]
    for gripper in ACTION_GRIPPER_DIMS:
        whole[..., gripper] = np.take_along_axis(actions[..., gripper], last, axis=2)[..., 0]
        seen[..., gripper] = np.take_along_axis(mask[..., gripper], last, axis=2)[..., 0] & spans.any(-1)
    return (whole * seen).astype(np.float32), seen


def last_command(actions: np.ndarray, mask: np.ndarray, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `compose`, but for commands that stand for themselves: a step has that of the last frame it spans."""
    last = np.maximum(spans.sum(-1) - 1, 0)[..., None, None]
    seen: np.ndarray = np.take_along_axis(mask, last, axis=2)[:, :, 0] & np.any(spans, axis=-1)[..., None]
    return np.take_along_axis(actions, last, axis=2)[:, :, 0] * seen, seen


def _composed_turn(changes: np.ndarray) -> np.ndarray:
    """Euler changes [n, H, K, 3] -> [n, H, 3]: later turns multiply from the left."""
    turns = matrix_from_euler(changes)
    whole = turns[:, :, 0]
    for frame in range(1, turns.shape[2]):
        whole = turns[:, :, frame] @ whole
    return euler_from_matrix(whole)
