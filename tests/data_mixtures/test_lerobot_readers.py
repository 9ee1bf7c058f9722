"""LeRobot v2.0, v2.1 and v3.0 as published, and all that can be wrong with them."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lerobot_v2_files as v2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recorded import SUBTASKS, TASKS, numerics, write_dataset
from scipy.spatial.transform import Rotation as ScipyRotation

from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers.lerobot import LeRobotReader, is_lerobot
from data_mixtures.spaces.arm_columns import Gripper, Position, Rotation
from data_mixtures.spaces.embodiments import LIBERO, METAWORLD_SAWYER, Arm, ArmAction, Embodiment
from data_mixtures.video.files import video_frames

SHARED = Path(__file__).parents[2].parent / "shared"
GR00T = SHARED / "samples/gr00t_pnp_lerobot_v2/demo_data/robot_sim.PickNPlace"
LENGTHS = [30, 17, 23]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return v2.write_v2(tmp_path_factory.mktemp("v2") / "plain", LENGTHS)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A small set of its own, to be damaged."""
    return v2.write_v2(tmp_path / "broken", [9, 8])


def expected_libero(length: int, episode: int) -> tuple[np.ndarray, np.ndarray]:
    """State [T, 8] and actions [T - 1, 6] of what `raw_numerics` wrote, by scipy."""
    raw = v2.raw_numerics(length, episode)["observation.state"]
    turns = ScipyRotation.from_rotvec(raw[:, 3:6])
    quaternions = turns.as_quat(canonical=True)
    state = np.concatenate([raw[:, :3], quaternions, raw[:, 6:7] / 0.04], axis=1)
    changes = (turns[1:] * turns[:-1].inv()).as_euler("xyz")
    return state, np.concatenate([np.diff(raw[:, :3], axis=0), changes], axis=1)


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("v2.0", {}),
        ("v2.1", {"fixed_size_lists": True}),
        ("v2.1", {"float32": True}),
        ("v2.0", {"float32": True, "fixed_size_lists": True, "image_dtype": True}),
    ],
)
def test_v2_numerics_and_texts(tmp_path: Path, version: str, options: dict[str, Any]) -> None:
    root = v2.write_v2(tmp_path / "set", [12, 7], version, **options)
    assert is_lerobot(root)
    reader = LeRobotReader(root)
    assert (len(reader), reader.robot_type, list(reader.cameras)) == (2, "libero", ["front"])
    assert reader.warnings == []
    for index, length in enumerate([12, 7]):
        episode = reader.episode(index)
        state, changes = expected_libero(length, index)
        assert (episode.key, len(episode), episode.fps) == (f"episode_{index:06d}", length, 20)
        assert episode.instruction == v2.TASKS[2 * index]
        np.testing.assert_allclose(episode.numerics.state[:, :8], state, atol=2e-7)
        np.testing.assert_allclose(episode.numerics.actions[:-1, :6], changes, atol=2e-7)
        command = v2.raw_numerics(length, index)["action"][:, 6]
        np.testing.assert_allclose(episode.numerics.actions[:, 6], (1 - command) / 2, atol=1e-7)
        assert episode.numerics.state_mask.sum(axis=1).tolist() == [8] * length
        assert episode.numerics.action_mask.sum(axis=1).tolist() == [7] * (length - 1) + [1]


def test_random_frames_are_those_of_a_sequential_decode(plain: Path) -> None:
    reader, rng = LeRobotReader(plain), np.random.default_rng(0)
    for index in (0, 1, 2, 0):
        every = v2.decoded(v2.video_path(plain, index))
        assert len(every) == LENGTHS[index]
        for _ in range(12):
            numbers = rng.integers(0, len(every), rng.integers(1, 9))
            np.testing.assert_array_equal(reader.frames(index, "front", numbers), every[numbers])
    np.testing.assert_array_equal(reader.episode(1).frames("front"), v2.decoded(v2.video_path(plain, 1)))
    assert reader.frames(0, "front", np.array([], dtype=np.int64)).shape == (0, 32, 32, 3)


def test_stored_images_come_back_exactly(tmp_path: Path) -> None:
    root = v2.write_v2(tmp_path / "set", [6, 5], image_dtype=True, cameras=("front", "side"))
    reader = LeRobotReader(root)
    for number, camera in enumerate(("front", "side")):
        wanted = np.array([4, 0, 4, 2])
        got = reader.frames(1, camera, wanted)
        np.testing.assert_array_equal(got, v2.moving_frames(5, 32, 100 + number)[wanted])


def test_gr00t_slices_and_annotations(tmp_path: Path) -> None:
    root = v2.write_v2(tmp_path / "set", [12, 9], gr00t=True, robot_type="GR1ArmsOnly")
    arm = Arm(
        position=Position(slice="eef_position"),
        rotation=Rotation("axis_angle", slice="eef_rotation"),
        gripper=Gripper(open=0.04, closed=0.0, slice="gripper"),
        action=ArmAction(gripper=Gripper(open=-1.0, closed=1.0, slice="gripper")),
    )
    episode = LeRobotReader(root, Embodiment(left=arm)).episode(0)
    plain = LeRobotReader(root, replace(LIBERO, fps=None)).episode(0)
    for name in ("state", "state_mask", "actions", "action_mask"):
        np.testing.assert_array_equal(getattr(episode.numerics, name), getattr(plain.numerics, name))
    assert episode.robot_type == "GR1ArmsOnly"
    assert episode.instruction == v2.TASKS[0]
    assert episode.subtasks == [(0, v2.TASKS[0]), (6, v2.TASKS[2])]  # "valid" is a task's text, and no sub-task
    with pytest.raises(
        ValueError, match=r"slice 'wrist' is not in meta/modality.json, whose state slices are \['eef_p"
    ):
        LeRobotReader(root, Embodiment(left=replace(arm, position=Position(slice="wrist"))))


def test_v3_reads_as_it_was_written(door_root: Path) -> None:
    reader = LeRobotReader(door_root)
    assert (reader.version, len(reader), reader.warnings, list(reader.cameras)) == ("v3.0", 8, [], ["corner", "wrist"])
    for index in (7, 0, 3):
        raw, length = numerics(20 + index, 100 * index), 20 + index
        episode = reader.episode(index)
        assert (len(episode), episode.instruction) == (length, TASKS[index % 2])
        assert episode.subtasks == (SUBTASKS if index < 7 else [])
        assert episode.info == {"success": index % 2 == 0, "seed": index}
        np.testing.assert_array_equal(episode.numerics.state[:, [0, 1, 2, 7]], raw["observation.state"])
        np.testing.assert_array_equal(episode.numerics.actions, METAWORLD_SAWYER.to_unified_action(raw["action"]))
        assert episode.numerics.action_mask.sum(axis=1).tolist() == [4] * length
        path = door_root / "videos/observation.images.wrist/chunk-000/file-000.mp4"
        first = sum(range(20, 20 + index))
        np.testing.assert_array_equal(episode.frames("wrist"), v2.decoded(path)[first : first + length])
    with pytest.raises(ValueError, match=r"camera 'top' does not exist .* it has \['corner', 'wrist'\]"):
        reader.frames(0, "top", np.array([0]))


def test_v3_rows_are_found_by_their_number(door_root: Path, tmp_path: Path) -> None:
    """Episodes may lie in any order in a file, as after an edit: their rows say whose they are."""
    root = write_dataset(tmp_path / "set", [10, 11, 12])
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table.slice(21), table.slice(0, 21)]), path, row_group_size=4)
    reader = LeRobotReader(root)
    for index, length in enumerate([10, 11, 12]):
        expected = numerics(length, 100 * index)["observation.state"]
        np.testing.assert_array_equal(reader.episode(index).numerics.state[:, :3], expected[:, :3])


def test_video_only_masks_everything_and_needs_no_description(tmp_path: Path) -> None:
    root = v2.write_v2(tmp_path / "set", [6], robot_type="hexapod")
    with pytest.raises(ValueError, match="robot_type 'hexapod' has no unified mapping; known: .*embodiment:"):
        LeRobotReader(root)
    episode = LeRobotReader(root, video_only=True).episode(0)
    assert (len(episode), episode.robot_type, episode.instruction) == (6, "hexapod", v2.TASKS[0])
    assert not episode.numerics.state_mask.any()
    assert not episode.numerics.action_mask.any()
    assert episode.frames("front", np.array([5])).shape == (1, 32, 32, 3)


def test_an_info_json_that_lies_is_not_believed(tmp_path: Path) -> None:
    root = v2.write_v2(tmp_path / "set", LENGTHS)
    info = json.loads((root / "meta/info.json").read_text())
    features = info["features"]
    features["observation.images.front"]["shape"] = [800, 1280, 3]
    features["observation.images.egoview"] = features["observation.images.front"]
    wrong_path = "data/chunk-{episode_index:03d}/episode_{episode_index:06d}.parquet"
    v2.edit_info(root, fps=50, total_frames=5, total_episodes=9, features=features, data_path=wrong_path)
    truth, reader = v2.write_v2(tmp_path / "truth", LENGTHS), LeRobotReader(root)
    for index in range(3):
        episode, expected = reader.episode(index), LeRobotReader(truth).episode(index)
        assert (len(episode), reader.fps) == (LENGTHS[index], 20)
        np.testing.assert_array_equal(episode.numerics.state, expected.numerics.state)
        np.testing.assert_array_equal(episode.frames("front"), expected.frames("front"))
    assert list(reader.cameras) == ["front"]
    for part in (
        "total_frames is 5, episodes.jsonl has 70",
        "total_episodes is 9, episodes.jsonl has 3",
        "fps 50, the rows' time stamps 20",
        r"'observation.images.egoview', which has no videos",
        "front is [800, 1280, 3], it is 32 x 32",
        "data_path 'data/chunk-{episode_index:03d}",
    ):
        assert any(part in warning for warning in reader.warnings), (part, reader.warnings)


def _cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def _with_nan(root: Path) -> None:
    values = v2.raw_numerics(9, 0)["observation.state"]
    values[4, 2] = np.nan
    v2.edit_column(v2.data_path(root, 0), "observation.state", [values.tolist()])


def _with_ragged_lists(root: Path) -> None:
    values = v2.raw_numerics(9, 0)["observation.state"].tolist()
    values[3] = values[3][:5]
    v2.edit_column(v2.data_path(root, 0), "observation.state", [values])


def _narrow(root: Path) -> None:
    v2.edit_column(v2.data_path(root, 0), "observation.state", [[[0.0, 0.0]] * 9])


def _misnamed(root: Path) -> None:
    values = v2.raw_numerics(9, 0)["observation.state"].tolist()
    v2.edit_column(v2.data_path(root, 0), "observation.state", [values], "observation.states")


def _short_video(root: Path) -> None:
    v2.write_video(v2.video_path(root, 0), v2.moving_frames(6, 32, 0))


def _empty(root: Path) -> None:
    path = v2.data_path(root, 0)
    pq.write_table(pq.read_table(path).slice(0, 0), path)


def _missing_row(root: Path) -> None:
    path = v2.data_path(root, 0)
    pq.write_table(pq.read_table(path).slice(1), path)


@pytest.mark.parametrize(
    ("damage", "kind", "detail"),
    [
        (_with_nan, "not_finite", r"state\[4, 2\]"),
        (_with_ragged_lists, "column", "lists are 5 to 8 long"),
        (_narrow, "column", r"'observation.state' is \[9, 2\], but its place 2"),
        (_misnamed, "column", "'observation.state' is missing; did you mean 'observation.states'"),
        (lambda root: v2.edit_column(v2.data_path(root, 0), "action", None), "column", "'action' is missing"),
        (_short_video, "video", "holds 6 frames, 9 are needed"),
        (_empty, "empty", "no rows"),
        (_missing_row, "length", "8 rows, the metadata says 9"),
        (lambda root: _cut(v2.video_path(root, 0), 0.8), "video", "does not open"),  # its index is at the end
        (lambda root: v2.video_path(root, 0).unlink(), "unreadable", "No such file"),
        (lambda root: v2.video_path(root, 0).write_bytes(b""), "video", "does not open"),
        (lambda root: v2.data_path(root, 0).unlink(), "unreadable", "No such file"),
        (lambda root: _cut(v2.data_path(root, 0), 0.7), "truncated", "cannot be read"),
        (lambda root: v2.data_path(root, 0).write_bytes(b"hello"), "unreadable", "cannot be read"),
    ],
)
def test_damage_is_named_and_concerns_one_episode(
    broken: Path, damage: Callable[[Path], None], kind: str, detail: str
) -> None:
    damage(broken)
    reader = LeRobotReader(broken)
    with pytest.raises(BadEpisodeError, match=detail) as caught:
        reader.episode(0)
    assert (caught.value.defect.key, caught.value.defect.kind) == ("episode_000000", kind)
    assert len(reader.episode(1)) == 8


def test_files_replaced_in_mid_run_are_noticed(broken: Path) -> None:
    reader = LeRobotReader(broken)
    reader.frames(0, "front", np.array([0]))
    reader.episode(1)
    _short_video(broken)
    with pytest.raises(BadEpisodeError, match=r"not the file that was opened.*\(changed\)"):
        reader.frames(0, "front", np.array([1]))
    os.utime(v2.data_path(broken, 1), ns=(1, 1))
    with pytest.raises(BadEpisodeError, match=r"\(changed\)"):
        reader.episode(1)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("info.json", "{", "info.json cannot be read: .*fetch the data set again"),
        ("info.json", "[]", "holds a list"),
        ("info.json", '{"codebase_version": "v1.6"}', r"codebase_version is 'v1.6', known are \['v2.0', 'v2.1', 'v3.0"),
        ("info.json", '{"codebase_version": "v2.1", "fps": 20}', "features is null"),
        ("info.json", '{"codebase_version": "v2.1", "fps": "x", "features": {}}', "fps is 'x'"),
        ("episodes.jsonl", '{"episode_index": 0}\n', "line 1: length is None"),
        ("episodes.jsonl", "", "names no episode"),
        ("episodes.jsonl", '{"episode_index": 0, "length": 9}\n{"epis', "line 2"),
        ("tasks.jsonl", "3\n", "line 1 holds no object"),
    ],
)
def test_metadata_that_cannot_be_read_stops_the_opening(broken: Path, file: str, content: str, message: str) -> None:
    (broken / "meta" / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        LeRobotReader(broken)


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    assert not is_lerobot(tmp_path)
    with pytest.raises(ValueError, match=r"no data set at .*meta/info.json does not exist"):
        LeRobotReader(tmp_path)


def test_readers_and_episodes_cross_process_borders(plain: Path, door_root: Path) -> None:
    for root in (plain, door_root):
        reader = LeRobotReader(root)
        episode = reader.episode(1)
        again, copy = pickle.loads(pickle.dumps((reader, episode)))
        np.testing.assert_array_equal(again.episode(1).numerics.state, episode.numerics.state)
        camera = reader.cameras[0]
        np.testing.assert_array_equal(copy.frames(camera, np.array([3])), reader.frames(1, camera, np.array([3])))


def test_the_fingerprint_is_of_content_and_reading(broken: Path) -> None:
    before = LeRobotReader(broken).fingerprint
    assert len(before) == 16
    assert LeRobotReader(broken).fingerprint == before
    assert LeRobotReader(broken, video_only=True).fingerprint != before
    _short_video(broken)
    assert LeRobotReader(broken).fingerprint != before


def _v2_with_images(root: Path) -> Path:
    return v2.write_v2(root, [6], image_dtype=True)


def _v3(root: Path) -> Path:
    return write_dataset(root, [10, 11])


@pytest.mark.parametrize(("write", "trials"), [(_v2_with_images, 90), (_v3, 90)])
def test_random_damage_gives_right_data_or_a_named_error(
    tmp_path: Path, write: Callable[[Path], Path], trials: int
) -> None:
    root, rng = write(tmp_path / "set"), np.random.default_rng(1)
    whole = LeRobotReader(root).episode(0).numerics
    files = sorted(path for path in root.rglob("*") if path.is_file())
    outcomes = set()
    for trial in range(trials):
        path = files[trial % len(files)]
        content = path.read_bytes()
        path.write_bytes(_damaged(content, rng))
        try:
            episode = LeRobotReader(root).episode(0)
            pictures = episode.frames(episode.cameras[0])
            outcomes.add(pictures.shape)
            if write is _v3 and path.parts[-3] == "data":  # its pages carry checksums
                np.testing.assert_array_equal(episode.numerics.state, whole.state)
                np.testing.assert_array_equal(episode.numerics.actions, whole.actions)
        except (BadEpisodeError, ValueError) as error:
            outcomes.add(type(error))
        path.write_bytes(content)
    assert {BadEpisodeError, ValueError} <= outcomes


def test_damaged_videos_are_refused_or_still_of_their_shape(tmp_path: Path) -> None:
    path, rng = tmp_path / "clip.mp4", np.random.default_rng(2)
    v2.write_video(path, v2.moving_frames(14, 32, 0))
    content, refused = path.read_bytes(), 0
    for _ in range(60):
        path.write_bytes(_damaged(content, rng))
        try:
            assert video_frames(path, "clip", np.arange(14)).shape[0] == 14
        except BadEpisodeError:
            refused += 1
    assert refused > 20


def _damaged(content: bytes, rng: np.random.Generator) -> bytes:
    place, length = int(rng.integers(len(content))), int(rng.integers(1, 9))
    noise = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
    kind = rng.integers(3)
    if kind == 0:
        return content[:place]
    return content[:place] + noise + content[place + (length if kind == 1 else 0) :]


@pytest.mark.skipif(not GR00T.exists(), reason=f"{GR00T} is not on this machine")
def test_the_gr00t_sample() -> None:
    """GOP 250 with B-frames; its info.json names a camera that is not there, and a chunk an episode."""
    reader = LeRobotReader(GR00T, video_only=True)
    lengths = []
    for index in range(len(reader)):
        episode = reader.episode(index)
        lengths.append(len(episode))
        assert episode.instruction.startswith("pick the ")
        assert episode.subtasks == []
    assert (lengths, list(reader.cameras), reader.fps) == ([416, 470, 470, 412, 328], ["ego_view"], 20)
    assert any("egoview" in warning for warning in reader.warnings)
    assert any("data_path" in warning for warning in reader.warnings)
    every = v2.decoded(GR00T / "videos/chunk-000/observation.images.ego_view/episode_000004.mp4")
    numbers = np.array([0, 327, 249, 250, 251, 1, 100, 260])
    np.testing.assert_array_equal(reader.frames(4, "ego_view", numbers), every[numbers])
    for number in (255, 3, 248, 326):
        np.testing.assert_array_equal(reader.frames(4, "ego_view", np.array([number]))[0], every[number])
