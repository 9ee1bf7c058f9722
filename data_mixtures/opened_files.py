"""Notices that a file is not the one that was opened: replaced, grown or cut while a run reads it."""

import os
from pathlib import Path

from data_mixtures.defects import BadEpisodeError

Signature = tuple[int, int, int]


def signature(path: Path | str) -> Signature:
    """What changes when a file does: size in bytes, time of writing in ns, inode."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino


class OpenedFiles:
    """Remembers how every file looked when it was first seen."""

    def __init__(self) -> None:
        # A hash is 60 bytes an entry less than the tuple; two million files are then 200 MB less.
        self._seen: dict[str, int] = {}

    def check(self, path: Path | str, key: str) -> None:
        """Raise BadEpisodeError for episode `key` if the file is gone, or not the one seen before."""
        try:
            found = hash(signature(path))
        except (OSError, ValueError) as error:
            raise BadEpisodeError(key, "unreadable", f"{path} cannot be opened: {error}") from error
        if self._seen.setdefault(str(path), found) != found:
            raise BadEpisodeError(key, "changed", f"{path} is not the file that was opened: it was replaced or written")
