"""Tables and frames read back as written, and data sets that are not what they should be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from recorded import SUBTASKS, moving_frames, numerics

from data_mixtures.config import DatasetConfig
from data_mixtures.defects import BadEpisodeError
from data_mixtures.lerobot.table import LeRobotDataset
from data_mixtures.readers.lerobot import LeRobotReader
from data_mixtures.storage.dataset import Dataset, open_dataset
from data_mixtures.storage.frames import DecodedFrames, OriginalFrames, fit_square
from data_mixtures.video.encoding import VideoEncoder


def copy_of(root: Path, folder: Path) -> Path:
    return shutil.copytree(root, folder / "copy", ignore=shutil.ignore_patterns(".cache"))


def test_numerics_come_back_exactly(door_root: Path) -> None:
    dataset = LeRobotDataset(door_root)
    for episode in range(8):
        rows = slice(dataset.episodes.dataset_from_index[episode], dataset.episodes.dataset_to_index[episode])
        for name, written in numerics(20 + episode, 100 * episode).items():
            np.testing.assert_array_equal(dataset.column(name)[rows], written)


def opened(root: Path, decoded_gib: float = 1.0) -> Dataset:
    return open_dataset(DatasetConfig(str(root)), ["corner", "wrist"], 32, decoded_gib)


def test_pixels_come_back_within_the_codecs_loss(door_root: Path) -> None:
    written = np.concatenate([moving_frames(20 + episode, 32, 100 * episode + 1) for episode in range(8)])
    read = opened(door_root).frames.images("wrist", np.arange(len(written)), 32)
    error = np.abs(read.transpose(0, 2, 3, 1).astype(int) - written)
    assert error.mean() < 3
    shifted = np.abs(read[1:].transpose(0, 2, 3, 1).astype(int) - written[:-1])
    assert error.mean() < shifted.mean() / 2, "the frames are in the wrong places"


def test_frames_decoded_once_are_those_decoded_as_asked(door_root: Path) -> None:
    once, asked = opened(door_root), opened(door_root, decoded_gib=0.0)
    assert isinstance(once.frames, DecodedFrames)
    assert isinstance(asked.frames, OriginalFrames)
    rows = np.random.default_rng(0).integers(0, once.index.num_rows, 60)
    np.testing.assert_array_equal(once.frames.images("corner", rows, 32), asked.frames.images("corner", rows, 32))


def test_episode(door_root: Path) -> None:
    episode = LeRobotReader(door_root).episode(3)
    raw = numerics(23, 300)
    assert len(episode) == 23
    assert (episode.instruction, episode.robot_type, episode.fps) == ("press the button", "metaworld_sawyer", 10)
    assert {name: episode.info[name] for name in ("success", "seed")} == {"success": False, "seed": 3}
    assert episode.subtasks == SUBTASKS
    assert [episode.subtask_at(frame) for frame in (0, 8, 9, 22)] == [SUBTASKS[0][1]] * 2 + [SUBTASKS[1][1]] * 2
    np.testing.assert_array_equal(episode.numerics.state[:, [0, 1, 2, 7]], raw["observation.state"])
    assert np.flatnonzero(episode.numerics.state_mask.all(0)).tolist() == [0, 1, 2, 7]
    assert np.flatnonzero(episode.numerics.action_mask.all(0)).tolist() == [0, 1, 2, 6]
    assert episode.frames("wrist").shape == (23, 32, 32, 3)


def test_frames_are_decoded_once(door_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(door_root).frames.images("corner", np.arange(30), 32)
    monkeypatch.setattr(LeRobotReader, "frames", None)
    np.testing.assert_array_equal(opened(door_root).frames.images("corner", np.arange(30), 32), first)


def test_new_content_is_decoded_anew(door_root: Path, tmp_path: Path) -> None:
    root = copy_of(door_root, tmp_path)
    before = LeRobotDataset(root).fingerprint
    assert before == LeRobotDataset(door_root).fingerprint
    stats = root / "meta/stats.json"
    stats.write_text(stats.read_text() + " ")
    assert LeRobotDataset(root).fingerprint != before


def test_fit_square_keeps_the_aspect() -> None:
    wide = np.full((2, 24, 48, 3), 200, np.uint8)
    square = fit_square(wide, 32)
    assert square.shape == (2, 3, 32, 32)
    assert (square[:, :, :8] == 0).all()
    assert (square[:, :, 24:] == 0).all()
    assert (square[:, :, 8:24] == 200).all()


def test_lists_of_any_kind_and_float64_are_read(door_root: Path, tmp_path: Path) -> None:
    root = copy_of(door_root, tmp_path)
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("action")
    lists = [row.as_py() for row in table["action"]]
    pq.write_table(table.set_column(place, "action", [lists]), path)  # variable lists of float64
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["action"]["dtype"] = "float64"
    (root / "meta/info.json").write_text(json.dumps(info))
    actions = LeRobotDataset(root).column("action")
    assert actions.dtype == np.float32
    np.testing.assert_array_equal(actions, LeRobotDataset(door_root).column("action"))


def test_missing_folder_and_other_versions_are_named(door_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no data set at .*nothing.*meta/info.json does not exist"):
        LeRobotDataset(tmp_path / "nothing")
    root = copy_of(door_root, tmp_path)
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v2.1"}))
    with pytest.raises(ValueError, match="codebase_version is 'v2.1', this reader takes 'v3.0'"):
        LeRobotDataset(root)
    (root / "meta/info.json").write_text(json.dumps(info | {"total_frames": 5}))
    with pytest.raises(ValueError, match="info.json says 5: the copy is incomplete"):
        LeRobotDataset(root)


def test_a_video_with_too_few_frames_costs_its_episodes_only(door_root: Path, tmp_path: Path) -> None:
    root = copy_of(door_root, tmp_path)
    pixels = LeRobotReader(door_root).episode(0).frames("corner")
    path = root / "videos/observation.images.corner/chunk-000/file-000.mp4"
    path.unlink()
    with VideoEncoder(path, 32, 32, 10, "yuv444p") as encoder:
        encoder.append(pixels)
    index = opened(root).index
    assert index.source_episode.tolist() == [0]
    assert [(d.key, d.kind) for d in index.quarantined] == [(f"episode_{e:06d}", "video") for e in range(1, 8)]
    with pytest.raises(BadEpisodeError, match="episode_000001"):
        LeRobotReader(root).episode(1)


def test_unknown_columns_and_cameras_are_named(door_root: Path) -> None:
    with pytest.raises(ValueError, match="no numeric column 'torque'"):
        LeRobotDataset(door_root).column("torque")
    with pytest.raises(ValueError, match=r"camera 'top' does not exist .* it has \['corner', 'wrist'\]"):
        LeRobotReader(door_root).episode(0).frames("top")
