"""The lock of a run folder: one process writes in it, and the kernel lets go of it however that process ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recipes.loading import RecipeError

_NAME = ".lock"
_PATIENCE_SECONDS = 0.2


@contextmanager
def only_writer(run: Path) -> Iterator[None]:
    """Refuse a second process in the same run folder (ranks of one launch share rank 0's lock)."""
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with (run / _NAME).open("w") as lock:
        if not _taken(lock.fileno()):
            raise RecipeError(f"`run: {run}` is in use by another process; wait for it or choose another folder.")
        yield


def _taken(lock: int) -> bool:
    """Take the lock, with patience for one that `in_use` holds for the moment of its question."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(_PATIENCE_SECONDS / 10)
        else:
            return True


def in_use(run: Path) -> bool:
    """Whether a process is at work in a run folder, there or not."""
    try:
        # Shared: two that only ask must not take each other for a writer.
        with (run / _NAME).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
