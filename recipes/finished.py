"""`done.json`: the mark of a step that is whole, with what it cost."""

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_mixtures.storage.whole_file import write_whole


@contextmanager
def done_when_whole(run: Path) -> Iterator[None]:
    """Write done.json with wall time (s, over all interruptions) and peak memory (bytes) when the block ends well."""
    spent = run / "spent.json"
    before = json.loads(spent.read_text())["wall_seconds"] if spent.exists() else 0.0
    began = time.perf_counter()
    try:
        yield
    finally:
        wall_seconds = before + time.perf_counter() - began
        _write(spent, {"wall_seconds": wall_seconds})
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    _write(run / "done.json", {"wall_seconds": wall_seconds, "peak_memory_bytes": 1024 * max(own, children)})


def has_all(run: Path, *files: str) -> bool:
    """True if a run folder holds all of these files, each of which appears when the work behind it is whole."""
    return all((run / name).exists() for name in files)


def _write(path: Path, values: dict[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)  # or a step that fails at once would hide why
    write_whole(path, json.dumps(values))
