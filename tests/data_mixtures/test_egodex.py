"""EgoDex: camera frames, confidences, texts, and damaged recordings."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from egodex_files import JOINTS, Recording, poses, recording, write_episode, write_hdf5, write_video

from data_mixtures.defects import BadEpisodeError
from data_mixtures.episode import Episode
from data_mixtures.readers.egodex import EgoDexReader, is_egodex
from data_mixtures.spaces.camera_frames import turned_actions
from data_mixtures.spaces.rotations import matrix_from_xyzw, rotation_change

LENGTH = 20
TIPS = [
    f"{side}{finger}Tip"
    for side in ("left", "right")
    for finger in ("Thumb", "IndexFinger", "MiddleFinger", "RingFinger", "LittleFinger")
]


def read(root: Path, content: Recording, key: str = "part1/add_remove_lid/0") -> Episode:
    write_episode(root, key, content)
    return EgoDexReader(root).episode(0)


def seen_from(content: Recording, joint: str, frame: int) -> np.ndarray:
    """A joint's poses [T, 4, 4] in the camera frame of one frame, as the published code does it."""
    return np.linalg.inv(content.poses["camera"][frame]) @ content.poses[joint]


def test_the_skeleton_has_68_joints() -> None:
    assert len(JOINTS) == len(set(JOINTS)) == 68
    assert {"leftHand", "rightHand", *TIPS} <= set(JOINTS)


def test_state_is_what_the_camera_sees(tmp_path: Path) -> None:
    content = recording(LENGTH)
    numerics = read(tmp_path, content).numerics
    for t in range(LENGTH):
        for arm, joint in enumerate(("leftHand", "rightHand")):
            pose = seen_from(content, joint, t)[t]
            np.testing.assert_allclose(numerics.state[t, 8 * arm : 8 * arm + 3], pose[:3, 3], atol=2e-6)
            rotation = matrix_from_xyzw(numerics.state[t, 8 * arm + 3 : 8 * arm + 7])
            np.testing.assert_allclose(rotation, pose[:3, :3], atol=2e-6)
        for i, joint in enumerate(TIPS):
            position = seen_from(content, joint, t)[t, :3, 3]
            np.testing.assert_allclose(numerics.state[t, 16 + 3 * i : 19 + 3 * i], position, atol=2e-6)
    hands, grippers = [*range(7), *range(8, 15)], [7, 15]
    assert numerics.state_mask[:, hands].all()
    assert not numerics.state_mask[:, grippers].any()
    assert not numerics.action_mask[:, [6, 13]].any()
    assert numerics.action_mask[:-1, [*range(6), *range(7, 13), *range(14, 44)]].all()
    assert not numerics.action_mask[-1].any()


def changes_seen_from(content: Recording, start: int) -> np.ndarray:
    """Actions [T - 1, 44] of the whole recording in the camera frame of frame `start`: the rule, done slowly."""
    actions = np.zeros((content.length - 1, 44))
    for arm, joint in enumerate(("leftHand", "rightHand")):
        pose = seen_from(content, joint, start)
        actions[:, 7 * arm : 7 * arm + 3] = np.diff(pose[:, :3, 3], axis=0)
        actions[:, 7 * arm + 3 : 7 * arm + 6] = rotation_change(pose[:-1, :3, :3], pose[1:, :3, :3])
    for i, joint in enumerate(TIPS):
        actions[:, 14 + 3 * i : 17 + 3 * i] = np.diff(seen_from(content, joint, start)[:, :3, 3], axis=0)
    return actions


def test_actions_in_the_frame_of_a_windows_first_frame(tmp_path: Path) -> None:
    content = recording(LENGTH, head_turn=np.deg2rad(30))
    episode = read(tmp_path, content)
    actions, camera = episode.numerics.actions, episode.info["camera_rotation"]
    assert isinstance(camera, np.ndarray)
    errors = []
    for start in range(4):
        expected = changes_seen_from(content, start)
        np.testing.assert_allclose(actions[start], expected[start], atol=2e-6)  # exact at the window's start
        window = slice(start, start + 16)
        turned = turned_actions(actions[window], camera[start].T @ camera[window])
        np.testing.assert_allclose(turned[:15], expected[window][:15], atol=4e-6)  # and with the turn, all of it
        last = start + 15
        tips = actions[last, 14:].reshape(10, 3), expected[last, 14:].reshape(10, 3)
        errors.append(np.linalg.norm(tips[0] - tips[1], axis=1) / np.linalg.norm(tips[1], axis=1))
    # Without it: the head turned by 15 degrees, and 2 sin(7.5 deg) = 0.26 of a change across its axis goes wrong.
    assert 0.1 < np.max(errors) <= 2 * np.sin(np.deg2rad(7.5)) + 1e-3


def test_the_worlds_origin_and_the_heads_motion_do_not_matter(tmp_path: Path) -> None:
    content = recording(LENGTH)
    moved = recording(LENGTH)
    shift = poses(np.array([[3.0, -1.0, 8.0]]), np.array([[0.3, 2.0, -1.0]]))[0]
    moved.poses = {joint: shift @ pose for joint, pose in moved.poses.items()}
    one, other = read(tmp_path / "a", content).numerics, read(tmp_path / "b", moved).numerics
    np.testing.assert_allclose(one.state, other.state, atol=5e-6)
    np.testing.assert_allclose(one.actions, other.actions, atol=5e-6)
    still = recording(LENGTH)
    still.poses |= {
        joint: np.repeat(pose[:1], LENGTH, axis=0) for joint, pose in still.poses.items() if joint != "camera"
    }
    numerics = read(tmp_path / "c", still).numerics
    np.testing.assert_allclose(numerics.actions, 0, atol=1e-6)  # only the head moves
    assert np.ptp(numerics.state[:, :3], axis=0).max() > 0.05


def test_untracked_joints_are_masked_on_both_sides(tmp_path: Path) -> None:
    content = recording(LENGTH)
    assert content.confidences is not None
    content.confidences["rightHand"][5] = 0.09
    content.poses["rightHand"][5] = np.nan
    content.confidences["leftIndexFingerTip"][0] = 0.0
    numerics = read(tmp_path, content).numerics
    assert not numerics.state_mask[5, 8:15].any()
    assert not numerics.action_mask[[4, 5], 7:13].any()
    assert numerics.state_mask[[4, 6], 8:15].all()
    assert numerics.action_mask[[3, 6], 7:13].all()
    assert numerics.state_mask[:, :7].all()
    assert not numerics.state_mask[0, 19:22].any()
    assert not numerics.action_mask[0, 17:20].any()
    assert numerics.action_mask[0, [*range(14, 17), *range(20, 44)]].all()
    assert np.isfinite(numerics.state).all()
    content = recording(LENGTH)
    content.confidences = None
    assert read(tmp_path / "none", content).numerics.state_mask[:, 8:15].all()


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, "Take the lid off the pot."),
        ({"which_llm_description": "1"}, "Put the lid on the pot."),
        ({"llm_type": "neutral"}, "Put the lid on the pot."),
        ({"llm_type": "neutral", "llm_description2": "None"}, "Put the lid on the pot."),
        ({"llm_description2": "None"}, "Put the lid on the pot."),
        ({"llm_type": "None", "llm_description": "None"}, "add and remove lid"),
        ({"llm_type": "None", "llm_description": "None", "description": "None"}, ""),
    ],
)
def test_instructions(tmp_path: Path, attributes: dict[str, str], expected: str) -> None:
    content = recording(LENGTH)
    content.attributes |= attributes
    assert read(tmp_path, content).instruction == expected


def test_order_keys_and_frames(tmp_path: Path) -> None:
    content = recording(LENGTH)
    for key in ("test/fold/0", "part1/fold/10", "part1/fold/9", "part1/add/0"):
        write_episode(tmp_path, key, content)
    write_hdf5(tmp_path / "part1/fold/11.hdf5", content)
    write_video(tmp_path / "part1/fold/12.mp4", LENGTH)
    reader = EgoDexReader(tmp_path)
    keys = [reader.key(i) for i in range(len(reader))]
    assert keys == ["part1/add/0", "part1/fold/9", "part1/fold/10", "part1/fold/11", "test/fold/0"]
    assert [(d.key, d.kind) for d in reader.defects] == [("part1/fold/11", "video"), ("part1/fold/12", "unreadable")]
    frames = reader.episode(4).frames("primary", np.array([19, 0, 7, 7]))
    assert frames.shape == (4, 32, 48, 3)
    np.testing.assert_allclose(frames.reshape(4, -1).mean(axis=1), [20 + 7 * n for n in (19, 0, 7, 7)], atol=3)
    with pytest.raises(BadEpisodeError, match="11.mp4"):
        reader.episode(3)
    part = EgoDexReader(tmp_path / "part1")
    assert part.key(0) == "add/0"
    assert part.fingerprint != reader.fingerprint == EgoDexReader(tmp_path).fingerprint
    write_hdf5(tmp_path / "part1/add/0.hdf5", recording(LENGTH - 1))
    assert EgoDexReader(tmp_path).fingerprint != reader.fingerprint


def test_a_file_replaced_while_it_is_read(tmp_path: Path) -> None:
    write_episode(tmp_path, "part1/fold/0", recording(LENGTH))
    reader = EgoDexReader(tmp_path)
    reader.episode(0)
    write_video(tmp_path / "part1/fold/0.mp4", LENGTH - 3)
    with pytest.raises(BadEpisodeError) as error:
        reader.frames(0, "primary", np.arange(3))
    assert error.value.defect.kind == "changed"


@pytest.mark.parametrize(
    ("joint", "pose", "kind"),
    [
        ("leftHand", np.zeros((LENGTH, 4, 4)), "column"),
        ("leftHand", np.tile(np.diag([1.0, 1, -1, 1]), (LENGTH, 1, 1)), "column"),
        ("rightHand", np.full((LENGTH, 4, 4), np.nan), "not_finite"),
        ("camera", np.full((LENGTH, 4, 4), np.inf), "not_finite"),
        ("leftThumbTip", np.full((LENGTH, 4, 4), np.nan), "not_finite"),
        ("leftHand", np.tile(np.eye(4), (LENGTH - 2, 1, 1)), "length"),
        ("camera", np.zeros((0, 4, 4)), "column"),
        ("camera", np.zeros((LENGTH, 16)), "column"),
    ],
)
def test_bad_poses(tmp_path: Path, joint: str, pose: np.ndarray, kind: str) -> None:
    content = recording(LENGTH)
    write_video(tmp_path / "part1/fold/0.mp4", LENGTH)
    content.poses[joint] = pose
    write_hdf5(tmp_path / "part1/fold/0.hdf5", content)
    with pytest.raises(BadEpisodeError) as error:
        EgoDexReader(tmp_path).episode(0)
    assert error.value.defect.kind == kind


def test_poses_stored_column_by_column_are_refused(tmp_path: Path) -> None:
    content = recording(LENGTH)
    content.poses = {joint: pose.swapaxes(-1, -2) for joint, pose in content.poses.items()}
    with pytest.raises(BadEpisodeError, match="row by row"):
        read(tmp_path, content)


def test_bad_files(tmp_path: Path) -> None:
    content = recording(LENGTH)
    write_episode(tmp_path, "part1/fold/0", content)
    hdf5, mp4 = tmp_path / "part1/fold/0.hdf5", tmp_path / "part1/fold/0.mp4"
    whole = hdf5.read_bytes(), mp4.read_bytes()

    def kind() -> str:
        with pytest.raises(BadEpisodeError) as error:
            EgoDexReader(tmp_path).episode(0)
        hdf5.write_bytes(whole[0])
        mp4.write_bytes(whole[1])
        return error.value.defect.kind

    hdf5.write_bytes(whole[0][:-4000])
    assert kind() == "truncated"
    hdf5.write_bytes(b"")
    assert kind() == "unreadable"
    write_video(mp4, LENGTH - 1)
    assert kind() == "video"
    mp4.write_bytes(whole[1][:300])
    assert kind() == "video"
    with h5py.File(hdf5, "a") as file:
        del file["transforms/rightLittleFingerTip"]
    assert kind() == "column"
    assert len(EgoDexReader(tmp_path).episode(0)) == LENGTH


def test_what_is_no_egodex(tmp_path: Path) -> None:
    assert not is_egodex(tmp_path)
    assert not is_egodex(tmp_path / "missing")
    (tmp_path / "videos").mkdir()
    with pytest.raises(ValueError, match="expected <part>/<task>"):
        EgoDexReader(tmp_path)
    write_episode(tmp_path, "part1/fold/0", recording(3))
    assert is_egodex(tmp_path)
    assert is_egodex(tmp_path / "part1")
