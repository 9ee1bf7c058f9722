"""Writes a LeRobot v3.0 data set that appears whole or not at all."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_mixtures.lerobot import layout
from data_mixtures.lerobot.parquet_columns import column_of, column_values
from data_mixtures.statistics.feature_stats import Stats, image_stats, numeric_stats, pixel_histogram
from data_mixtures.video.encoding import PixelFormat, VideoEncoder

DATA_FILE_BYTES = 100 * 2**20
VIDEO_FILE_BYTES = 200 * 2**20
FRAMES_AT_ONCE = 64  # of one camera in memory; even, so that it starts where a keyframe is due anyway
Scalar = str | int | float | bool

_LANGUAGE_TYPE = pa.list_(
    pa.struct(
        [("role", pa.string()), ("content", pa.string()), ("style", pa.string()), ("timestamp", pa.float64())]
        + [("camera", pa.string())]
    )
)


class Frames(Protocol):
    """What an array uint8 [T, H, W, 3] is to the writer, so that frames can also be decoded as they are written."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, 3)."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """uint8."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


class LeRobotWriter:
    """Records episodes into `root`, which appears when `finish` returns; until then all work lies beside it.

    Args:
        root: the data set's folder; must not exist yet.
        fps: frames (and actions) a second.
        robot_type: the embodiment's name, as in `data_mixtures.spaces.embodiments`.
        cameras: camera name -> (height, width) in pixels, both even; stored as `observation.images.<name>`.
        features: numeric column -> number of float32 values a frame.
        pixel_format: of the videos; "yuv420p" halves the colour resolution, for players that need it.
        names: what to call the dimensions of a numeric column, in info.json.
    """

    def __init__(
        self,
        root: Path | str,
        fps: float,
        robot_type: str,
        cameras: Mapping[str, tuple[int, int]],
        features: Mapping[str, int],
        pixel_format: PixelFormat = "yuv444p",
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.root = Path(root)
        if self.root.exists():
            raise ValueError(f"root {self.root} exists already: delete it or name another folder")
        _check_sizes(cameras)
        self.fps = int(fps) if float(fps).is_integer() else float(fps)
        self.robot_type, self.cameras, self.features = robot_type, dict(cameras), dict(features)
        self.pixel_format: PixelFormat = pixel_format
        self.names = {name: list(dimensions) for name, dimensions in (names or {}).items()}
        self._aside = self.root.with_name(f".{self.root.name}.partial")
        shutil.rmtree(self._aside, ignore_errors=True)  # what a killed writer left
        self._aside.mkdir(parents=True)
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._num_frames = 0
        self._histograms = {name: np.zeros((3, 256), dtype=np.int64) for name in self.cameras}
        self._video: dict[str, VideoEncoder] = {}
        self._video_number = dict.fromkeys(self.cameras, -1)
        self._data: pq.ParquetWriter | None = None
        self._data_number, self._data_bytes = -1, 0

    def add_episode(
        self,
        frames: Mapping[str, Frames],
        columns: Mapping[str, np.ndarray],
        task: str,
        subtasks: Sequence[tuple[int, str]] = (),
        info: Mapping[str, Scalar] | None = None,
    ) -> None:
        """Append one episode of T frames. Should decoding its frames fail, the episode is not in the data set.

        Args:
            frames: camera name -> uint8 [T, H, W, 3], RGB; read block by block.
            columns: every feature -> float32 [T, dim]; row t is what was seen, and done, at frame t.
            task: the instruction.
            subtasks: (first frame, text) in rising order; each holds until the next one starts.
            info: further scalars kept per episode (success, seed, ...), read back as `episodes.info`.
        """
        length = self._check(frames, columns, subtasks, info or {})
        row: dict[str, Any] = {"episode_index": len(self._episodes), "tasks": [task], "length": length}
        row |= {"dataset_from_index": self._num_frames, "dataset_to_index": self._num_frames + length}
        histograms = {}
        for name in self.cameras:  # before the rows: frames that belong to none are only dead weight in a video
            place, histograms[name] = self._append_video(name, frames[name])
            row |= place
        task_index = self._tasks.setdefault(task, len(self._tasks))
        table = self._frame_table(columns, length, task_index, subtasks)
        row |= self._append_rows(table)
        for key, stats in self._episode_stats(histograms, table).items():
            row |= {f"stats/{key}/{name}": value for name, value in stats.items()}
        self._episodes.append(row | dict(info or {}))
        self._num_frames += length

    def finish(self, beside: Mapping[str, str] | None = None) -> Path:
        """Write the metadata, and files `beside` it (name -> text), move the folder into place, and return it."""
        if not self._episodes:
            raise ValueError(f"no episode was added to {self.root}: call add_episode before finish")
        for encoder in self._video.values():
            encoder.close()
        if self._data is not None:
            self._data.close()
        self._write_metadata()
        for name, text in (beside or {}).items():
            (self._aside / name).write_text(text)
        os.replace(self._aside, self.root)
        return self.root

    def abort(self) -> None:
        """Throw away everything recorded so far."""
        self._video.clear()
        shutil.rmtree(self._aside, ignore_errors=True)

    def __enter__(self) -> "LeRobotWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.abort()

    def _check(
        self,
        frames: Mapping[str, Frames],
        columns: Mapping[str, np.ndarray],
        subtasks: Sequence[tuple[int, str]],
        info: Mapping[str, Scalar],
    ) -> int:
        for field, got, expected in (("frames", frames, self.cameras), ("columns", columns, self.features)):
            if set(got) != set(expected):
                raise ValueError(f"{field} has {sorted(got)}, the data set was opened with {sorted(expected)}")
        length = len(next(iter([*columns.values(), *frames.values()])))
        if length == 0:
            raise ValueError("columns hold 0 frames: an episode needs at least one")
        for name, array in columns.items():
            _check_array(f"columns[{name!r}]", array, np.float32, (length, self.features[name]))
        for name, array in frames.items():
            _check_shape(f"frames[{name!r}]", array, np.uint8, (length, *self.cameras[name], 3))
        starts = [start for start, _ in subtasks]
        if starts != sorted(set(starts)) or any(not 0 <= start < length for start in starts):
            raise ValueError(f"subtasks start at {starts}: starts must rise and lie in 0..{length - 1}")
        if taken := [name for name in info if name in layout.EPISODE_COLUMNS or "/" in name]:
            raise ValueError(f"info has {taken}, names the format uses itself: rename them")
        return length

    def _frame_table(
        self, columns: Mapping[str, np.ndarray], length: int, task_index: int, subtasks: Sequence[tuple[int, str]]
    ) -> pa.Table:
        arrays = {name: column_of(columns[name]) for name in self.features}
        arrays["timestamp"] = pa.array((np.arange(length) / self.fps).astype(np.float32))
        arrays["frame_index"] = pa.array(np.arange(length))
        arrays["episode_index"] = pa.array(np.full(length, len(self._episodes)))
        arrays["index"] = pa.array(np.arange(self._num_frames, self._num_frames + length))
        arrays["task_index"] = pa.array(np.full(length, task_index))
        spoken = [
            {
                "role": "assistant",
                "content": text,
                "style": layout.SUBTASK_STYLE,
                "timestamp": start / self.fps,
                "camera": None,
            }
            for start, text in subtasks
        ]
        arrays[layout.LANGUAGE_COLUMN] = pa.array([spoken] * length, type=_LANGUAGE_TYPE)
        return pa.table(arrays)

    def _append_rows(self, table: pa.Table) -> dict[str, int]:
        if self._data is None or self._data_bytes + table.nbytes > DATA_FILE_BYTES:
            if self._data is not None:
                self._data.close()
            self._data_number, self._data_bytes = self._data_number + 1, 0
            path = self._aside / layout.DATA_PATH.format(**layout.chunk_and_file(self._data_number))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._data = pq.ParquetWriter(path, table.schema, write_page_checksum=True)
        self._data.write_table(table)
        self._data_bytes += table.nbytes
        return {f"data/{name}": value for name, value in layout.chunk_and_file(self._data_number).items()}

    def _append_video(self, name: str, frames: Frames) -> tuple[dict[str, Any], np.ndarray]:
        """Where the frames are now, and the histogram of their pixels."""
        key = layout.CAMERA_PREFIX + name
        encoder = self._video.get(name)
        if encoder is None or encoder.num_bytes > VIDEO_FILE_BYTES:
            if encoder is not None:
                encoder.close()
            self._video_number[name] += 1
            place = layout.chunk_and_file(self._video_number[name])
            path = self._aside / layout.VIDEO_PATH.format(video_key=key, **place)
            encoder = self._video[name] = VideoEncoder(path, *self.cameras[name], self.fps, self.pixel_format)
        start = encoder.num_frames
        histogram = np.zeros((3, 256), dtype=np.int64)
        for first in range(0, len(frames), FRAMES_AT_ONCE):
            block = frames[first : first + FRAMES_AT_ONCE]
            encoder.append(block)
            histogram += pixel_histogram(block)
        span = {"from_timestamp": start / self.fps, "to_timestamp": encoder.num_frames / self.fps}
        place = layout.chunk_and_file(self._video_number[name]) | span
        return {f"videos/{key}/{field}": value for field, value in place.items()}, histogram

    def _episode_stats(self, histograms: Mapping[str, np.ndarray], table: pa.Table) -> dict[str, Stats]:
        stats = {name: numeric_stats(column_values(table[name])) for name in self._numeric_columns()}
        for name, histogram in histograms.items():
            self._histograms[name] += histogram
            stats[layout.CAMERA_PREFIX + name] = image_stats(histogram, len(table))
        return stats

    def _numeric_columns(self) -> list[str]:
        return [*self.features, *layout.INDEX_COLUMNS]

    def _write_metadata(self) -> None:
        rows = [
            row | {f"meta/episodes/{name}": value for name, value in layout.chunk_and_file(0).items()}
            for row in self._episodes
        ]
        episodes = self._aside / layout.EPISODES_PATH.format(**layout.chunk_and_file(0))
        episodes.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=_schema_of(rows)), episodes)
        tasks = pd.Series(self._tasks, name="task_index").rename_axis("task").to_frame()
        tasks.to_parquet(self._aside / layout.TASKS_PATH)
        (self._aside / layout.STATS_PATH).write_text(json.dumps(self._global_stats(), indent=2))
        (self._aside / layout.INFO_PATH).write_text(json.dumps(self._info(), indent=2))

    def _global_stats(self) -> dict[str, Stats]:
        files = sorted((self._aside / "data").rglob("*.parquet"))
        stats = {}
        for name in self._numeric_columns():  # one column in memory at a time
            values = [column_values(pq.read_table(file, columns=[name])[name]) for file in files]
            stats[name] = numeric_stats(np.concatenate(values))
        for name, histogram in self._histograms.items():
            stats[layout.CAMERA_PREFIX + name] = image_stats(histogram, self._num_frames)
        return stats

    def _info(self) -> dict[str, Any]:
        features = {
            name: layout.vector_feature(dim) | {"names": self.names.get(name)} for name, dim in self.features.items()
        }
        features |= {
            layout.CAMERA_PREFIX + name: layout.video_feature(*size, self.fps, self.pixel_format)
            for name, size in self.cameras.items()
        }
        features |= {name: layout.vector_feature(1, dtype) for name, dtype in layout.INDEX_COLUMNS.items()}
        features[layout.LANGUAGE_COLUMN] = layout.vector_feature(1, "language")
        return {
            "codebase_version": layout.CODEBASE_VERSION,
            "robot_type": self.robot_type,
            "total_episodes": len(self._episodes),
            "total_frames": self._num_frames,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.FILES_PER_CHUNK,
            "data_files_size_in_mb": DATA_FILE_BYTES // 2**20,
            "video_files_size_in_mb": VIDEO_FILE_BYTES // 2**20,
            "fps": self.fps,
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH,
            "features": features,
        }


def _check_sizes(cameras: Mapping[str, tuple[int, int]]) -> None:
    for name, (height, width) in cameras.items():
        if height % 2 or width % 2:
            raise ValueError(f"cameras[{name!r}] is {height} x {width}: H.264 needs even sizes, pad or crop by a pixel")


def _check_shape(field: str, array: np.ndarray | Frames, dtype: type, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        expected = f"{np.dtype(dtype)} {shape}"
        raise ValueError(f"{field} is {array.dtype} {array.shape}, expected {expected}: convert it first")


def _check_array(field: str, array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    _check_shape(field, array, dtype, shape)
    if not np.isfinite(array).all():
        frame = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ValueError(f"{field} is not finite at frame {frame}: drop the episode or repair it")


def _schema_of(rows: Sequence[Mapping[str, Any]]) -> pa.Schema:
    # Episodes may carry different extra fields; from_pylist alone would keep only the first row's.
    fields: dict[str, pa.DataType] = {}
    for row in rows:
        for name, value in row.items():
            if name not in fields:
                fields[name] = pa.array([value]).type
    return pa.schema(list(fields.items()))
