"""Notices that a file is not the one that was opened: replaced, grown or cut while a run reads it."""

import os
from hashlib import blake2b
from pathlib import Path

from data_mixtures.defects import BadEpisodeError

Signature = tuple[int, int, int]


def signature(path: Path | str) -> Signature:
    """What changes when a file does: size in bytes, time of writing in ns, inode."""
    return _signature(os.stat(path))


class OpenedFiles:
    """Remembers how files looked when their data set was opened, or else when they were first read."""

    def __init__(self) -> None:
        # Numbers for both: two million files are 210 MB, with their paths and signatures as they are 0.7 GB.
        self._seen: dict[int, int] = {}

    def remember(self, path: Path | str, status: os.stat_result) -> None:
        """This is how a file looks, unless another look was remembered."""
        self._seen.setdefault(_name(path), hash(_signature(status)))

    def size(self, path: Path | str) -> int:
        """Bytes of a file as it is now, which is remembered; -1 where it is not there."""
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return -1
        self.remember(path, status)
        return status.st_size

    def check(self, path: Path | str, key: str) -> None:
        """Raise BadEpisodeError for episode `key` if the file is gone, or not the one remembered."""
        try:
            found = hash(signature(path))
        except (OSError, ValueError) as error:
            raise BadEpisodeError(key, "unreadable", f"{path} cannot be opened: {error}") from error
        if self._seen.setdefault(_name(path), found) != found:
            raise BadEpisodeError(key, "changed", f"{path} is not the file that was opened: it was replaced or written")


def _signature(status: os.stat_result) -> Signature:
    return status.st_size, status.st_mtime_ns, status.st_ino


def _name(path: Path | str) -> int:
    """A number for the path, the same in every process."""
    return int.from_bytes(blake2b(os.fsencode(path), digest_size=8).digest())
