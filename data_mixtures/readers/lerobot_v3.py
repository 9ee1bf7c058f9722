"""LeRobot v3.0 on disk: many episodes a parquet file and a video; see `lerobot_layout`."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_mixtures.defects import BadEpisodeError
from data_mixtures.lerobot import layout
from data_mixtures.readers.lerobot_files import Clip
from data_mixtures.readers.lerobot_tables import DAMAGE, EpisodeRows, is_path_template, open_parquet, reading, vectors
from data_mixtures.video.opened_files import Signature, signature

SUBTASKS_PATH = "meta/subtasks.parquet"


class LeRobotV3Files:
    """The files of a v3.0 data set; see `LeRobotFiles`."""

    def __init__(self, root: Path, info: dict[str, Any]) -> None:
        self.root = root
        self.warnings: list[str] = []
        self._table = _episode_table(root)
        self.numbers = _whole_numbers(root, self._table, "episode_index")
        self.lengths = _whole_numbers(root, self._table, "length")
        self.tasks = _texts(root / layout.TASKS_PATH, "task_index")
        self.subtasks = _texts(root / SUBTASKS_PATH, "subtask_index") if (root / SUBTASKS_PATH).exists() else {}
        self._data_template = _template(info.get("data_path"), layout.DATA_PATH)
        self._video_template = _template(info.get("video_path"), layout.VIDEO_PATH)
        self._opened = _LastFile()
        for name, found in (("total_episodes", len(self.numbers)), ("total_frames", sum(self.lengths))):
            if info.get(name) != found:
                self.warnings.append(f"info.json's {name} is {info.get(name)}, meta/episodes has {found}")

    def __getstate__(self) -> dict[str, Any]:  # an opened file stays in its process
        return self.__dict__ | {"_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state | {"_opened": _LastFile()}

    def data_path(self, index: int) -> Path:
        """The parquet file that holds episode `index`."""
        place = {f"{name}_index": self._value(f"data/{name}_index", index) for name in ("chunk", "file")}
        return self.root / self._data_template.format(**place)

    def rows(self, index: int, key: str) -> EpisodeRows:
        """Its rows, found by their episode_index; BadEpisodeError for `key` if the file does not hold them."""
        with reading(key, self.root / "data"):
            path = self.data_path(index)
        with reading(key, path):
            file, spans = self._open(path)
        number = self.numbers[index]
        if number not in spans:
            raise BadEpisodeError(key, "length", f"{path} holds no row of episode {number}, or not all in one place")
        return EpisodeRows(file, *spans[number])

    def clip(self, index: int, video_key: str) -> Clip:
        """Its frames of one camera: a stretch of a file that others share."""
        names = ("chunk_index", "file_index", "from_timestamp")
        chunk, file, start_s = (self._value(f"videos/{video_key}/{name}", index) for name in names)
        path = self._video_template.format(video_key=video_key, chunk_index=chunk, file_index=file)
        return Clip(self.root / path, float(start_s))

    def instructions(self, index: int) -> list[str]:
        """The texts its row in meta/episodes lists."""
        tasks = self._value("tasks", index) if "tasks" in self._table.column_names else None
        return [task for task in tasks if isinstance(task, str)] if isinstance(tasks, list) else []

    def info(self, index: int) -> dict[str, Any]:
        """What else its row in meta/episodes says."""
        known = layout.EPISODE_COLUMNS
        names = [n for n in self._table.column_names if n not in known and not n.startswith(layout.EPISODE_PREFIXES)]
        return {name: self._value(name, index) for name in names}

    def camera_folders(self) -> list[str]:
        """The folders of videos."""
        videos = self.root / "videos"
        return sorted(folder.name for folder in videos.iterdir() if folder.is_dir()) if videos.is_dir() else []

    def _value(self, name: str, index: int) -> Any:
        return self._table.column(name)[index].as_py()

    def _open(self, path: Path) -> tuple[pq.ParquetFile, dict[int, tuple[int, int]]]:
        """The file, and where each episode's rows are in it; the last one is kept: most reading is in order."""
        found = (str(path), signature(path))
        if self._opened.name != found:
            file = open_parquet(path)
            owners = vectors(file.read(columns=["episode_index"], use_threads=False).column(0))[:, 0]
            self._opened.file, self._opened.spans, self._opened.name = file, _spans(owners), found
        assert self._opened.file is not None
        return self._opened.file, self._opened.spans


class _LastFile(threading.local):
    def __init__(self) -> None:
        self.name: tuple[str, Signature] | None = None
        self.file: pq.ParquetFile | None = None
        self.spans: dict[int, tuple[int, int]] = {}


def _spans(owners: np.ndarray) -> dict[int, tuple[int, int]]:
    """Episode number -> (first row, one past the last), for those whose rows are all in one place."""
    if not len(owners):
        return {}
    starts = np.append(0, np.flatnonzero(owners[1:] != owners[:-1]) + 1)
    ends = np.append(starts[1:], len(owners))
    numbers, counts = np.unique(owners[starts], return_counts=True)
    whole = set(numbers[counts == 1].tolist())
    places = zip(owners[starts].tolist(), starts.tolist(), ends.tolist(), strict=True)
    return {int(number): (start, end) for number, start, end in places if number in whole}


def _episode_table(root: Path) -> pa.Table:
    parts = []
    for path in sorted(root.glob("meta/episodes/*/*.parquet")):
        try:
            file = open_parquet(path)
            wanted = [name for name in file.schema_arrow.names if not name.startswith("stats/")]
            parts.append(file.read(columns=wanted, use_threads=False))
        except DAMAGE as error:
            raise ValueError(f"{path} cannot be read: {error}: fetch the data set again") from error
    if not parts or not sum(part.num_rows for part in parts):
        raise ValueError(f"{root}/meta/episodes names no episode: fetch the data set again")
    try:
        return pa.concat_tables(parts, promote_options="default").combine_chunks()
    except pa.ArrowException as error:
        raise ValueError(f"{root}/meta/episodes: its files differ: {error}: fetch the data set again") from error


def _whole_numbers(root: Path, table: pa.Table, name: str) -> list[int]:
    try:
        values = vectors(table.column(name))
    except DAMAGE as error:
        raise ValueError(f"{root}/meta/episodes: column {name!r}: {error}: fetch the data set again") from error
    if values.shape[1] != 1 or values.dtype.kind not in "iu" or values.min() < 0:
        raise ValueError(f"{root}/meta/episodes: column {name!r} holds no counts: fetch the data set again")
    return values[:, 0].tolist()


def _texts(path: Path, index_name: str) -> dict[int, str]:
    """The texts of tasks.parquet or subtasks.parquet by number; the text is the pandas index, under any name."""
    try:
        table = open_parquet(path).read(use_threads=False)
        text = next(name for name in table.column_names if name != index_name)
        pairs = zip(table[index_name].to_pylist(), table[text].to_pylist(), strict=True)
        return {number: words for number, words in pairs if isinstance(number, int) and isinstance(words, str)}
    except (*DAMAGE, StopIteration) as error:
        raise ValueError(f"{path} cannot be read: {error}: fetch the data set again") from error


def _template(stated: object, standard: str) -> str:
    return stated if is_path_template(stated, chunk_index=0, file_index=0) else standard
