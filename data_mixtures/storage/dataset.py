"""A data set opened for drawing windows: its index, its frames, and the columns it was labelled with."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from data_mixtures.config import DatasetConfig
from data_mixtures.defects import BadEpisodeError
from data_mixtures.lerobot.table import LeRobotDataset
from data_mixtures.readers.opening import open_reader
from data_mixtures.readers.reader import Reader
from data_mixtures.shards.layout import is_shards
from data_mixtures.shards.shard_frames import open_shards
from data_mixtures.storage import remote
from data_mixtures.storage.array_store import locked
from data_mixtures.storage.frames import DecodedFrames, FrameSource, OriginalFrames, decoded_bytes
from data_mixtures.storage.index import VERSION, Index, IndexWriter
from data_mixtures.storage.seal import is_sealed, seal

Progress = Callable[[int, int], None]
_GIB = 1 << 30
_TRIED_AGAIN = 32  # episodes of those left out, each time a data set is opened


@dataclass(frozen=True)
class Dataset:
    """What a mixture draws from, whatever the format.

    Attributes:
        root: its folder.
        index: numerics and texts of every usable episode.
        frames: pictures of the index's rows.
        cameras: camera names, as the mixture's config renames them -> the index's own.
        cache: a folder for what is derived from it.
    """

    root: Path
    index: Index
    frames: FrameSource
    cameras: dict[str, str]
    cache: Path

    @property
    def fingerprint(self) -> str:
        """A name for this content and the way it is read."""
        return self.index.meta.fingerprint

    @cached_property
    def recorded(self) -> "RecordedColumns":
        """The data set's own columns; only a LeRobot folder has them."""
        return RecordedColumns(self.root, self.index)


class RecordedColumns:
    """Columns of a LeRobot v3.0 folder by rows of its index (which leaves bad episodes out).

    Args:
        root: the folder.
        index: of it.
    """

    def __init__(self, root: Path, index: Index) -> None:
        if not (root / "meta/info.json").exists():
            raise ValueError(f"{root} is no LeRobot folder, so it has no further columns such as latents")
        self._dataset, self._index = LeRobotDataset(root), index
        self._columns: dict[str, np.ndarray] = {}

    @property
    def features(self) -> dict[str, dict]:
        """The folder's features, as its info.json describes them."""
        return self._dataset.features

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values of the index's rows [num_rows, ...] -> of all the folder's rows, 0 in episodes that were left out."""
        if self._dataset.num_frames == self._index.num_rows:
            return values
        whole = np.zeros((self._dataset.num_frames, *values.shape[1:]), dtype=values.dtype)
        rows = np.arange(self._index.num_rows)
        whole[self._places(rows)] = values
        return whole

    def values(self, name: str, rows: np.ndarray) -> np.ndarray:
        """A numeric column at rows [...] of the index: [..., dim]."""
        if name not in self._columns:
            self._columns[name] = self._dataset.column(name)
        return self._columns[name][self._places(rows)]

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """The folder's own row numbers of rows [...] of the index."""
        episodes = self._index.episode_of(rows)
        firsts = self._dataset.episodes.dataset_from_index[self._index.source_episode[episodes]]
        return firsts + rows - self._index.first_row[episodes]


def open_dataset(
    config: DatasetConfig, cameras: list[str], image_size: int, decoded_gib: float, on_progress: Progress | None = None
) -> Dataset:
    """Open a data set of any format; the first time, its numerics are read once and kept in a cache.

    Args:
        config: where it is and how it is read.
        cameras: those a mixture shows, under the mixture's names.
        image_size: pixels a side of the frames a mixture shows.
        decoded_gib: frames are decoded once and kept if they take at most this, GiB; else they are decoded as asked.
        on_progress: called with (episodes read, episodes in all) while the index is built.

    Raises:
        ValueError: it is not there, is of no known format, or not one of its episodes can be used.
    """
    root = remote.localise(config.path)
    config = replace(config, path=str(root))
    if is_shards(root):
        index, frames = open_shards(root)
        cache = user_cache(index.meta.fingerprint)
    else:
        reader = open_reader(config)
        cache = cache_folder(reader)
        index = _open_or_build(reader, root.name, index_folder(cache), on_progress)
        shown = [config.cameras.get(camera, camera) for camera in cameras]
        small = decoded_bytes(index, shown, image_size) <= decoded_gib * _GIB
        frames = DecodedFrames(reader, index, cache) if small else OriginalFrames(reader, index)
    if not index.num_episodes:
        reasons = "; ".join(f"{d.key}: {d.detail}" for d in index.quarantined[:3])
        raise ValueError(f"{config.path} has no episode that can be used: {reasons or 'it is empty'}")
    return Dataset(root, index, frames, _renamed(config, index), cache)


def cache_folder(reader: Reader) -> Path:
    """Where what is derived from a data set is kept: inside it, or in the user's cache.

    The user's cache is taken where VLA_CACHE names one, and for data that cannot be written.
    """
    root = Path(reader.root)
    inside = root / ".cache" / reader.fingerprint
    if remote.CACHE_VARIABLE not in os.environ and (inside.exists() or os.access(root, os.W_OK)):
        return inside
    return user_cache(reader.fingerprint)


def index_folder(cache: Path) -> Path:
    """Where the index is kept in a data set's cache: another version of this code keeps another one."""
    return cache / f"index-{VERSION}"


def user_cache(fingerprint: str) -> Path:
    """The folder for what is derived from data of this fingerprint, in the user's own cache."""
    return remote.cache_folder() / "data" / fingerprint


def cache_of(root: Path) -> Path:
    """The cache of a LeRobot folder whose robot is known by name, or that is read as video only."""
    return cache_folder(open_reader(DatasetConfig(str(root), labelled_share=0)))


def build_index(reader: Reader, name: str, folder: Path, on_progress: Progress | None = None) -> None:
    """Read every episode's numerics into an index; what cannot be read is named in it. No video is decoded."""
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    quarantined = list(reader.defects)
    with IndexWriter(aside) as writer:
        for number in range(len(reader)):
            try:
                writer.add(reader.episode(number), number)
            except BadEpisodeError as error:
                quarantined.append(error.defect)
            if on_progress is not None:
                on_progress(number + 1, len(reader))
        writer.finish(
            name=name,
            cameras=reader.cameras,
            robot_type=reader.robot_type,
            fingerprint=reader.fingerprint,
            quarantined=quarantined,
        )
    seal(aside)
    os.replace(aside, folder)


def _open_or_build(reader: Reader, name: str, folder: Path, on_progress: Progress | None) -> Index:
    if not _is_current(reader, folder):
        with locked(folder):
            if not _is_current(reader, folder):
                if folder.exists():  # its rows change, and so does all that was derived from them
                    _forget(folder.parent)
                build_index(reader, name, folder, on_progress)
    return Index(folder)


def _is_current(reader: Reader, folder: Path) -> bool:
    """Whether the index is sound, and nothing that it leaves out can be read now: the data set may have been mended."""
    if not is_sealed(folder):
        return False
    index = Index(folder)
    if not index.quarantined and not reader.defects:
        return True
    left_out = np.setdiff1d(np.arange(len(reader)), index.source_episode)
    of_files = index.quarantined[: len(index.quarantined) - len(left_out)]
    if [(d.key, d.kind) for d in of_files] != [(d.key, d.kind) for d in reader.defects]:
        return False
    return not any(_can_be_read(reader, number) for number in left_out[:_TRIED_AGAIN].tolist())


def _can_be_read(reader: Reader, number: int) -> bool:
    try:
        reader.episode(number)
    except BadEpisodeError:
        return False
    return True


def _forget(cache: Path) -> None:
    """Delete what was derived from a data set; who has a file of it open keeps that file."""
    for path in cache.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif not path.name.endswith(".lock"):
            path.unlink(missing_ok=True)


def _renamed(config: DatasetConfig, index: Index) -> dict[str, str]:
    for name, own in config.cameras.items():
        if own not in index.meta.cameras:
            raise ValueError(
                f"cameras of {config.path} map {name!r} to {own!r}, which it does not have: choose from "
                f"{index.meta.cameras}"
            )
    taken = set(config.cameras.values())
    return {camera: camera for camera in index.meta.cameras if camera not in taken} | config.cameras
