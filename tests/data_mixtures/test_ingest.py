"""Ingest: the same bytes whatever happens on the way."""

import filecmp
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_reader import ArrayReader

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.quarantine import read_quarantine
from data_mixtures.shards import assembly
from data_mixtures.shards.ingest import IngestProgress, ingest
from data_mixtures.shards.shard_frames import open_shards
from data_mixtures.shards.verify import verify

SIZE = 32
LENGTHS = (9, 5, 20, 3, 12)
OPEN = partial(ArrayReader, LENGTHS, height=24, width=32)


def files_of(root: Path) -> Iterator[str]:
    return (path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file())


def assert_same(a: Path, b: Path) -> None:
    names = list(files_of(a))
    assert names == list(files_of(b))
    _, different, missing = filecmp.cmpfiles(a, b, names, shallow=False)
    assert different == missing == []


@pytest.fixture(scope="module", autouse=True)
def _small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "SHARD_BYTES", 2000)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "set"
    ingest(OPEN, root, name="set", size=SIZE)
    return root


def test_workers_change_nothing(whole: Path, tmp_path: Path) -> None:
    seen: list[IngestProgress] = []
    meta = ingest(OPEN, tmp_path / "set", name="set", size=SIZE, workers=2, on_progress=seen.append)
    assert_same(whole, tmp_path / "set")
    assert (meta.num_rows, meta.num_episodes) == (sum(LENGTHS), len(LENGTHS))
    assert [progress.done_episodes for progress in seen] == [1, 2, 3, 4, 5]
    assert seen[-1] == IngestProgress(5, 5, sum(LENGTHS), 0)
    assert list(tmp_path.iterdir()) == [tmp_path / "set"]  # nothing left beside it


class Killed(BaseException):
    """Stands for a kill -9: nothing catches it, nothing cleans up after it."""


@pytest.mark.parametrize("at", [1, 7, 15, 21, 25, 27, 29, 31])
def test_a_kill_anywhere_changes_nothing(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Every rename and every deletion is a place to die at: before it, and after it."""
    calls = 0

    def dying(original: object) -> object:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed
            result = original(*args, **kwargs)  # pyright: ignore[reportCallIssue]
            calls += 1
            if calls == at:
                raise Killed
            return result

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr(Path, "replace", dying(Path.replace))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        with pytest.raises(Killed):
            ingest(OPEN, tmp_path / "set", name="set", size=SIZE)
    assert not (tmp_path / "set" / "shards.json").exists() or calls > 25
    ingest(OPEN, tmp_path / "set", name="set", size=SIZE)
    assert_same(whole, tmp_path / "set")


SCRIPT = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_ingest import MANY
from data_mixtures.shards.ingest import ingest

if __name__ == "__main__":
    ingest(MANY, Path(sys.argv[1]), name="set", size=64, workers=2)
"""
MANY = partial(ArrayReader, (8,) * 40, height=64, width=64)


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_kill_9_with_workers_and_the_same_command_again(tmp_path: Path) -> None:
    script = tmp_path / "again.py"
    script.write_text(SCRIPT)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    parts = tmp_path / ".killed.ingest" / "parts"
    with subprocess.Popen([sys.executable, str(script), str(tmp_path / "killed"), *paths]) as process:
        while process.poll() is None and len(list(parts.glob("part-*"))) < 3:
            time.sleep(0.002)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed").exists()
    until = time.monotonic() + 120  # one that is still importing sees it afterwards
    while any(_runs(worker) for worker in workers):  # they end with it
        assert time.monotonic() < until, "workers outlived the ingest they belong to"
        time.sleep(0.01)
    finished = {path.name: path.stat().st_ino for path in parts.glob("part-*")}
    assert 3 <= len(finished) < 40
    time.sleep(0.1)
    assert {path.name for path in parts.glob("part-*")} == set(finished)
    ingest(MANY, tmp_path / "killed", name="set", size=64)
    ingest(MANY, tmp_path / "straight", name="set", size=64)
    assert_same(tmp_path / "killed", tmp_path / "straight")
    assert verify(tmp_path / "killed") == []


BAD = partial(ArrayReader, LENGTHS, height=24, width=32, bad=frozenset({0}), bad_frames={2: 17})


def test_bad_episodes_are_left_out_and_named(tmp_path: Path) -> None:
    meta = ingest(BAD, tmp_path / "set", name="odd", size=SIZE)
    assert (meta.num_episodes, meta.num_quarantined, meta.num_rows) == (3, 2, 5 + 3 + 12)
    found = [(name, defect.key, defect.kind) for name, defect in read_quarantine(tmp_path / "set" / "quarantine.jsonl")]
    assert found == [("odd", "made-up-0", "unreadable"), ("odd", "made-up-2", "video")]
    index, frames = open_shards(tmp_path / "set")
    assert [defect.key for defect in index.quarantined] == ["made-up-0", "made-up-2"]
    assert index.source_episode.tolist() == [1, 3, 4]
    assert index.first_row.tolist() == [0, 5, 8, 20]
    # Episode 2 failed half-way, after two groups were written: what follows it must not be shifted.
    alone = tmp_path / "alone"
    ingest(OPEN, alone, name="odd", size=SIZE, episodes=(3, 5))
    expected = open_shards(alone)[1].images("front", np.arange(15), SIZE)
    assert np.array_equal(frames.images("front", np.arange(5, 20), SIZE), expected)


def test_strict_stops(tmp_path: Path) -> None:
    with pytest.raises(BadEpisodeError, match="made-up-0"):
        ingest(BAD, tmp_path / "set", name="odd", size=SIZE, strict=True)
    assert not (tmp_path / "set").exists()
    ingest(BAD, tmp_path / "set", name="odd", size=SIZE)
    assert (tmp_path / "set").exists()


def test_strict_stops_at_what_a_lenient_run_left_out(tmp_path: Path) -> None:
    parts = tmp_path / ".set.ingest" / "parts"
    with pytest.raises(KeyboardInterrupt):
        ingest(BAD, tmp_path / "set", name="odd", size=SIZE, on_progress=_interrupt)
    assert (parts / "part-00000").exists()
    with pytest.raises(BadEpisodeError, match="made-up-0"):
        ingest(BAD, tmp_path / "set", name="odd", size=SIZE, strict=True)


def _interrupt(progress: IngestProgress) -> None:
    raise KeyboardInterrupt


def test_what_opening_found_is_kept_and_strict(tmp_path: Path) -> None:
    lost = Defect("videos/file-003.mp4", "unreadable", "it is missing")
    reader = partial(ArrayReader, LENGTHS, height=24, width=32, bad=frozenset({0}), defects=(lost,))
    with pytest.raises(BadEpisodeError, match="file-003"):
        ingest(reader, tmp_path / "set", name="odd", size=SIZE, strict=True)
    assert ingest(reader, tmp_path / "set", name="odd", size=SIZE).num_quarantined == 2
    assert [d.key for d in open_shards(tmp_path / "set")[0].quarantined] == ["videos/file-003.mp4", "made-up-0"]


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    reader = partial(ArrayReader, (4, 4), bad=frozenset({0, 1}))
    with pytest.raises(ValueError, match="no episode of odd can be used.*made to be bad"):
        ingest(reader, tmp_path / "set", name="odd", size=SIZE)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"size": 33}, "even size"), ({"cameras": ["top"]}, "top"), ({"episodes": (2, 9)}, "0..5")],
)
def test_values_are_checked_before_any_work(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ingest(OPEN, tmp_path / "set", name="set", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_another_plan_does_not_mix_with_the_first(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ingest(OPEN, tmp_path / "set", name="set", size=SIZE, on_progress=_interrupt)
    with pytest.raises(ValueError, match="begun with .*'size': 32"):
        ingest(OPEN, tmp_path / "set", name="set", size=64)
    with pytest.raises(ValueError, match="other data or settings"):
        ingest(OPEN, whole, name="set", size=64)
    before = {name: (whole / name).stat().st_mtime_ns for name in files_of(whole)}
    ingest(OPEN, whole, name="set", size=SIZE)  # finished: nothing to do
    assert {name: (whole / name).stat().st_mtime_ns for name in files_of(whole)} == before


def test_a_full_disk_is_said_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(ValueError, match="are needed"):
        ingest(OPEN, tmp_path / "set", name="set", size=SIZE)


def test_two_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(progress: IngestProgress) -> None:
        with pytest.raises(ValueError, match="another ingest"):
            ingest(OPEN, tmp_path / "set", name="set", size=SIZE)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(OPEN, tmp_path / "set", name="set", size=SIZE, on_progress=nested)


def test_one_camera_of_two_and_several_shards(tmp_path: Path) -> None:
    meta = ingest(OPEN, tmp_path / "set", name="set", size=SIZE, cameras=["wrist/left"])
    assert meta.cameras == ["wrist/left"]
    assert len(meta.shard_names(0)) > 1
    index, frames = open_shards(tmp_path / "set")
    assert index.meta.cameras == ["wrist/left"]
    assert frames.images("wrist/left", np.arange(index.num_rows), SIZE).shape[0] == sum(LENGTHS)
    for name in meta.shard_names(0):
        assert (tmp_path / "set" / name).stat().st_size == meta.files[name].num_bytes


def test_long_episodes_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = ArrayReader.frames

    def frames(self: ArrayReader, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        asked.append(len(numbers))
        return original(self, index, camera, numbers)

    monkeypatch.setattr(ArrayReader, "frames", frames)
    meta = ingest(partial(ArrayReader, (100,), height=24, width=32), tmp_path / "set", name="long", size=SIZE)
    assert meta.num_rows == 100
    assert max(asked) <= 32
    assert sum(asked) == 200


def test_a_part_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        ingest(OPEN, tmp_path / "set", name="set", size=SIZE, on_progress=_interrupt)
    read: list[int] = []
    original = ArrayReader.frames

    def frames(self: ArrayReader, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        read.append(index)
        return original(self, index, camera, numbers)

    monkeypatch.setattr(ArrayReader, "frames", frames)
    ingest(OPEN, tmp_path / "set", name="set", size=SIZE)
    assert set(read) == {1, 2, 3, 4}
