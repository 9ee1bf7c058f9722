"""What a run left out: one line of JSON a defect, in the order they were found."""

import fcntl
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from data_mixtures.defects import Defect

FILE_NAME = "quarantine.jsonl"
_Name = tuple[str, str, str]  # data set, key, kind


class Quarantine:
    """Defects of several data sets; of one kind, an episode has one.

    Attributes:
        path: the file every new defect is appended to at once, or None. Processes may share it: what one of them
            wrote the others do not repeat.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._found: dict[_Name, tuple[str, Defect]] = {}

    def add(self, dataset: str, defect: Defect) -> None:
        """Note a defect of a data set."""
        if _name(dataset, defect) in self._found:
            return
        self._found[_name(dataset, defect)] = dataset, defect
        if self.path is not None:
            _append(self.path, [(dataset, defect)])

    def write_to(self, path: Path) -> None:
        """From now on append to `path`, what was found so far included; defects it holds already are not repeated."""
        self.path = path
        if self._found:
            _append(path, self.defects)

    @property
    def defects(self) -> list[tuple[str, Defect]]:
        """(data set, defect), in the order found."""
        return list(self._found.values())

    def counts(self) -> dict[str, int]:
        """Defects of each kind."""
        return dict(Counter(defect.kind for _, defect in self.defects))


def read_quarantine(path: Path) -> list[tuple[str, Defect]]:
    """The (data set, defect) pairs of a quarantine.jsonl; a line cut short by a kill is left out."""
    return _parse(path.read_text(errors="replace"))


def _name(dataset: str, defect: Defect) -> _Name:
    """What makes two defects the same: the words may differ, by the frame that was asked for first."""
    return dataset, defect.key, defect.kind


def _parse(text: str) -> list[tuple[str, Defect]]:
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            found.append((entry.pop("dataset"), Defect(**entry)))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found


def _append(path: Path, found: Sequence[tuple[str, Defect]]) -> None:
    """Add what the file does not hold yet, each a line; one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        content = file.read()
        written = {_name(*pair) for pair in _parse(content.decode(errors="replace"))}
        lines = [
            json.dumps({"dataset": dataset, **asdict(defect)}, ensure_ascii=False) + "\n"
            for dataset, defect in found
            if _name(dataset, defect) not in written
        ]
        cut = "\n" if content and not content.endswith(b"\n") else ""  # a line that a kill cut short stays alone
        file.write((cut + "".join(lines)).encode(errors="replace"))
