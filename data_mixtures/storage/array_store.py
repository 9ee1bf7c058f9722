"""Arrays built once, kept as memory-mapped .npy files beside what they came from, and shared by every process."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike


def open_or_build(
    path: Path, shape: tuple[int, ...], dtype: DTypeLike, fill: Callable[[np.ndarray], None]
) -> np.ndarray:
    """The read-only array at `path`, filled by `fill(array)` if no process has done so yet.

    It is written aside and renamed, so a killed process leaves no half array; a lock file keeps the ranks of one
    machine from building the same array side by side.
    """
    if not is_whole(path, shape, dtype):
        with locked(path):
            if not is_whole(path, shape, dtype):
                create(path, shape, dtype, fill)
    return open_array(path)


def is_whole(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> bool:
    """Whether such an array is at `path`; one cut short by a full disk or a broken copy is none."""
    try:
        array = open_array(path)
    except Exception:  # numpy parses the header as Python and raises whatever the damage leads to
        return False
    return array.shape == shape and array.dtype == np.dtype(dtype)


def create(path: Path, shape: tuple[int, ...], dtype: DTypeLike, fill: Callable[[np.ndarray], None]) -> None:
    """Write an array aside through `fill`, then rename it to `path`."""
    aside = path.with_name(f".{path.name}.partial")
    array = np.lib.format.open_memmap(aside, mode="w+", dtype=np.dtype(dtype), shape=shape)
    fill(array)
    array.flush()
    os.replace(aside, path)


def open_array(path: Path) -> np.ndarray:
    """The .npy file as a read-only memory map, typed as a plain array (so that gathers return plain arrays)."""
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock beside `path`, whose folder is made if need be, against the other processes of this machine."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("w")
    except OSError as error:
        raise ValueError(
            f"{path.parent} cannot be written ({error.strerror}), and what is derived from a data set is kept there: "
            "copy the data set to a folder you own, or name one in VLA_CACHE"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel however the process ends
        yield
