"""What the writer puts on disk, field by field, and what is there when it does not finish."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recorded import moving_frames, write_dataset

from data_mixtures.lerobot import writer as lerobot_writer
from data_mixtures.lerobot.table import LeRobotDataset
from data_mixtures.lerobot.writer import LeRobotWriter
from data_mixtures.readers.lerobot import LeRobotReader
from data_mixtures.video import encoding
from data_mixtures.video.encoding import GOP_SIZE, VideoEncoder

LENGTHS = list(range(20, 28))
TOTAL = sum(LENGTHS)


def test_files_are_where_v3_puts_them(door_root: Path) -> None:
    files = {str(p.relative_to(door_root)) for p in door_root.rglob("*") if p.is_file() and ".cache" not in p.parts}
    assert files == {
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "data/chunk-000/file-000.parquet",
        "videos/observation.images.corner/chunk-000/file-000.mp4",
        "videos/observation.images.wrist/chunk-000/file-000.mp4",
    }


def test_info(door_root: Path) -> None:
    info = json.loads((door_root / "meta/info.json").read_text())
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": "metaworld_sawyer",
        "total_episodes": 8,
        "total_frames": TOTAL,
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 10,
        "splits": {"train": "0:8"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    assert features["action"] == {"dtype": "float32", "shape": [4], "names": None}
    assert features["language_persistent"]["dtype"] == "language"
    assert {name: features[name]["dtype"] for name in ("timestamp", "frame_index", "index", "task_index")} == {
        "timestamp": "float32",
        "frame_index": "int64",
        "index": "int64",
        "task_index": "int64",
    }
    camera = features["observation.images.wrist"]
    assert (camera["dtype"], camera["shape"]) == ("video", [32, 32, 3])
    assert camera["info"]["video.codec"] == "h264"
    with av.open(str(door_root / "videos/observation.images.wrist/chunk-000/file-000.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == camera["info"]["video.pix_fmt"] == "yuv444p"
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 10)


def test_data_columns(door_root: Path) -> None:
    table = pq.read_table(door_root / "data/chunk-000/file-000.parquet")
    assert table.schema.field("action").type == pa.list_(pa.float32(), 4)
    assert table["index"].to_pylist() == list(range(TOTAL))
    assert table["frame_index"].to_pylist() == [step for length in LENGTHS for step in range(length)]
    assert table["episode_index"].to_pylist() == [e for e, length in enumerate(LENGTHS) for _ in range(length)]
    expected = np.array([step / 10 for length in LENGTHS for step in range(length)], dtype=np.float32)
    np.testing.assert_array_equal(table["timestamp"].to_numpy(), expected)
    spoken = table["language_persistent"][5].as_py()
    assert [(row["role"], row["style"], row["timestamp"], row["content"]) for row in spoken] == [
        ("assistant", "subtask", 0.0, "reach the thing"),
        ("assistant", "subtask", 0.9, "move the thing"),
    ]
    assert table["language_persistent"][TOTAL - 1].as_py() == []


def test_tasks_are_the_pandas_index(door_root: Path) -> None:
    tasks = pd.read_parquet(door_root / "meta/tasks.parquet")
    assert tasks.index.tolist() == ["open the door", "press the button"]
    assert tasks["task_index"].tolist() == [0, 1]


def test_episode_rows(door_root: Path) -> None:
    row = pq.read_table(door_root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()[2]
    before = LENGTHS[0] + LENGTHS[1]
    expected = {
        "episode_index": 2,
        "tasks": ["open the door"],
        "length": 22,
        "dataset_from_index": before,
        "dataset_to_index": before + 22,
        "data/chunk_index": 0,
        "data/file_index": 0,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
        "videos/observation.images.corner/chunk_index": 0,
        "videos/observation.images.corner/file_index": 0,
        "videos/observation.images.corner/from_timestamp": before / 10,
        "videos/observation.images.corner/to_timestamp": (before + 22) / 10,
        "success": True,
        "seed": 2,
    }
    assert {name: row[name] for name in expected} == expected
    assert row["stats/action/count"] == [22]
    assert np.shape(row["stats/observation.images.corner/mean"]) == (3, 1, 1)


def test_stats_are_exact(door_root: Path) -> None:
    stats = json.loads((door_root / "meta/stats.json").read_text())
    actions = LeRobotDataset(door_root).column("action").astype(np.float64)
    assert stats["action"]["count"] == [TOTAL]
    for name, quantile in {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}.items():
        np.testing.assert_allclose(stats["action"][name], np.quantile(actions, quantile, axis=0))
    np.testing.assert_allclose(stats["action"]["std"], actions.std(0))
    image = {name: np.array(value).ravel() for name, value in stats["observation.images.corner"].items()}
    assert (image["min"] <= image["q01"]).all()
    assert (image["q01"] < image["q50"]).all()
    assert (image["q50"] < image["q99"]).all()
    assert (image["q99"] <= image["max"]).all()


def test_video_has_short_gops_without_b_frames(door_root: Path) -> None:
    with av.open(str(door_root / "videos/observation.images.corner/chunk-000/file-000.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert len(packets) == TOTAL
    assert all(packet.pts == packet.dts for packet in packets)
    keyframes = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert max(np.diff(keyframes)) <= GOP_SIZE
    assert set(np.cumsum([0, *LENGTHS[:-1]])) <= set(keyframes), "every episode starts at a keyframe"


def test_the_same_episodes_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_dataset(tmp_path / name, [20, 21]) for name in ("a", "b"))
    for path in (p for p in first.rglob("*") if p.is_file()):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path


def test_files_roll_over_when_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LeRobotDataset(write_dataset(tmp_path / "whole", [20, 21, 22]))
    monkeypatch.setattr(lerobot_writer, "VIDEO_FILE_BYTES", 1)
    monkeypatch.setattr(lerobot_writer, "DATA_FILE_BYTES", 1)
    split = LeRobotDataset(write_dataset(tmp_path / "split", [20, 21, 22]))
    assert len(split.data_files()) == 3
    assert len(list((tmp_path / "split/videos/observation.images.corner").rglob("*.mp4"))) == 3
    np.testing.assert_array_equal(split.column("action"), whole.column("action"))
    one, other = (LeRobotReader(tmp_path / name).episode(2) for name in ("split", "whole"))
    difference = one.frames("corner").astype(int) - other.frames("corner")
    assert np.abs(difference).mean() < 2, "the encoder's rate control starts anew in every file"
    assert one.subtasks == other.subtasks


def test_frames_decoded_as_they_are_written_give_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More frames than are read at once, as an array and as something that makes them when asked."""
    reproducible = encoding.ENCODER_OPTIONS | {"x264-params": "mbtree=0"}  # see there
    monkeypatch.setattr(encoding, "ENCODER_OPTIONS", reproducible)
    frames = moving_frames(lerobot_writer.FRAMES_AT_ONCE * 2 + 7, 32, 3)

    class Made:
        shape, dtype = frames.shape, frames.dtype

        def __len__(self) -> int:
            return len(frames)

        def __getitem__(self, rows: slice, /) -> np.ndarray:
            return frames[rows].copy()

    contents = []
    for name, given in (("array", frames), ("made", Made())):
        with LeRobotWriter(tmp_path / name, 10, "metaworld_sawyer", {"corner": (32, 32)}, {"action": 4}) as writer:
            writer.add_episode({"corner": given}, {"action": np.zeros((len(frames), 4), np.float32)}, "task")
        video = tmp_path / name / "videos/observation.images.corner/chunk-000/file-000.mp4"
        with VideoEncoder(tmp_path / f"{name}.mp4", 32, 32, 10, "yuv444p") as encoder:
            encoder.append(frames)
        contents += [video.read_bytes(), (tmp_path / f"{name}.mp4").read_bytes()]
    assert len(set(contents)) == 1, "written in blocks or at once, it is the same video"


def test_a_killed_writer_leaves_nothing_half_made(tmp_path: Path) -> None:
    root = tmp_path / "data"
    program = f"""
        import numpy as np, sys, time
        from data_mixtures.lerobot.writer import LeRobotWriter
        writer = LeRobotWriter({str(root)!r}, 10, "metaworld_sawyer", {{"corner": (32, 32)}}, {{"action": 4}})
        frames, actions = np.zeros((20, 32, 32, 3), np.uint8), np.zeros((20, 4), np.float32)
        writer.add_episode({{"corner": frames}}, {{"action": actions}}, "task")
        sys.stdout.write("ready\\n"); sys.stdout.flush()
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.kill(process.pid, signal.SIGKILL)
    assert not root.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".data.partial"]
    write_dataset(root, [20])
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_error_inside_the_block_throws_the_work_away(tmp_path: Path) -> None:
    def record() -> None:
        with LeRobotWriter(tmp_path / "data", 10, "metaworld_sawyer", {}, {"action": 4}) as writer:
            writer.add_episode({}, {"action": np.zeros((5, 4), np.float32)}, "task")
            raise RuntimeError("the simulator died")

    with pytest.raises(RuntimeError, match="simulator"):
        record()
    assert list(tmp_path.iterdir()) == []


GOOD: dict[str, Any] = {
    "frames": {"corner": np.zeros((5, 32, 32, 3), np.uint8)},
    "columns": {"action": np.zeros((5, 4), np.float32)},
    "task": "t",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": {}}, r"frames has \[\], the data set was opened with \['corner'\]"),
        ({"frames": {"corner": np.zeros((4, 32, 32, 3), np.uint8)}}, r"frames\['corner'\] is uint8 \(4, 32, 32, 3\)"),
        ({"columns": {"action": np.zeros((5, 3), np.float32)}}, r"columns\['action'\] is float32 \(5, 3\)"),
        ({"columns": {"action": np.zeros((5, 4))}}, r"columns\['action'\] is float64"),
        ({"columns": {"action": np.full((5, 4), np.nan, np.float32)}}, "not finite at frame 0"),
        ({"subtasks": [(3, "b"), (1, "a")]}, r"subtasks start at \[3, 1\]"),
        ({"info": {"length": 3}}, r"info has \['length'\]"),
    ],
)
def test_bad_episodes_are_refused_by_name(tmp_path: Path, change: dict, message: str) -> None:
    writer = LeRobotWriter(tmp_path / "data", 10, "metaworld_sawyer", {"corner": (32, 32)}, {"action": 4})
    with pytest.raises(ValueError, match=message):
        writer.add_episode(**(GOOD | change))
    writer.abort()


def test_odd_sizes_and_taken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cameras\['corner'\] is 33 x 32: H.264 needs even sizes"):
        LeRobotWriter(tmp_path / "odd", 10, "x", {"corner": (33, 32)}, {})
    with pytest.raises(ValueError, match="exists already"):
        LeRobotWriter(tmp_path, 10, "x", {}, {})
