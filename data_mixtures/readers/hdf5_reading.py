"""Reading HDF5 files that may be damaged: nothing is believed before it is checked.

HDF5 of the published sets carries no checksums, so a flipped byte can change a shape, a type or an offset. Sizes are
checked before anything is allocated, and whatever the library raises becomes a `BadEpisodeError`.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from data_mixtures.defects import BadEpisodeError

# No table of numbers of one episode comes near: 16 doubles a frame for nine hours at 30 Hz are 128 MiB.
MAX_TABLE_BYTES = 1 << 28
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextmanager
def open_hdf5(source: Path | bytes, key: str, what: str) -> Iterator[h5py.File]:
    """The file `what` of episode `key`, for reading; any error while it is open becomes BadEpisodeError.

    Args:
        source: its path, or all of its bytes.
        key: the episode's.
        what: the file in words, for the message.
    """
    try:
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        # Shared folders without file locks are common, and nothing is written here.
        with h5py.File(opened, "r", locking=False) as file:
            _check_end(source, key, what)
            yield file
    except BadEpisodeError:
        raise
    except FileNotFoundError as error:
        raise BadEpisodeError(key, "unreadable", f"{what} does not exist") from error
    except Exception as error:  # noqa: BLE001 - on damaged bytes the library raises nearly every kind there is
        kind = "truncated" if "truncated" in str(error) else "unreadable"
        raise BadEpisodeError(key, kind, f"{what} cannot be read: {type(error).__name__}: {error}") from error


def _check_end(source: Path | bytes, key: str, what: str) -> None:
    """BadEpisodeError unless the file ends where its superblock says: bytes put into its middle move all after them.

    The library cuts a file to that length when it closes it, and later only notices files that are shorter.
    """
    if isinstance(source, bytes):
        head, size = source[:48], len(source)
    else:
        with source.open("rb") as file:
            head, size = file.read(48), os.fstat(file.fileno()).st_size
    # HDF5 file format specification, II.A: versions 0 and 1 (1 has four bytes more), 2 and 3
    start = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8]) if head[:8] == _SIGNATURE else None
    if start is None:
        return  # behind a user block, which no published set has
    end = int.from_bytes(head[start : start + 8], "little")
    if end != size:
        raise BadEpisodeError(key, "truncated" if end > size else "checksum", f"{what} is {size} bytes long, not {end}")


def dataset_at(group: h5py.Group, path: str) -> h5py.Dataset | None:
    """The dataset at `path`, None where there is none or where it is one of the placeholders of shape (0,)."""
    node = group.get(path)
    return node if isinstance(node, h5py.Dataset) and node.size else None


def read_table(group: h5py.Group, path: str, shape: tuple[int, ...], key: str) -> np.ndarray:
    """Numbers [T, *shape] as float64, whatever type they are stored as; BadEpisodeError where they are not there."""
    dataset = dataset_at(group, path)
    if dataset is None:
        raise BadEpisodeError(key, "column", f"{path} is missing or empty")
    return read_dataset(dataset, path, shape, key)


def read_dataset(dataset: h5py.Dataset, path: str, shape: tuple[int, ...], key: str) -> np.ndarray:
    """As `read_table`, of a dataset already at hand; a trailing dimension of 1 may be missing."""
    if dataset.ndim == 1 and shape == (1,):
        return read_dataset(dataset, path, (), key)[:, None]
    if dataset.shape[1:] != shape or dataset.ndim == 0:
        raise BadEpisodeError(key, "column", f"{path} has shape {dataset.shape}, expected (T, {str(shape)[1:]}")
    check_dataset(dataset, path, "fiu", MAX_TABLE_BYTES, key)
    return np.asarray(dataset[()], dtype=np.float64)


def check_dataset(dataset: h5py.Dataset, path: str, kinds: str, max_bytes: int, key: str) -> None:
    """BadEpisodeError unless the dataset has a type of `kinds` (numpy's letters), a sane size and stored values."""
    if dataset.dtype.kind not in kinds:
        raise BadEpisodeError(key, "column", f"{path} has type {dataset.dtype}, expected numbers")
    num_bytes = int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
    if num_bytes > max_bytes:
        raise BadEpisodeError(key, "column", f"{path} claims {dataset.shape}: more than {max_bytes >> 20} MiB")
    if dataset.id.get_storage_size() == 0:  # HDF5 would make up zeros
        raise BadEpisodeError(key, "truncated", f"{path} of shape {dataset.shape} holds no values")


def check_range(values: np.ndarray, low: float, high: float, what: str, key: str) -> None:
    """BadEpisodeError unless all values lie in [low, high]: a damaged file can say what nothing real can be."""
    if not np.isfinite(values).all():
        raise BadEpisodeError(key, "not_finite", f"{what} holds numbers that are not finite")
    if values.size and not low <= values.min() <= values.max() <= high:
        found = f"{values.min():.4g} to {values.max():.4g}"
        raise BadEpisodeError(
            key, "column", f"{what} runs from {found}: nothing outside {low:g} to {high:g} can be right"
        )


def text_attribute(attributes: h5py.AttributeManager, name: str) -> str:
    """A text attribute; '' where there is none, or where it is empty or the word None."""
    value = attributes.get(name, "")
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = text.strip()
    return "" if text in ("None", "none", "nan") else text
