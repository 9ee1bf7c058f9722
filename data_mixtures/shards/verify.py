"""Every byte of a sharded data set against its checksums."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_mixtures.defects import Defect
from data_mixtures.shards import layout
from data_mixtures.shards.packets import gop_checksum
from data_mixtures.shards.shard_frames import first_groups, read_keys
from data_mixtures.storage.array_store import open_array


def verify(root: Path | str, on_progress: Callable[[int, int], None] = lambda done, total: None) -> list[Defect]:
    """What is damaged: by episode where packets are, by file where it is anything else. Empty when all is well.

    Args:
        root: the folder.
        on_progress: (bytes read, bytes in all), after every file.

    Raises:
        ValueError: the folder holds no shards.
    """
    root = Path(root)
    meta = layout.read_meta(root)
    total = sum(stored.num_bytes for stored in meta.files.values())
    defects, read = [], 0
    packets_in = [name for camera in range(len(meta.cameras)) for name in meta.shard_names(camera)]
    for name in (name for name in meta.files if name not in packets_in):
        defects += _damage(root, name, meta.files[name])
        read += meta.files[name].num_bytes
        on_progress(read, total)
    if defects:  # without a sound index no packet can be told from the next; each shard stands for itself
        return defects + [defect for name in packets_in for defect in _damage(root, name, meta.files[name])]
    for camera in range(len(meta.cameras)):
        checker = _Checker(root, meta, camera)
        for name in meta.shard_names(camera):
            defects += checker.shard(name, meta.files[name])
            read += meta.files[name].num_bytes
            on_progress(read, total)
    return defects


def _damage(root: Path, name: str, stored: layout.StoredFile) -> Iterator[Defect]:
    """What is wrong with a file as a whole."""
    path = root / name
    try:
        num_bytes = path.stat().st_size
        if num_bytes != stored.num_bytes:
            kind = "truncated" if num_bytes < stored.num_bytes else "changed"
            yield Defect(name, kind, f"it has {num_bytes} bytes, {stored.num_bytes} were written")
        elif layout.stored_file(path) != stored:
            yield Defect(name, "checksum", "its SHA-256 is not that of what was written")
    except OSError as error:
        yield Defect(name, "unreadable", f"it cannot be read: {error}")


class _Checker:
    """Finds the episodes of damaged groups of pictures, shard by shard."""

    def __init__(self, root: Path, meta: layout.ShardsMeta, camera: int) -> None:
        folder = root / layout.camera_folder(camera)
        self._root, self._camera = root, meta.cameras[camera]
        self._offsets = open_array(folder / "offsets.npy")
        self._checksums = open_array(folder / "crc32.npy")
        self._first_row = open_array(root / layout.INDEX_FOLDER / "first_row.npy")
        self._first_group = first_groups(self._first_row, meta.gop)
        self._gop = meta.gop
        self._begin = 0  # of the shard, counted through all shards
        self._episode = 0

    def shard(self, name: str, stored: layout.StoredFile) -> list[Defect]:
        """The damage in one shard; to be called in order."""
        end = self._begin + stored.num_bytes
        episodes = range(self._episode, int(np.searchsorted(self._offsets[self._first_row], end)))
        self._begin, self._episode = end, episodes.stop
        digest, defects = hashlib.sha256(), []
        try:
            with (self._root / name).open("rb") as file:
                for episode in episodes:
                    defects += self._episode_damage(file, digest, episode, name)
                digest.update(file.read(1))
        except OSError as error:
            return [Defect(name, "unreadable", f"it cannot be read, {len(episodes)} episodes lie in it: {error}")]
        if not defects and digest.hexdigest() != stored.sha256:
            return [Defect(name, "changed", "it is longer than what was written, though every episode is in it")]
        return defects

    def _episode_damage(self, file: BinaryIO, digest: "hashlib._Hash", episode: int, name: str) -> Iterator[Defect]:
        """Read an episode's packets, whatever was wrong with the ones before."""
        first, stop = self._first_row[episode : episode + 2].tolist()
        bounds = self._offsets[first : stop + 1]
        data = memoryview(file.read(int(bounds[-1] - bounds[0])))
        digest.update(data)
        starts = range(0, stop - first, self._gop)
        bad = 0
        for group, start in enumerate(starts, int(self._first_group[episode])):
            inside = bounds[start : start + self._gop + 1]
            part = data[inside[0] - bounds[0] : inside[-1] - bounds[0]]
            bad += gop_checksum(np.diff(inside).tolist(), part) != self._checksums[group]
        if bad:
            kind = "truncated" if len(data) < bounds[-1] - bounds[0] else "checksum"
            detail = f"camera {self._camera!r}: {bad} of {len(starts)} groups of pictures in {name} are not as written"
            yield Defect(self._keys()[episode], kind, detail)

    def _keys(self) -> list[str]:
        return read_keys(self._root)
