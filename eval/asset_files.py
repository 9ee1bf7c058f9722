"""Meshes and textures that no package ships: archives unpacked, contents told by git's own name for them."""

import hashlib
import subprocess
from pathlib import Path


def git_name(path: Path) -> str | None:
    """What git calls this content (SHA-1 of a blob, hex); None where there is no such file."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .tar.zst into a folder that is there; RuntimeError where it cannot be."""
    done = subprocess.run(
        ["tar", "--zstd", "-xf", str(archive), "-C", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"tar could not unpack {archive}: {done.stderr.strip()} (zstd must be installed)")


def archive_digest(archive: Path) -> str:
    """SHA-256 of a file, hex."""
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
