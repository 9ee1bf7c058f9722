"""Changes lead from pose to pose, and masks say what was not measured."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data_mixtures.spaces.poses import ArmCommand, ArmTrack, unify
from data_mixtures.spaces.rotations import matrix_from_euler

few = settings(max_examples=25, deadline=None, derandomize=True)


def walk(length: int, seed: int, step: float = 0.4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, rotations and a gripper that wander: rotations cross +-pi and the gimbal again and again."""
    random = np.random.default_rng(seed)
    position = np.cumsum(random.normal(0, 0.05, (length, 3)), axis=0)
    rotations = [Rotation.from_rotvec(random.normal(0, 2, 3))]
    for turn in random.normal(0, step, (length - 1, 3)):
        rotations.append(Rotation.from_rotvec(turn) * rotations[-1])
    return position, np.stack([r.as_matrix() for r in rotations]), random.uniform(0, 1, length)


@few
@given(st.integers(2, 40), st.integers(0, 10**6), st.floats(0.01, 2))
def test_changes_composed_over_the_episode_give_the_last_pose(length: int, seed: int, step: float) -> None:
    position, rotation, gripper = walk(length, seed, step)
    numerics = unify(length, ArmTrack(position, rotation, gripper))
    reached, turned = position[0].copy(), rotation[0].copy()
    for action in numerics.actions[:-1].astype(np.float64):
        reached += action[:3]
        turned = matrix_from_euler(action[3:6]) @ turned
    np.testing.assert_allclose(reached, position[-1], atol=1e-5)
    np.testing.assert_allclose(turned, rotation[-1], atol=1e-5)
    np.testing.assert_allclose(numerics.actions[:-1, 6], gripper[1:], atol=1e-6)


@few
@given(st.integers(2, 20), st.integers(0, 10**6))
def test_states_are_the_poses_and_only_the_last_action_is_masked(length: int, seed: int) -> None:
    position, rotation, gripper = walk(length, seed)
    numerics = unify(length, ArmTrack(position, rotation, gripper))
    np.testing.assert_allclose(numerics.state[:, :3], position, atol=1e-6)
    np.testing.assert_allclose(Rotation.from_quat(numerics.state[:, 3:7]).as_matrix(), rotation, atol=1e-6)
    np.testing.assert_allclose(numerics.state[:, 7], gripper, atol=1e-6)
    assert numerics.state_mask[:, :8].all()
    assert not numerics.state_mask[:, 8:].any()
    assert numerics.action_mask[:-1, :7].all()
    assert not numerics.action_mask[-1].any()
    assert not numerics.action_mask[:, 7:].any()
    assert not numerics.actions[~numerics.action_mask].any()


def test_invalid_frames_mask_the_changes_into_and_out_of_them() -> None:
    position, rotation, gripper = walk(6, 0)
    position[3] = np.nan
    valid = np.array([True, True, True, False, True, True])
    numerics = unify(6, right=ArmTrack(position, rotation, gripper, valid=valid))
    assert numerics.action_mask[:, 7:13].all(axis=1).tolist() == [True, True, False, False, True, False]
    assert numerics.action_mask[:, 13].tolist() == [True, True, False, True, True, False]  # the gripper at t + 1
    assert numerics.state_mask[:, 8:16].all(axis=1).tolist() == valid.tolist()
    assert not numerics.state[3].any()
    assert np.isfinite(numerics.actions).all()
    assert not numerics.action_mask[:, :7].any()


def test_a_track_goes_before_a_command_part_by_part() -> None:
    position, _, gripper = walk(4, 1)
    command = ArmCommand(np.full((4, 3), 9.0), np.full((4, 3), 0.1), np.array([0.0, 1, 0, 1]), rotation_axes=(2,))
    numerics = unify(4, ArmTrack(position, None, gripper, position_axes=(0, 1)), left_command=command)
    np.testing.assert_allclose(numerics.actions[:3, :2], np.diff(position, axis=0)[:, :2], atol=1e-6)
    assert numerics.action_mask[:, :2].all(axis=1).tolist() == [True, True, True, False]
    assert numerics.actions[:, 2].tolist() == [9.0] * 4  # the track has no z, the command has
    assert numerics.action_mask[:, 3:6].tolist() == [[False, False, True]] * 4
    assert numerics.actions[:, 6].tolist() == [0, 1, 0, 1]
    assert numerics.action_mask[:, 6].all()
    np.testing.assert_allclose(numerics.state[:, 7], gripper, atol=1e-6)
    assert numerics.state_mask[0, :8].tolist() == [True, True, False, False, False, False, False, True]


def test_fingertips_change_where_both_frames_saw_them() -> None:
    tips = np.random.default_rng(0).normal(size=(3, 10, 3))
    seen = np.ones((3, 10), dtype=bool)
    seen[2, 4] = False
    tips[2, 4] = np.nan
    numerics = unify(3, fingertips=tips, fingertips_valid=seen)
    np.testing.assert_allclose(numerics.actions[0, 14:44], (tips[1] - tips[0]).ravel(), atol=1e-6)
    assert numerics.action_mask[1, 14:44].reshape(10, 3).all(axis=1).tolist() == [True] * 4 + [False] + [True] * 5
    assert not numerics.action_mask[2].any()
    assert not numerics.state_mask[2, 16 + 12 : 16 + 15].any()
    np.testing.assert_allclose(numerics.state[1, 16:46], tips[1].ravel(), atol=1e-6)
    assert not numerics.state_mask[:, :16].any()


def test_one_frame_has_a_state_and_no_action() -> None:
    position, rotation, gripper = walk(1, 0)
    numerics = unify(1, ArmTrack(position, rotation, gripper), fingertips=np.zeros((1, 10, 3)))
    assert numerics.state_mask[0, :8].all()
    assert not numerics.action_mask.any()


def test_numbers_no_float32_holds_stay_to_be_found() -> None:
    position, rotation, _ = walk(3, 0)
    position[1, 0] = 1e300
    rotation[2] = np.nan
    numerics = unify(3, ArmTrack(position, rotation))
    assert np.isinf(numerics.state[1, 0])
    assert np.isnan(numerics.state[2, 3:7]).all()
    assert np.isnan(numerics.actions[1, 3:6]).any()
