"""Meshes and textures that no package ships: where they lie, how they get there, contents told by git's own name."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SOURCE = ".source"
_PUBLIC = "public"


@dataclass(frozen=True)
class AssetFolder:
    """Where a simulator's assets lie: in the folder that a variable of the environment names, else in our own.

    Attributes:
        simulator: As in `vla setup NAME`.
        title: The simulator in words.
        variable: Names a folder, or a .tar.zst with the same layout to be unpacked.
        mark: A file that every such folder holds.
        public: Where they are fetched from without the variable, in words.
    """

    simulator: str
    title: str
    variable: str
    mark: Path
    public: str

    def folder(self, simulators: Path) -> Path:
        """The assets as they are now: the folder the variable names, else what `vla setup` put into `simulators`.

        Raises:
            ValueError: There are none, or not those the variable names.
        """
        given = self._given()
        folder = given.absolute() if given and given.is_dir() else self._place(simulators)
        again = f"run `vla setup {self.simulator}`"
        if not (folder / self.mark).is_file():
            raise ValueError(f"{folder} holds no {self.title} assets ({self.mark} is missing); {again}")
        if given and not given.is_dir() and _source(folder) != archive_digest(given):
            raise ValueError(f"{self.variable}: {folder} was not unpacked from {given}; {again} again")
        return folder

    def place(
        self,
        simulators: Path,
        fetch: Callable[[Path], None],
        say: Callable[[str], None],
        finish: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """Make `folder` there, whole or not at all; without the variable, whole assets stay, wherever they came from.

        Args:
            simulators: Where `<simulator>_assets` is to be.
            fetch: Fills a folder from where they are public; it may hold what an interrupted fetch left.
            say: Told what is being done.
            finish: What is still to do to a filled folder.

        Raises:
            ValueError: The variable names nothing that is there.
            RuntimeError: What was unpacked or fetched is not the assets.
        """
        given = self._given()
        if given and not given.exists():
            raise ValueError(f"{self.variable}: {given} does not exist; name a folder or a .tar.zst")
        if given and given.is_dir():
            self.folder(simulators)
            return
        place, source = self._place(simulators), archive_digest(given) if given else _PUBLIC
        if (place / self.mark).is_file() and (given is None or _source(place) == source):
            return
        aside = place.with_name(f".{place.name}.partial")
        if given:
            say(f"{self.simulator}: unpacking {given}")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            unpack(given, aside)
        else:
            say(f"{self.simulator}: fetching {self.public}")
            fetch(aside)
        if not (aside / self.mark).is_file():
            raise RuntimeError(f"{given or self.public}: not {self.title}'s assets, {self.mark} is not in it")
        finish(aside)
        (aside / _SOURCE).write_text(source)
        shutil.rmtree(place, ignore_errors=True)
        aside.rename(place)

    def _given(self) -> Path | None:
        given = os.environ.get(self.variable)
        return Path(given) if given else None

    def _place(self, simulators: Path) -> Path:
        return simulators / f"{self.simulator}_assets"


def _source(folder: Path) -> str | None:
    """What the assets were made from: an archive's digest, or that they are the public ones."""
    try:
        return (folder / _SOURCE).read_text()
    except FileNotFoundError:
        return None


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
