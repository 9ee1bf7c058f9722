"""Windows in seconds: what they span, and that composed changes are the changes between the poses they end at."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_mixtures.config import WindowConfig
from data_mixtures.sampling.windows import compose, shown_steps, step_offsets
from data_mixtures.spaces.camera_frames import turned_actions
from data_mixtures.spaces.rotations import rotation_change
from data_mixtures.spaces.unified import ACTION_DIM


def test_a_slow_and_a_fast_data_set_span_the_same_time() -> None:
    window = WindowConfig(frames=16, horizon=15, stride_s=1 / 3)
    slow, fast, odd = step_offsets(window, np.array([3.0, 30.0, 12.5]))
    assert slow.tolist() == list(range(16))
    assert fast.tolist() == list(range(0, 151, 10))
    np.testing.assert_allclose(odd / 12.5, np.arange(16) / 3, atol=0.5 / 12.5)


def test_without_a_stride_a_step_is_a_frame() -> None:
    window = WindowConfig(frames=5, horizon=16)
    assert step_offsets(window, np.array([3.0, 30.0])).tolist() == [list(range(17))] * 2
    assert shown_steps(window).tolist() == [0, 4, 8, 12, 16]
    assert shown_steps(WindowConfig(frames=1, horizon=8)).tolist() == [0]


def _poses(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, rotations and single-frame actions of a wandering left arm."""
    rng = np.random.default_rng(0)
    position = rng.normal(size=(count + 1, 3)).cumsum(0)
    turns = Rotation.from_rotvec(rng.normal(0, 0.4, (count + 1, 3)))
    rotation = [turns[0]]
    for turn in turns[1:]:
        rotation.append(turn * rotation[-1])
    matrices = np.stack([r.as_matrix() for r in rotation])
    actions = np.zeros((count, ACTION_DIM), dtype=np.float32)
    actions[:, :3] = np.diff(position, axis=0)
    actions[:, 3:6] = rotation_change(matrices[:-1], matrices[1:])
    actions[:, 6] = rng.uniform(size=count)
    actions[:, 14:44] = rng.normal(size=(count, 30))
    return position, matrices, actions


def test_composed_changes_end_at_the_pose() -> None:
    position, rotation, single = _poses(12)
    spans = np.ones((1, 3, 4), dtype=bool)
    mask = np.zeros((1, 3, 4, ACTION_DIM), dtype=bool)
    mask[..., [*range(7), *range(14, 44)]] = True
    actions, seen = compose(single.reshape(1, 3, 4, ACTION_DIM), mask, spans)
    ends = np.arange(0, 13, 4)
    np.testing.assert_allclose(actions[0, :, :3], np.diff(position[ends], axis=0), atol=1e-5)
    np.testing.assert_allclose(actions[0, :, 3:6], rotation_change(rotation[ends[:-1]], rotation[ends[1:]]), atol=1e-5)
    np.testing.assert_array_equal(actions[0, :, 6], single[[3, 7, 11], 6])
    np.testing.assert_allclose(actions[0, :, 14:44], single[:, 14:44].reshape(3, 4, 30).sum(1), atol=1e-5)
    assert seen[0, :, 0].all()
    assert not seen[0, :, 7:14].any()


def test_a_step_is_masked_when_one_of_its_frames_is_or_when_it_spans_none() -> None:
    _, _, single = _poses(6)
    spans = np.array([[[True, True], [True, False], [False, False]]])
    mask = np.zeros((1, 3, 2, ACTION_DIM), dtype=bool)
    mask[..., :7] = True
    mask[0, 0, 0, 2] = False  # z of a frame inside step 0
    mask[0, 1, 1] = False  # of a frame that step 1 does not span
    mask[0, 0, 0, 6] = False  # the gripper: only its last value counts
    actions, seen = compose(single.reshape(1, 3, 2, ACTION_DIM), mask, spans)
    assert seen[0, 0, :7].tolist() == [True, True, False, True, True, True, True]
    assert seen[0, 1, :7].all()
    np.testing.assert_allclose(actions[0, 1, :7], single[2, :7], atol=1e-6)
    assert not seen[0, 2].any()
    assert not actions[0, 2].any()


@pytest.mark.parametrize("stride", [1, 3])
def test_a_moving_cameras_changes_come_into_the_first_frames_axes(stride: int) -> None:
    position, rotation, _ = _poses(6)
    camera = Rotation.random(7, rng=np.random.default_rng(1)).as_matrix()  # camera to world, each frame
    to_camera = camera.swapaxes(-1, -2)
    single = np.zeros((6, ACTION_DIM), dtype=np.float32)
    single[:, :3] = np.einsum("tij,tj->ti", to_camera[:-1], np.diff(position, axis=0))
    turns = to_camera[:-1] @ rotation[1:] @ rotation[:-1].swapaxes(-1, -2) @ camera[:-1]
    single[:, 3:6] = rotation_change(np.broadcast_to(np.eye(3), turns.shape), turns)
    single[:, 14:17] = single[:, :3]
    mask = np.zeros((6, ACTION_DIM), dtype=bool)
    mask[:, [*range(6), *range(14, 17)]] = True
    single = turned_actions(single, to_camera[0] @ camera[:-1])
    shape = (1, 6 // stride, stride)
    actions, seen = compose(single.reshape(*shape, -1), mask.reshape(*shape, -1), np.ones(shape, bool))
    ends = np.arange(0, 7, stride)
    moved = np.diff(position[ends], axis=0) @ to_camera[0].T
    whole = to_camera[0] @ rotation[ends[1:]] @ rotation[ends[:-1]].swapaxes(-1, -2) @ camera[0]
    np.testing.assert_allclose(actions[0, :, :3], moved, atol=1e-5)
    np.testing.assert_allclose(actions[0, :, 14:17], moved, atol=1e-5)
    np.testing.assert_allclose(
        actions[0, :, 3:6], rotation_change(np.broadcast_to(np.eye(3), whole.shape), whole), atol=1e-5
    )
    assert seen[0, :, :6].all()
