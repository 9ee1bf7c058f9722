"""Where the files of AgiBot World's episodes are: in folders, or in the hub's tars, which are never unpacked.

Folders: observations/<task>/<episode>/videos/<camera>.mp4, proprio_stats/<task>/<episode>/proprio_stats.h5.
Tars, as on the hub: observations/<task>/<first>-<last>.tar with members <episode>/videos/<camera>.mp4 (and some 1,300
depth pictures an episode), proprio_stats/<first>-<last>.tar with members <task>/<episode>/proprio_stats.h5. The ranges
in their names overlap, so what a tar holds is read from its headers, once, when it is opened: 20 us a member.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from data_mixtures.defects import BadEpisodeError, Defect, DefectKind
from data_mixtures.readers.tar_members import BrokenTarError, member_path, tar_members
from data_mixtures.video.opened_files import OpenedFiles, Signature, signature

VIDEO_FOLDERS = ("videos", "video")
# Recorded data, then simulation (whose quaternions are wxyz).
PROPRIO_FOLDERS = ("proprio_stats", "meta_info")
RECORDED_PROPRIO, SIMULATED_PROPRIO = "proprio_stats.h5", "proprio_states.h5"

_MAX_CONTENT_BYTES = 1 << 28  # published h5 files are 1 MB


@dataclass(frozen=True)
class StoredFile:
    """A file of its own (size None) or a stretch of a tar."""

    file: Path
    offset: int = 0
    size: int | None = None


@dataclass(frozen=True)
class EpisodeFiles:
    """One episode's files.

    Attributes:
        proprio: the h5 of states; None where there is none.
        simulated: whether the h5 is a simulation's.
        videos: by file name without .mp4, sorted.
    """

    proprio: StoredFile | None
    simulated: bool
    videos: dict[str, StoredFile]


@dataclass
class _Tar:
    """One tar and where its episodes are: (task, episode) -> (first header, end of last member)."""

    path: Path
    num_bytes: int = 0
    spans: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    defect: BrokenTarError | OSError | None = None

    def is_torn(self, episode: tuple[str, str]) -> bool:
        """Whether the episode is the last before the damage: nothing says whether all of it is there."""
        return self.defect is not None and next(reversed(self.spans), None) == episode


class AgiBotFiles:
    """All episodes with observations, sorted by task and episode (who downloads a part has more h5 files than videos).

    Attributes:
        root: the data set's folder.
        keys: "<task>/<episode>".
        defects: tars that are cut short or damaged; the episodes before that are used, but for the last.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened = OpenedFiles()
        observations = list(_tasks_and_tars(root / "observations"))
        proprio = [found for folder in PROPRIO_FOLDERS for found in _tasks_and_tars(root / folder)]
        tars = [(path, task) for task, path in observations + proprio if path.suffix == ".tar"]
        with ThreadPoolExecutor(8) as pool:  # the scan waits for the disk
            self._tars = list(pool.map(_scan, *zip(*tars, strict=True))) if tars else []
        for tar in self._tars:
            self._opened.check(tar.path, tar.path.name)
        observed = {path for _, path in observations}
        found = {key for tar in self._tars if tar.path in observed for key in tar.spans}
        for task, folder in observations:
            if folder.suffix != ".tar":
                found.update((task, entry) for entry in _folders(folder))
        self.keys = [f"{task}/{episode}" for task, episode in sorted(found, key=_by_number)]
        self.defects = [self._defect(tar) for tar in self._tars if tar.defect is not None]

    def _defect(self, tar: _Tar) -> Defect:
        kind: DefectKind = "unreadable"
        if isinstance(tar.defect, BrokenTarError):
            kind = "truncated" if tar.defect.kind == "truncated" else "checksum"
        name = tar.path.relative_to(self.root).as_posix()
        return Defect(name, kind, f"{tar.defect}; {len(tar.spans)} episodes begin before that")

    def of(self, key: str) -> EpisodeFiles:
        """The files of one episode; BadEpisodeError when its tar is no longer the one that was opened."""
        task, _, episode = key.partition("/")
        files: dict[str, StoredFile] = {}
        for tar in self._tars:
            span = tar.spans.get((task, episode))
            if span is None:
                continue
            self._opened.check(tar.path, key)
            if tar.is_torn((task, episode)):
                raise BadEpisodeError(key, "truncated", f"{tar.path.name} is damaged after it begins: {tar.defect}")
            try:
                files.update(_members(tar.path, signature(tar.path), span, episode))
            except (BrokenTarError, OSError) as error:
                raise BadEpisodeError(key, "unreadable", f"{tar.path.name} cannot be read: {error}") from error
        for folder in self._folders_of(task, episode):
            files.update({path.name: StoredFile(path) for path in _data_files(folder)})
        simulated = SIMULATED_PROPRIO in files
        videos = {name[:-4]: files[name] for name in sorted(files) if name.endswith(".mp4")}
        return EpisodeFiles(files.get(SIMULATED_PROPRIO if simulated else RECORDED_PROPRIO), simulated, videos)

    def path(self, stored: StoredFile, key: str) -> Path:
        """Where to read a file of episode `key`; BadEpisodeError when it is gone or not the one seen before."""
        if stored.size is None:
            self._opened.check(stored.file, key)
            return stored.file
        try:
            return member_path(stored.file, stored.offset, stored.size)
        except OSError as error:
            raise BadEpisodeError(key, "unreadable", f"{stored.file.name} cannot be read: {error}") from error

    def content(self, stored: StoredFile, key: str) -> bytes:
        """All of a file; BadEpisodeError as from `path`, or when it is larger than any h5 of states."""
        try:
            with self.path(stored, key).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > _MAX_CONTENT_BYTES:
                    raise BadEpisodeError(key, "unreadable", f"{stored.file.name} holds {size} bytes of states")
                return file.read()
        except OSError as error:
            raise BadEpisodeError(key, "unreadable", f"{stored.file.name} cannot be read: {error}") from error

    def names_and_sizes(self) -> Iterator[tuple[str, int]]:
        """What the fingerprint is made of: every episode's name, the sizes of tars, labels and files in folders."""
        yield from ((key, 0) for key in self.keys)
        yield from ((tar.path.relative_to(self.root).as_posix(), tar.num_bytes) for tar in self._tars)
        for path in sorted((self.root / "task_info").glob("*.json")):
            yield path.name, path.stat().st_size
        for key in self.keys:
            task, _, episode = key.partition("/")
            for path in sorted(path for folder in self._folders_of(task, episode) for path in _data_files(folder)):
                yield path.name, self._opened.size(path)

    def _folders_of(self, task: str, episode: str) -> list[Path]:
        """Where an episode's files are if they are in no tar."""
        videos = [self.root / "observations" / task / episode / name for name in VIDEO_FOLDERS]
        return videos + [self.root / name / task / episode for name in PROPRIO_FOLDERS]


def _tasks_and_tars(folder: Path) -> Iterator[tuple[str, Path]]:
    """(task, its folder), (task, a tar in it) and ("", a tar of many tasks), sorted."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield path.name, path
            yield from ((path.name, tar) for tar in sorted(path.glob("*.tar")))
        elif path.suffix == ".tar":
            yield "", path


def _data_files(folder: Path) -> list[Path]:
    """Videos and h5 files; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.name.endswith((".mp4", ".h5"))]
    except (OSError, ValueError):
        return []


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir()]


def _by_number(key: tuple[str, str]) -> tuple[tuple[int, str], ...]:
    return tuple((int(part) if part.isdecimal() else 1 << 62, part) for part in key)


def _scan(path: Path, task: str) -> _Tar:
    """Every episode a tar holds a video or an h5 of."""
    tar = _Tar(path)
    try:
        with path.open("rb", buffering=0) as file:
            tar.num_bytes = os.fstat(file.fileno()).st_size
            for member in tar_members(file):
                parts = member.name.split("/")
                if parts[-1].endswith(".h5"):
                    folders = parts[:-1]
                elif parts[-1].endswith(".mp4") and len(parts) > 1 and parts[-2] in VIDEO_FOLDERS:
                    folders = parts[:-2]
                else:
                    continue
                if not folders or not (task or len(folders) > 1):
                    continue
                key = (task or folders[-2], folders[-1])
                first, _ = tar.spans.get(key, (member.header, 0))
                tar.spans[key] = (first, member.end)
    except (BrokenTarError, OSError) as error:
        tar.defect = error
    return tar


@lru_cache(maxsize=64)
def _members(path: Path, _: Signature, span: tuple[int, int], episode: str) -> dict[str, StoredFile]:
    """An episode's members by file name; reading its headers again costs less than remembering those of a million."""
    files: dict[str, StoredFile] = {}
    with path.open("rb", buffering=0) as file:
        for member in tar_members(file, *span):
            *folders, name = member.name.split("/")
            if episode in folders and name.endswith((".mp4", ".h5")) and "depth" not in folders:
                files[name] = StoredFile(path, member.offset, member.size)
    return files
