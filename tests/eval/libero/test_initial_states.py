import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.libero.initial_states import load_initial_states
from eval.libero.install import LIBERO
from eval.libero.tasks import TASKS


def _saved(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    return path


class _Touches:
    """A pickle that runs a command where it is unpickled carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.skipif(LIBERO.found() is None, reason="LIBERO is not set up; run `vla setup libero`")
def test_all_130_are_what_torch_reads() -> None:
    import torch

    core = np._core.multiarray  # type: ignore[attr-defined]
    allowed = [(core._reconstruct, "numpy.core.multiarray._reconstruct"), np.ndarray, np.dtype, np.dtypes.Float64DType]
    (folder,) = (LIBERO.folder / "lib").glob("python3.*/site-packages/libero/libero/init_files")
    read = 0
    for suite, tasks in TASKS.items():
        for task in tasks:
            path = folder / suite / f"{task}.pruned_init"
            with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the pickle's own age
                theirs = torch.load(path, weights_only=True)
            ours = load_initial_states(path)
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs)
            assert len(ours) == 50
            read += 1
    assert read == 130


def test_an_array_comes_through(tmp_path: Path) -> None:
    # As numpy 1 wrote it in pickle protocol 2.
    states = np.arange(12, dtype=np.float64).reshape(3, 4)
    content = pickle.dumps(states, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert np.array_equal(load_initial_states(_saved(tmp_path / "a.pruned_init", content)), states)


def test_a_pickle_that_would_run_something_does_not(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    content = pickle.dumps(_Touches(marker), protocol=2)
    with pytest.raises(ValueError, match="is not a file of numbers"):
        load_initial_states(_saved(tmp_path / "b.pruned_init", content))
    assert not marker.exists()
    pickle.loads(content)  # it is a working one
    assert marker.exists()


@pytest.mark.parametrize(
    "value", [np.array([{"a": 1}], dtype=object), {"a": 1}, np.arange(3.0), np.arange(4).reshape(2, 2)]
)
def test_other_contents_are_refused(tmp_path: Path, value: Any) -> None:
    content = pickle.dumps(value, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    with pytest.raises(ValueError, match=r"initial states: .*c\.pruned_init"):
        load_initial_states(_saved(tmp_path / "c.pruned_init", content))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "d.pruned_init").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match=r"d\.pruned_init is not a file of numbers"):
        load_initial_states(tmp_path / "d.pruned_init")
    with pytest.raises(ValueError, match=r"e\.pruned_init"):
        load_initial_states(_saved(tmp_path / "e.pruned_init", pickle.dumps(np.arange(4.0), protocol=2)[:60]))
