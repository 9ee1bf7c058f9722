"""AgiBot World: folders and tars, old and new keys, and what is known to be wrong with it."""

import copy
import json
import shutil
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from agibot_files import CAMERAS, Variant, arm_states, level, pack, write_episode, write_task_info

from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers.agibot import AgiBotReader, is_agibot
from data_mixtures.spaces.rotations import matrix_from_xyzw, rotation_change

SHARED = Path(__file__).parents[2].parent / "shared"
LENGTH = 18
CASES = {
    "common": (327, 648642, Variant()),
    "split effectors": (327, 648649, Variant(split_effectors=True)),
    "no end effector": (352, 648544, Variant(no_end=True)),
    "fingers": (352, 648564, Variant(fingers=True)),
    "longer actions": (352, 648600, Variant(extra_actions=5)),
    "simulated": (400, 700001, Variant(simulated=True)),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("agibot") / "folders"
    for task, episode, variant in CASES.values():
        write_episode(root, task, episode, LENGTH, variant)
    write_task_info(root, 327, [648642, 648649])
    write_task_info(root, 352, [648544, 648564, 648600], "lable_info")
    return root


@pytest.fixture(scope="module")
def tars(root: Path) -> Path:
    return pack(root, root.parent / "tars")


def index_of(reader: AgiBotReader, case: str) -> int:
    return [reader.key(i) for i in range(len(reader))].index(f"{CASES[case][0]}/{CASES[case][1]}")


@pytest.mark.parametrize("case", list(CASES))
def test_numbers_are_those_that_were_recorded(root: Path, case: str) -> None:
    reader = AgiBotReader(root)
    episode = reader.episode(index_of(reader, case))
    position, rotation, gripper = arm_states(LENGTH, CASES[case][1])
    state, actions = episode.numerics.state, episode.numerics.actions
    assert len(episode) == LENGTH
    assert episode.fps == 30
    has_end, has_gripper = case != "no end effector", case != "fingers"
    for arm in (0, 1):
        mask = episode.numerics.state_mask[:, 8 * arm : 8 * arm + 8]
        assert (mask == [*[has_end] * 7, has_gripper]).all()
        changes = episode.numerics.action_mask[:, 7 * arm : 7 * arm + 7]
        assert (changes[:-1] == [*[has_end] * 6, has_gripper]).all()
        assert not changes[-1].any()
        if has_end:
            np.testing.assert_allclose(state[:, 8 * arm : 8 * arm + 3], position[:, arm], atol=1e-6)
            quaternion = state[:, 8 * arm + 3 : 8 * arm + 7]
            np.testing.assert_allclose(matrix_from_xyzw(quaternion), rotation[:, arm], atol=1e-6)
            moved = actions[:-1, 7 * arm : 7 * arm + 6]
            np.testing.assert_allclose(moved[:, :3], np.diff(position[:, arm], axis=0), atol=1e-6)
            np.testing.assert_allclose(moved[:, 3:], rotation_change(rotation[:-1, arm], rotation[1:, arm]), atol=1e-6)
        if has_gripper:  # a reading of 0 is open, of 120 closed
            np.testing.assert_allclose(state[:, 8 * arm + 7], 1 - gripper[:, arm] / 120, atol=1e-6)
            np.testing.assert_allclose(actions[:-1, 7 * arm + 6], state[1:, 8 * arm + 7])


def test_texts_and_sub_tasks(root: Path) -> None:
    reader = AgiBotReader(root)
    for case in ("common", "longer actions"):  # spelt label_info and lable_info
        episode = reader.episode(index_of(reader, case))
        assert episode.instruction == "Pickup items in the supermarket"
        assert list(episode.subtasks) == [
            (0, "Retrieve cucumber from the shelf."),
            (8, ""),
            (10, "Place the cucumber into the bag."),
            (15, ""),
        ]
    assert episode.info["actions_longer_by"] == 5
    assert reader.episode(index_of(reader, "simulated")).instruction == ""
    assert "12" in str(reader.episode(index_of(reader, "fingers")).info["gripper"])


def test_overlapping_and_senseless_segments(root: Path, tmp_path: Path) -> None:
    write_episode(tmp_path / "a", 1, 2, LENGTH)
    segments = [
        {"start_frame": 4, "end_frame": 12, "action_text": "second"},
        {"start_frame": 0, "end_frame": 6, "action_text": "first"},
        {"start_frame": 12, "end_frame": 99, "action_text": "third"},
        {"start_frame": 40, "end_frame": 50, "action_text": "after the end"},
        {"start_frame": "1", "end_frame": 2, "action_text": "no number"},
        {"start_frame": 9, "end_frame": 3, "action_text": "backwards"},
    ]
    (tmp_path / "a" / "task_info").mkdir()
    content = [{"episode_id": 2, "task_name": "t", "label_info": {"action_config": segments}}]
    (tmp_path / "a" / "task_info" / "task_1.json").write_text(json.dumps(content))
    episode = AgiBotReader(tmp_path / "a").episode(0)
    assert list(episode.subtasks) == [(0, "first"), (4, "second"), (12, "third")]
    assert episode.info["segments_ignored"] == 2


def test_frames(root: Path) -> None:
    reader = AgiBotReader(root)
    assert list(reader.cameras) == ["primary", "wrist_left", "wrist_right", "head_left_fisheye"]
    episode = reader.episode(0)
    assert list(episode.cameras) == list(reader.cameras)
    for seed, camera in enumerate(["primary", "wrist_left", "wrist_right", "head_left_fisheye"]):
        frames = episode.frames(camera, np.array([17, 3, 3, 0]))
        expected = [level(number, seed) for number in (17, 3, 3, 0)]
        np.testing.assert_allclose(frames.reshape(4, -1).mean(axis=1), expected, atol=2)


def test_tars_give_what_folders_give(root: Path, tars: Path) -> None:
    folders, packed = AgiBotReader(root), AgiBotReader(tars)
    assert not packed.defects
    keys = [folders.key(i) for i in range(len(folders))]
    assert [packed.key(i) for i in range(len(packed))] == keys
    assert keys == sorted(keys, key=lambda key: [int(part) for part in key.split("/")])
    for i in range(len(folders)):
        one, other = folders.episode(i), packed.episode(i)
        np.testing.assert_array_equal(one.numerics.state, other.numerics.state)
        np.testing.assert_array_equal(one.numerics.action_mask, other.numerics.action_mask)
        assert (one.instruction, one.subtasks, one.cameras) == (other.instruction, other.subtasks, other.cameras)
    numbers = np.array([5, 1, 16])
    for camera in one.cameras:
        np.testing.assert_array_equal(one.frames(camera, numbers), other.frames(camera, numbers))
    copied = copy.deepcopy(packed)  # by the protocol that sends a reader to a worker process
    np.testing.assert_array_equal(copied.frames(0, "primary", numbers), packed.frames(0, "primary", numbers))
    assert copied.fingerprint == packed.fingerprint != folders.fingerprint


def test_tars_of_other_dialects(root: Path, tmp_path: Path) -> None:
    for tar_format in (tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        packed = AgiBotReader(pack(root, tmp_path / str(tar_format), tar_format))
        assert len(packed) == len(CASES)
        assert len(packed.episode(0)) == LENGTH


@pytest.mark.parametrize(
    ("inside", "left"), [("648564/videos/hand_right_color.mp4", 2), ("648600/videos/head_color.mp4", 3)]
)
def test_a_tar_cut_short_keeps_its_complete_episodes(tars: Path, tmp_path: Path, inside: str, left: int) -> None:
    broken = shutil.copytree(tars, tmp_path / "broken")
    path = next((broken / "observations" / "352").glob("*.tar"))
    with tarfile.open(path) as tar:
        cut = tar.getmember(inside).offset_data + 200
    path.write_bytes(path.read_bytes()[:cut])
    reader = AgiBotReader(broken)
    assert [(defect.key, defect.kind) for defect in reader.defects] == [
        (path.relative_to(broken).as_posix(), "truncated")
    ]
    of_task = [i for i in range(len(reader)) if reader.key(i).startswith("352/")]
    assert len(of_task) == left
    for i in of_task[:-1]:
        assert len(reader.episode(i)) == LENGTH
    with pytest.raises(BadEpisodeError, match="truncated"):
        reader.episode(of_task[-1])


def test_a_tar_replaced_while_it_is_read(tars: Path, tmp_path: Path) -> None:
    changing = shutil.copytree(tars, tmp_path / "changing")
    reader = AgiBotReader(changing)
    path = next((changing / "observations" / "327").glob("*.tar"))
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(BadEpisodeError) as error:
        reader.frames(0, "primary", np.arange(2))
    assert error.value.defect.kind == "changed"


def test_a_video_replaced_while_it_is_read(tmp_path: Path) -> None:
    write_episode(tmp_path / "a", 1, 2, LENGTH)
    reader = AgiBotReader(tmp_path / "a")
    reader.episode(0)
    videos = tmp_path / "a" / "observations" / "1" / "2" / "videos"
    shutil.copy(videos / "hand_left_color.mp4", videos / "head_color.mp4")
    with pytest.raises(BadEpisodeError) as error:
        reader.frames(0, "primary", np.arange(2))
    assert error.value.defect.kind == "changed"


def damage(root: Path, **tables: np.ndarray) -> None:
    with h5py.File(root / "proprio_stats" / "1" / "2" / "proprio_stats.h5", "a") as file:
        for path, table in tables.items():
            path = path.replace("__", "/")
            if path in file:
                del file[path]
            if table is not None:
                file[path] = table


@pytest.mark.parametrize(
    ("tables", "kind"),
    [
        ({"state__end__position": np.zeros((LENGTH - 1, 2, 3))}, "length"),
        ({"state__end__position": np.zeros((LENGTH, 6))}, "column"),
        ({"state__end__position": np.full((LENGTH, 2, 3), np.nan)}, "not_finite"),
        ({"state__end__orientation": np.zeros((LENGTH, 2, 4))}, "column"),
        ({"state__effector__position": np.full((LENGTH, 2), np.inf)}, "not_finite"),
        ({"state__end__position": np.full((LENGTH, 2, 3), b"x")}, "column"),
        ({"timestamp": np.zeros(3, dtype=np.int64)}, "length"),
    ],
)
def test_bad_tables(tmp_path: Path, tables: dict[str, np.ndarray], kind: str) -> None:
    root = tmp_path / "a"
    write_episode(root, 1, 2, LENGTH)
    damage(root, **tables)
    with pytest.raises(BadEpisodeError) as error:
        AgiBotReader(root).episode(0)
    assert error.value.defect.kind == kind
    assert error.value.defect.key == "1/2"


def test_bad_files(tmp_path: Path) -> None:
    root = tmp_path / "a"
    write_episode(root, 1, 2, LENGTH)
    video = root / "observations" / "1" / "2" / "videos" / f"{CAMERAS[1]}.mp4"
    h5 = root / "proprio_stats" / "1" / "2" / "proprio_stats.h5"
    whole = video.read_bytes(), h5.read_bytes()
    for path, content, kind in (
        (video, whole[0][: len(whole[0]) // 2], "video"),
        (video, b"", "video"),
        (h5, whole[1][: len(whole[1]) // 2], "truncated"),
        (h5, b"not an h5 file", "unreadable"),
    ):
        path.write_bytes(content)
        with pytest.raises(BadEpisodeError) as error:
            AgiBotReader(root).episode(0)
        assert error.value.defect.kind == kind, path
        video.write_bytes(whole[0])
        h5.write_bytes(whole[1])
    assert len(AgiBotReader(root).episode(0)) == LENGTH
    h5.unlink()
    with pytest.raises(BadEpisodeError, match="no h5"):
        AgiBotReader(root).episode(0)


def test_what_is_no_agibot_world(tmp_path: Path) -> None:
    assert not is_agibot(tmp_path)
    with pytest.raises(ValueError, match="observations/ and proprio_stats/"):
        AgiBotReader(tmp_path)


def test_the_gripper_rule_on_a_real_recording() -> None:
    """GE-Sim's demo: the hand reaches for a kettle, closes on it and keeps it; commands are 0 open .. 1 closed."""
    folder = SHARED / "samples" / "gesim_agibot_npy" / "assets" / "demo_000"
    if not folder.exists():
        pytest.skip("the AgiBot sample is not here")
    state, command = np.load(folder / "state_eef_poses_0.npy")[:, 13], np.load(folder / "eef_poses_0.npy")[:, 13]
    opening = 1 - state / 120
    assert opening[0] > 0.99
    assert opening[-1] < 0.02
    assert np.abs(opening - (1 - command)).mean() < 0.05
