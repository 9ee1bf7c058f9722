"""The table of a LeRobot v3.0 folder: its episodes' rows, and whole numeric columns as memory maps.

What its labelled copies need (`latent_columns`); episodes and frames are read by `readers.lerobot`.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from data_mixtures.lerobot import layout
from data_mixtures.lerobot.parquet_columns import column_values
from data_mixtures.storage.array_store import open_or_build


@dataclass(frozen=True)
class Episodes:
    """One entry an episode: its rows in the data set, its tasks, and what else was recorded of it.

    Attributes:
        dataset_from_index: first row of each episode, int64 [E].
        dataset_to_index: one past its last row, int64 [E].
        tasks: the instructions of each episode (nearly always one).
        info: further per-episode scalars.
    """

    dataset_from_index: np.ndarray
    dataset_to_index: np.ndarray
    tasks: list[list[str]]
    info: list[dict[str, Any]]

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each episode, int64 [E]."""
        return self.dataset_to_index - self.dataset_from_index

    def span(self, episode: int) -> tuple[int, int]:
        """The episode's rows as (first, one past the last)."""
        return int(self.dataset_from_index[episode]), int(self.dataset_to_index[episode])

    def __len__(self) -> int:
        return len(self.tasks)


class LeRobotDataset:
    """A LeRobot v3.0 folder.

    Args:
        root: the folder that holds `meta/info.json`.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.info = _read_info(self.root)
        self.fps: float = self.info["fps"]
        self.robot_type: str = self.info["robot_type"] or ""
        self.features: dict[str, dict[str, Any]] = self.info["features"]
        self._rows = _read_episode_table(self.root)
        self.episodes = _episodes_of(self._rows)
        self.num_frames = int(self.episodes.lengths.sum())
        if self.num_frames != self.info["total_frames"]:
            raise ValueError(
                f"{self.root}: episodes hold {self.num_frames} frames, info.json says {self.info['total_frames']}: "
                "the copy is incomplete, fetch the data set again"
            )

    @cached_property
    def fingerprint(self) -> str:
        """A name for this content: metadata, statistics and the size of every file."""
        digest = hashlib.sha256()
        for path in (layout.INFO_PATH, layout.STATS_PATH):
            digest.update((self.root / path).read_bytes() if (self.root / path).exists() else b"")
        for path in sorted([*self.root.glob("data/*/*.parquet"), *self.root.glob("videos/*/*/*.mp4")]):
            digest.update(f"{path.relative_to(self.root)} {path.stat().st_size}\n".encode())
        return digest.hexdigest()[:16]

    def cache_path(self, name: str) -> Path:
        """Where an array derived from this content is kept."""
        return self.root / ".cache" / self.fingerprint / f"{name}.npy"

    def column(self, name: str) -> np.ndarray:
        """A numeric column of every frame, [num_frames, dim], as a memory map; float64 becomes float32."""
        self.check_column(name)
        dim = int(np.prod(self.features[name]["shape"]))
        stored: str = self.features[name]["dtype"]
        dtype = "float32" if stored == "float64" else stored
        path = self.cache_path(f"column-{name}")
        return open_or_build(path, (self.num_frames, dim), dtype, lambda array: self._fill_column(array, name))

    def check_column(self, name: str) -> None:
        """Raise ValueError unless the data set has this numeric column."""
        if name not in self.features or self.features[name]["dtype"] in ("video", "language", "string"):
            raise ValueError(f"{self.root} has no numeric column {name!r}; it has {sorted(self.features)}")

    def data_files(self) -> list[Path]:
        """The parquet files with the frames' rows, in row order."""
        return sorted(self.root.glob("data/*/*.parquet"))

    def _fill_column(self, array: np.ndarray, name: str) -> None:
        row = 0
        for file in self.data_files():
            values = column_values(pq.read_table(file, columns=[name]).column(0))
            if row + len(values) > len(array):
                break
            array[row : row + len(values)] = values.reshape(len(values), -1)
            row += len(values)
        if row != len(array):
            raise ValueError(f"{self.root}: column {name!r} holds {row} rows of {len(array)}: fetch the data again")


def _read_info(root: Path) -> dict[str, Any]:
    path = root / layout.INFO_PATH
    if not path.exists():
        raise ValueError(f"no data set at {root}: {path.resolve()} does not exist")
    info = json.loads(path.read_text())
    if info.get("codebase_version") != layout.CODEBASE_VERSION:
        raise ValueError(
            f"{path}: codebase_version is {info.get('codebase_version')!r}, this reader takes "
            f"{layout.CODEBASE_VERSION!r}: convert the data set with LeRobot's own v3.0 converter"
        )
    return info


def _read_episode_table(root: Path) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for file in sorted(root.glob("meta/episodes/*/*.parquet")):
        parquet = pq.ParquetFile(file)
        wanted = [name for name in parquet.schema_arrow.names if not name.startswith("stats/")]
        for name, values in parquet.read(columns=wanted).to_pydict().items():
            columns.setdefault(name, []).extend(values)
    if not columns:
        raise ValueError(f"{root}/meta/episodes holds no parquet file: fetch the data set again")
    return columns


def _episodes_of(rows: dict[str, list[Any]]) -> Episodes:
    known = layout.EPISODE_COLUMNS
    extra = [name for name in rows if name not in known and not name.startswith(layout.EPISODE_PREFIXES)]
    count = len(rows["episode_index"])
    return Episodes(
        dataset_from_index=np.array(rows["dataset_from_index"], dtype=np.int64),
        dataset_to_index=np.array(rows["dataset_to_index"], dtype=np.int64),
        tasks=rows["tasks"],
        info=[{name: rows[name][episode] for name in extra} for episode in range(count)],
    )
