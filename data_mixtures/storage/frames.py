"""Where a batch's pictures come from: decoded as asked from the original files, or from frames decoded once.

Measured at 256 px: a random 16-frame window costs 2.5-15 ms to decode from H.264, 0.16 ms from a memory map.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.readers.reader import Reader
from data_mixtures.storage.array_store import create, is_whole, locked, open_array
from data_mixtures.storage.index import Index

_BLOCK = 256  # frames decoded and resized at a time
_TRIED_AGAIN = 8  # episodes of those that did not decode, each time the array is opened


class FrameSource(Protocol):
    """Pictures of an index's rows."""

    def images(self, camera: str, rows: np.ndarray, size: int) -> np.ndarray:
        """Rows int64 [n] in any order -> uint8 [n, 3, size, size], RGB, aspect kept, centred on black.

        Raises:
            BadEpisodeError: the frames cannot be had, or are not those that were recorded.
        """
        ...


def fit_square(frames: np.ndarray, size: int) -> np.ndarray:
    """Frames uint8 [n, H, W, 3] -> uint8 [n, 3, size, size], aspect kept, centred on black."""
    planes = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
    height, width = planes.shape[-2:]
    if (height, width) == (size, size):
        return planes.numpy()
    scale = size / max(height, width)
    fitted = (max(1, round(height * scale)), max(1, round(width * scale)))
    resized = torch.nn.functional.interpolate(planes, fitted, mode="bilinear", antialias=True, align_corners=False)
    top, left = (size - fitted[0]) // 2, (size - fitted[1]) // 2
    square = np.zeros((len(frames), 3, size, size), dtype=np.uint8)
    square[:, :, top : top + fitted[0], left : left + fitted[1]] = resized.numpy()
    return square


class OriginalFrames:
    """Decodes from the data set's own files, episode by episode, whenever asked.

    Args:
        reader: of the data set.
        index: its index, whose rows are asked for.
    """

    def __init__(self, reader: Reader, index: Index) -> None:
        self.reader, self.index = reader, index

    def images(self, camera: str, rows: np.ndarray, size: int) -> np.ndarray:
        """See `FrameSource`."""
        images = np.empty((len(rows), 3, size, size), dtype=np.uint8)
        episodes = self.index.episode_of(rows)
        for episode in np.unique(episodes).tolist():
            places = np.flatnonzero(episodes == episode)
            numbers = rows[places] - self.index.first_row[episode]
            frames = self.reader.frames(int(self.index.source_episode[episode]), camera, numbers)
            images[places] = fit_square(frames, size)
        return images


class DecodedFrames:
    """Every frame decoded once into a memory-mapped array [num_rows, 3, size, size] a camera and size.

    An episode whose video does not decode stays black in the array and is named in a file beside it; asking for its
    rows raises what decoding raised.

    Args:
        reader: of the data set.
        index: its index, whose rows are asked for.
        cache: folder of the arrays.
    """

    def __init__(self, reader: Reader, index: Index, cache: Path) -> None:
        self.reader, self.index, self.cache = reader, index, cache
        self._opened: dict[str, tuple[np.ndarray, dict[int, Defect]]] = {}

    def images(self, camera: str, rows: np.ndarray, size: int) -> np.ndarray:
        """See `FrameSource`."""
        array, bad = self._open(camera, size)
        if bad:
            for episode in np.unique(self.index.episode_of(rows)).tolist():
                if episode in bad:
                    defect = bad[episode]
                    raise BadEpisodeError(defect.key, defect.kind, defect.detail)
        return array[rows]

    def _open(self, camera: str, size: int) -> tuple[np.ndarray, dict[int, Defect]]:
        name = f"frames-{camera}-{size}"
        if name not in self._opened:
            path, words = self.cache / f"{name}.npy", self.cache / f"{name}.bad.json"
            if not self._is_current(path, words, camera, size):
                with locked(path):
                    if not self._is_current(path, words, camera, size):
                        self._decode_all(path, words, camera, size)
            self._opened[name] = open_array(path), _read_bad(words)
        return self._opened[name]

    def _is_current(self, path: Path, words: Path, camera: str, size: int) -> bool:
        """Whether the array is whole, and what did not decode still does not: the data set may have been mended."""
        if not is_whole(path, (self.index.num_rows, 3, size, size), np.uint8):
            return False
        try:
            bad = list(_read_bad(words))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return False
        return not any(self._decodes(episode, camera) for episode in bad[:_TRIED_AGAIN])

    def _decodes(self, episode: int, camera: str) -> bool:
        try:
            for _ in self._blocks(episode, camera):
                pass
        except BadEpisodeError:
            return False
        return True

    def _decode_all(self, path: Path, words: Path, camera: str, size: int) -> None:
        bad: list[dict[str, object]] = []

        def fill(array: np.ndarray) -> None:
            for episode in range(len(self.index.source_episode)):
                try:
                    for rows, frames in self._blocks(episode, camera):
                        array[rows] = fit_square(frames, size)
                except BadEpisodeError as error:
                    array[slice(*self.index.first_row[episode : episode + 2])] = 0
                    bad.append({"episode": episode, **vars(error.defect)})
            words.write_text(json.dumps(bad, indent=1))  # before the array is renamed to its place

        create(path, (self.index.num_rows, 3, size, size), np.uint8, fill)

    def _blocks(self, episode: int, camera: str) -> Iterator[tuple[slice, np.ndarray]]:
        """An episode's frames a block at a time: their rows, and uint8 [n, H, W, 3]."""
        first, stop = self.index.first_row[episode : episode + 2].tolist()
        source = int(self.index.source_episode[episode])
        for start in range(first, stop, _BLOCK):
            end = min(start + _BLOCK, stop)
            yield slice(start, end), self.reader.frames(source, camera, np.arange(start, end) - first)


def _read_bad(words: Path) -> dict[int, Defect]:
    """What did not decode, by episode."""
    return {int(entry.pop("episode")): Defect(**entry) for entry in json.loads(words.read_text())}


def decoded_bytes(index: Index, cameras: Sequence[str], size: int) -> int:
    """What `DecodedFrames` takes on disk for these cameras."""
    return index.num_rows * len([camera for camera in cameras if camera in index.meta.cameras]) * 3 * size * size
