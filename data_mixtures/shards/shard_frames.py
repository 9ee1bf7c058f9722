"""Frames of a sharded data set: every group of pictures read and decoded once a call, in the order it lies on disk."""

import json
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from data_mixtures.defects import BadEpisodeError
from data_mixtures.shards import layout
from data_mixtures.shards.packets import DamagedPacketsError, PacketShards, decode_group, write_planes
from data_mixtures.storage.array_store import open_array
from data_mixtures.storage.frames import fit_square
from data_mixtures.storage.index import Index

_CHECKED_BYTES = 4 * 2**20


class ShardFrames:
    """The `FrameSource` of training shards.

    Opening costs the same for any number of episodes. Objects may be shared by threads, and go over a fork or to a
    spawned process.

    Args:
        root: the folder.
        index: its index, whose rows are asked for.
    """

    def __init__(self, root: Path | str, index: Index) -> None:
        self.root, self.index = Path(root), index
        self.meta = layout.read_meta(self.root)
        self._first_gop = first_groups(index.first_row, self.meta.gop)
        self._cameras: dict[str, PacketShards] = {}

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return _reopened, (self.root,)

    def images(self, camera: str, rows: np.ndarray, size: int) -> np.ndarray:
        """Rows int64 [n] in any order -> uint8 [n, 3, size, size], RGB.

        Where `size` is not the stored one, the decoded frames are resized as `fit_square` does.

        Raises:
            BadEpisodeError: the packets are not those that were written.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.index.num_rows:
            raise ValueError(f"rows {rows.min()}..{rows.max()} were asked for, {self.root} has {self.index.num_rows}")
        stored = np.empty((len(rows), 3, self.meta.size, self.meta.size), dtype=np.uint8)
        self._fill(stored, self._open(camera), rows)
        return stored if size == self.meta.size else fit_square(stored.transpose(0, 2, 3, 1), size)

    def key(self, episode: int) -> str:
        """The key that the episode's reader gave it."""
        return read_keys(self.root)[episode]

    def _fill(self, images: np.ndarray, packets: PacketShards, rows: np.ndarray) -> None:
        """Decode rows [n] into images [n, 3, size, size]."""
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        episodes = self.index.episode_of(rows)
        gop, firsts = self.meta.gop, self.index.first_row[episodes]
        inside = (rows - firsts) // gop
        columns = (self._first_gop[episodes] + inside, firsts + inside * gop, episodes, rows, order)
        # From here on plain numbers: a window touches three groups, and arrays this small cost more than they save.
        for (group, start), members in groupby(zip(*map(np.ndarray.tolist, columns), strict=True), itemgetter(0, 1)):
            _, _, owners, wanted, places = zip(*members, strict=True)
            stop = min(start + gop, int(self.index.first_row[owners[0] + 1]))
            try:
                _place(images, packets.group(group, start, stop), [row - start for row in wanted], places)
            except DamagedPacketsError as error:
                raise BadEpisodeError(self.key(owners[0]), error.kind, error.detail) from error

    def _open(self, camera: str) -> PacketShards:
        if camera not in self._cameras:
            if camera not in self.meta.cameras:
                raise ValueError(f"camera {camera!r} does not exist in {self.root}: it has {self.meta.cameras}")
            self._cameras[camera] = open_packets(self.root, self.meta, self.meta.cameras.index(camera))
        return self._cameras[camera]


def open_shards(root: Path | str) -> tuple[Index, ShardFrames]:
    """The two halves of a sharded data set.

    Every file must be there at its size, and small ones (4 MiB) must match their checksum: ValueError otherwise. The
    large ones are checked group by group as they are read, and all by `verify`.
    """
    root = Path(root)
    meta = layout.read_meta(root)
    for name, stored in meta.files.items():
        path = root / name
        if not path.is_file() or (found := path.stat().st_size) != stored.num_bytes:
            found = f"has {found} bytes" if path.is_file() else "is missing"
            raise ValueError(f"{path} {found}, {stored.num_bytes} were written: copy the data set again")
        if stored.num_bytes <= _CHECKED_BYTES and not name.endswith(".bin") and layout.stored_file(path) != stored:
            raise ValueError(f"{path} is not what was written (SHA-256 differs): copy it again")
    index = Index(root / layout.INDEX_FOLDER)
    return index, ShardFrames(root, index)


def open_packets(root: Path, meta: layout.ShardsMeta, camera: int) -> PacketShards:
    """The packets of camera number `camera`."""
    names = meta.shard_names(camera)
    folder = root / layout.camera_folder(camera)
    return PacketShards(
        [root / name for name in names],
        [meta.files[name].num_bytes for name in names],
        open_array(folder / "offsets.npy"),
        open_array(folder / "crc32.npy"),
    )


def first_groups(first_row: np.ndarray, gop: int) -> np.ndarray:
    """Number of each episode's first group of pictures, int64 [E + 1], from its first row [E + 1]."""
    return np.concatenate([[0], np.cumsum(-(-np.diff(first_row) // gop))])


def read_keys(root: Path) -> list[str]:
    """Every episode's key."""
    return [json.loads(line) for line in (root / layout.KEYS_FILE).read_text().splitlines()]


def _reopened(root: Path) -> ShardFrames:
    return open_shards(root)[1]


def _place(images: np.ndarray, data: list[bytes], wanted: Sequence[int], places: Sequence[int]) -> None:
    """Decode the frames numbered `wanted` (rising, with repeats) of one group into images[places]."""
    numbers = sorted(set(wanted))
    frames = decode_group(data, numbers)
    first_place: dict[int, int] = {}
    for number, place in zip(wanted, places, strict=True):
        if number in first_place:
            images[place] = images[first_place[number]]
        else:
            first_place[number] = place
            write_planes(frames[len(first_place) - 1], images[place])
