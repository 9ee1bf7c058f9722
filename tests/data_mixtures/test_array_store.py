"""Arrays built once, by one of many, whole or not at all."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from data_mixtures.storage.array_store import open_or_build


def test_many_openers_build_once(tmp_path: Path) -> None:
    built: list[int] = []

    def fill(array: np.ndarray) -> None:
        built.append(1)
        array[:] = np.arange(10)

    def open_it(_: int) -> np.ndarray:
        return open_or_build(tmp_path / "deep" / "array.npy", (10,), np.int64, fill)

    with ThreadPoolExecutor(8) as pool:
        arrays = list(pool.map(open_it, range(8)))
    assert len(built) == 1
    for array in arrays:
        np.testing.assert_array_equal(array, np.arange(10))
        assert not array.flags.writeable


def test_a_failed_fill_leaves_no_array_and_may_be_tried_again(tmp_path: Path) -> None:
    def fail(array: np.ndarray) -> None:
        array[0] = 7
        raise OSError("disk full")

    path = tmp_path / "array.npy"
    with pytest.raises(OSError, match="disk full"):
        open_or_build(path, (3,), np.int64, fail)
    assert not path.exists()
    assert open_or_build(path, (3,), np.int64, lambda array: None).tolist() == [0, 0, 0]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "mkdir", refuse)  # a mode would not stop root
    with pytest.raises(ValueError, match=r"data cannot be written \(.*copy the data set to a folder you own"):
        open_or_build(tmp_path / "data" / "array.npy", (3,), np.int64, lambda array: None)
