"""Notices that a folder of derived files is not what was written: a full disk, a broken copy, a bad block."""

import json
import zlib
from pathlib import Path

_NAME = "seal.json"
_CHECKED_BYTES = 4 << 20  # larger files are known by their size alone: opening costs no more for a million episodes


def seal(folder: Path) -> None:
    """Note the size and the checksum of every file in the folder, as the last thing that is written into it."""
    (folder / _NAME).write_text(json.dumps(_sums(folder), indent=1))


def is_sealed(folder: Path) -> bool:
    """Whether the folder holds what it did when it was sealed, as far as that can be seen in milliseconds."""
    try:
        return json.loads((folder / _NAME).read_text()) == _sums(folder)
    except (OSError, ValueError):
        return False


def _sums(folder: Path) -> dict[str, list[int]]:
    return {path.name: _sum(path) for path in sorted(folder.iterdir()) if path.name != _NAME}


def _sum(path: Path) -> list[int]:
    size = path.stat().st_size
    return [size, zlib.crc32(path.read_bytes()) if size <= _CHECKED_BYTES else 0]
