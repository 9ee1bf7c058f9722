"""A .npy file that grows row by row, for arrays whose length is known only at the end."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_HEADER_BYTES = 128  # room for any shape of ours; numpy pads to a multiple of 64 itself


class NpyStream:
    """Appends [n, columns] arrays; `close` writes the header, so that until then the file is no .npy.

    Args:
        path: the file to write.
        dtype: of its values.
        columns: values a row.
    """

    def __init__(self, path: Path, dtype: str, columns: int) -> None:
        self.path, self.dtype, self.columns = path, np.dtype(dtype), columns
        self._num_rows = 0
        self._any = np.zeros(columns, dtype=bool)
        self._file = path.open("wb")
        self._file.write(b"\0" * _HEADER_BYTES)

    def append(self, rows: np.ndarray) -> None:
        """Add rows [n, columns]."""
        if rows.dtype != self.dtype or rows.shape[1:] != (self.columns,):
            raise ValueError(f"{self.path.name} takes {self.dtype} [n, {self.columns}], got {rows.dtype} {rows.shape}")
        self._file.write(np.ascontiguousarray(rows).data)
        self._any |= rows.astype(bool).any(axis=0)
        self._num_rows += len(rows)

    def columns_with_any(self) -> list[int]:
        """The columns in which any value so far is not 0."""
        return np.flatnonzero(self._any).tolist()

    def close(self, keep: Sequence[int] | None = None) -> None:
        """Finish the file, with only the columns of `keep` if given."""
        self._file.seek(0)
        self._file.write(_header(self._num_rows, self.columns, self.dtype))
        self._file.close()
        if keep is not None and len(keep) < self.columns:
            self._drop_others(list(keep))

    def abandon(self) -> None:
        """Close the file as it is, unless it is finished."""
        self._file.close()

    def _drop_others(self, keep: list[int]) -> None:
        whole = np.load(self.path, mmap_mode="r")
        aside = self.path.with_name(f".{self.path.name}.narrow")
        narrow = NpyStream(aside, str(self.dtype), len(keep))
        for first in range(0, len(whole), 1 << 16):
            narrow.append(np.asarray(whole[first : first + (1 << 16), keep]))
        narrow.close()
        os.replace(aside, self.path)


def _header(rows: int, columns: int, dtype: np.dtype) -> bytes:
    """The .npy 1.0 header of a C-ordered array, padded to _HEADER_BYTES."""
    descr = np.lib.format.dtype_to_descr(dtype)
    words = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
    text = words.encode("latin1").ljust(_HEADER_BYTES - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
