"""What a run left out: one line of JSON a defect, in the order they were found."""

import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from data_mixtures.defects import Defect

FILE_NAME = "quarantine.jsonl"


class Quarantine:
    """Defects of several data sets, each kept once.

    Attributes:
        path: the file every new defect is appended to at once, or None. Processes may share it: a line is written
            whole.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._found: dict[tuple[str, Defect], None] = {}

    def add(self, dataset: str, defect: Defect) -> None:
        """Note a defect of a data set."""
        if (dataset, defect) in self._found:
            return
        self._found[dataset, defect] = None
        if self.path is not None:
            _append(self.path, dataset, defect)

    def write_to(self, path: Path) -> None:
        """From now on append to `path`, what was found so far included; defects it holds already are not repeated."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        written = set(read_quarantine(path)) if path.exists() else set()
        for dataset, defect in self._found:
            if (dataset, defect) not in written:
                _append(path, dataset, defect)

    @property
    def defects(self) -> list[tuple[str, Defect]]:
        """(data set, defect), in the order found."""
        return list(self._found)

    def counts(self) -> dict[str, int]:
        """Defects of each kind."""
        return dict(Counter(defect.kind for _, defect in self._found))


def read_quarantine(path: Path) -> list[tuple[str, Defect]]:
    """The (data set, defect) pairs of a quarantine.jsonl; a line cut short by a kill is left out."""
    found = []
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        found.append((entry.pop("dataset"), Defect(**entry)))
    return found


def _append(path: Path, dataset: str, defect: Defect) -> None:
    line = json.dumps({"dataset": dataset, **asdict(defect)}, ensure_ascii=False) + "\n"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, line.encode())  # one write: lines of several processes do not mix
    finally:
        os.close(file)
