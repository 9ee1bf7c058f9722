"""quarantine.jsonl: every defect once, whole lines, from any number of processes."""

import multiprocessing
from pathlib import Path

from data_mixtures.defects import Defect
from data_mixtures.quarantine import Quarantine, read_quarantine


def test_the_file_says_each_defect_once(tmp_path: Path) -> None:
    path = tmp_path / "run" / "quarantine.jsonl"
    first = Quarantine()
    first.write_to(path)
    assert not path.exists(), "clean data leave no file"
    first.add("a", Defect("1", "video", "frame 3 does not decode"))
    path.write_bytes(path.read_bytes() + b'{"dataset": "a", "ke')  # a kill in the middle of a line
    other = Quarantine()
    other.add("a", Defect("1", "video", "frame 7 does not decode"))  # the same, met at another frame
    other.add("a", Defect("2", "length", "é"))
    other.write_to(path)
    other.add("b", Defect("1", "video", "x"))
    first.add("b", Defect("1", "video", "x"))
    assert [(name, d.key, d.kind) for name, d in read_quarantine(path)] == [
        ("a", "1", "video"), ("a", "2", "length"), ("b", "1", "video")
    ]  # fmt: skip
    assert other.counts() == {"video": 2, "length": 1}


def _add_all(path: Path) -> None:
    quarantine = Quarantine(path)
    for number in range(20):
        quarantine.add("set", Defect(str(number), "video", "x" * 200))


def test_processes_share_the_file(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_add_all, args=(path,)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(int(defect.key) for _, defect in read_quarantine(path)) == list(range(20))
    assert len(path.read_text().splitlines()) == 20
