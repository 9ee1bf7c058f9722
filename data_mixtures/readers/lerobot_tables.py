"""Rows of published parquet and jsonl files as arrays, with every way they can be damaged named."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_mixtures.defects import BadEpisodeError
from data_mixtures.storage.json_object import read_object

# What pyarrow, json and numpy raise on damaged files.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    MemoryError,
    AttributeError,
    pa.ArrowException,
)
_PARQUET_MAGIC = b"PAR1"


@contextmanager
def reading(key: str, path: Path | str) -> Iterator[None]:
    """Turn whatever reading `path` raises into a BadEpisodeError for episode `key`."""
    try:
        yield
    except BadEpisodeError:
        raise
    except FileNotFoundError as error:
        raise BadEpisodeError(key, "unreadable", f"{path} does not exist") from error
    except DAMAGE as error:
        kind = "truncated" if _is_cut_short(path) else "unreadable"
        raise BadEpisodeError(key, kind, f"{path} cannot be read: {_first_line(error)}") from error


def _is_cut_short(path: Path | str) -> bool:
    """Whether a file begins as parquet but does not end as such."""
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            file.seek(-4, 2)
            return start == _PARQUET_MAGIC != file.read(4)
    except OSError:
        return False


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


@dataclass(frozen=True)
class EpisodeRows:
    """One episode's rows of a parquet file.

    Attributes:
        file: the opened file.
        start, stop: its rows there; to the end where `stop` is None.
    """

    file: pq.ParquetFile
    start: int = 0
    stop: int | None = None

    @property
    def names(self) -> list[str]:
        """The columns there are."""
        return self.file.schema_arrow.names

    def __len__(self) -> int:
        return (self.file.metadata.num_rows if self.stop is None else self.stop) - self.start

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The rows of these columns; only the row groups that hold them are read."""
        stop = self.start + len(self)
        counts = [self.file.metadata.row_group(group).num_rows for group in range(self.file.metadata.num_row_groups)]
        ends = np.cumsum(counts, dtype=np.int64)
        first = int(np.searchsorted(ends, self.start, side="right"))
        last = int(np.searchsorted(ends, stop, side="left"))
        groups = list(range(first, min(last + 1, len(counts))))
        table = self.file.read_row_groups(groups, columns=list(columns), use_threads=False)
        return table.slice(self.start - (int(ends[first - 1]) if first else 0), stop - self.start)


def open_parquet(path: Path | str) -> pq.ParquetFile:
    """A parquet file, its pages checked against their checksums where it has them."""
    return pq.ParquetFile(str(path), page_checksum_verification=True)


def vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A numeric column as [n, d]; lists of any kind, nested or not, that are all equally long.

    Raises:
        ValueError: values are missing, lists differ in length, or it does not hold numbers.
    """
    array = column.combine_chunks()
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    while True:
        if array.null_count:
            raise ValueError(f"{array.null_count} of its values are missing")
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif pa.types.is_nested(array.type) and not pa.types.is_struct(array.type):
            lengths = np.unique(array.value_lengths().to_numpy(zero_copy_only=False)).tolist()
            if len(lengths) > 1:
                raise ValueError(f"its lists are {lengths[0]} to {lengths[-1]} long, they must be equal")
            array = array.flatten()
        else:
            break
    if not (pa.types.is_floating(array.type) or pa.types.is_integer(array.type) or pa.types.is_boolean(array.type)):
        raise ValueError(f"it holds {array.type}, not numbers")
    values = array.to_numpy(zero_copy_only=False)
    return values.reshape(len(column), -1) if len(column) else values.reshape(0, 1)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; ValueError if it does not."""
    return read_object(path, "fetch the data set again")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """A file with one JSON object a line; ValueError naming the line that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {_first_line(error)}: fetch the data set again") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: {_first_line(error)}: fetch the data set again") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number} holds no object: fetch the data set again")
        rows.append(row)
    return rows


def is_path_template(stated: object, **numbers: int) -> TypeGuard[str]:
    """Whether a path info.json states can be filled in with these numbers and a camera, and stays in the data set."""
    if not isinstance(stated, str):
        return False
    try:
        filled = stated.format(**numbers, video_key="camera")
    except (KeyError, IndexError, ValueError, AttributeError, TypeError, MemoryError):
        return False
    return len(filled) < 4096 and not Path(filled).is_absolute() and ".." not in Path(filled).parts
