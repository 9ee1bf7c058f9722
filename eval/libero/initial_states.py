"""LIBERO's initial states: numpy pickles, read by an unpickler that can make arrays and nothing else."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


def _empty_array(kind: type, shape: Any, code: bytes) -> NDArray[Any]:
    if kind is not np.ndarray or shape != (0,) or code != b"b":
        raise pickle.UnpicklingError("an array that numpy would not have written")
    return np.ndarray((0,), dtype="b")


def _dtype(code: str, align: bool, copy: bool) -> np.dtype[Any]:
    # Of object arrays the content would be pointers.
    if (code, align, copy) != ("f8", False, True):
        raise pickle.UnpicklingError(f"dtype {code!r}: only float64 is expected")
    return np.dtype("f8", align=False, copy=True)


# What the 130 files name, and what each name stands for here.
_ALLOWED = {
    ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}") from None


def load_initial_states(path: Path) -> NDArray[np.float64]:
    """A task's initial states, float64 [trials, 1 + nq + nv]: time (s), positions, velocities of its MuJoCo model.

    Raises:
        ValueError: the file holds anything but one array of numbers; nothing in it was run.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
            states = _ArraysOnly(io.BytesIO(archive.read(name))).load()
    except (pickle.UnpicklingError, zipfile.BadZipFile, ValueError, TypeError, EOFError) as error:
        raise ValueError(f"initial states: {path} is not a file of numbers as LIBERO ships it ({error})") from error
    if not (isinstance(states, np.ndarray) and states.dtype == np.float64 and states.ndim == 2):
        raise ValueError(f"initial states: {path} does not hold one table of numbers")
    return states
