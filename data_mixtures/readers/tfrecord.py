"""Records of a TFRecord file, found by their headers and read one at a time; no TensorFlow.

A record is: length u64, masked crc32c of the length u32, data, masked crc32c of the data u32; all little-endian.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from data_mixtures.defects import DefectKind

_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")
_AROUND = _HEADER.size + _FOOTER.size  # bytes a record has beside its data


class RecordError(ValueError):
    """A record that cannot be read; `kind` says how (see `DefectKind`)."""

    def __init__(self, kind: DefectKind, detail: str) -> None:
        super().__init__(detail)
        self.kind: DefectKind = kind


@dataclass(frozen=True)
class RecordIndex:
    """Where the records of one file are.

    Attributes:
        starts: int64 [n + 1]; record i lies in [starts[i], starts[i + 1]), header and footer included.
        problem: why the file holds no more records than these although it goes on; None where it ends in order.
    """

    starts: np.ndarray
    problem: RecordError | None

    def __len__(self) -> int:
        return len(self.starts) - 1


def masked_crc32c(data: bytes) -> int:
    """The checksum as TFRecord writes it: rotated and shifted, so that data holding checksums hash well."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def index_records(path: Path) -> RecordIndex:
    """Find every whole record, reading 12 bytes of each: its data is not read, so its checksum is not checked.

    After a damaged header nothing says where the next record begins, so the rest of the file is given up.
    """
    starts, problem = [0], None
    file = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(file).st_size
        if hasattr(os, "posix_fadvise"):  # reading ahead would fetch the data between the headers
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        position = 0
        while position < size and problem is None:
            try:
                position += _AROUND + _data_length(os.pread(file, _HEADER.size, position), position)
            except RecordError as error:
                problem = error
                break
            if position > size:
                problem = RecordError(
                    "truncated", f"ends at byte {size}, inside the record that begins at {starts[-1]}"
                )
            else:
                starts.append(position)
    finally:
        os.close(file)
    return RecordIndex(np.array(starts, dtype=np.int64), problem)


def read_record(path: Path, start: int, stop: int) -> bytes:
    """The data of the record in [start, stop) of the file, both checksums checked.

    Raises:
        RecordError: "unreadable", "truncated" or "checksum".
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise RecordError("unreadable", f"cannot be opened: {error}") from error
    try:
        length = _data_length(os.pread(file, _HEADER.size, start), start)
        if length != stop - start - _AROUND:
            raise RecordError("changed", f"the record at byte {start} has another length than when it was opened")
        data = os.pread(file, length, start + _HEADER.size)
        footer = os.pread(file, _FOOTER.size, start + _HEADER.size + length)
    except OSError as error:
        raise RecordError("unreadable", f"cannot be read: {error}") from error
    finally:
        os.close(file)
    if len(data) < length or len(footer) < _FOOTER.size:
        raise RecordError("truncated", f"ends inside the record that begins at byte {start}")
    if _FOOTER.unpack(footer)[0] != masked_crc32c(data):
        raise RecordError("checksum", f"the data of the record at byte {start} is not what was written")
    return data


def _data_length(header: bytes, position: int) -> int:
    if len(header) < _HEADER.size:
        raise RecordError("truncated", f"ends inside the record header at byte {position}")
    length, crc = _HEADER.unpack(header)
    if crc != masked_crc32c(header[:8]):
        raise RecordError("checksum", f"the record header at byte {position} is not what was written")
    return length
