"""Data sets behind URLs, mirrored into a local cache file by file: hf://, s3://, gs://, http(s):// and fsspec's others.

    <cache>/<protocol>/<path>/...          the files, each renamed into place when it is whole
    <cache>/<protocol>/<path>/.mirror.jsonl    a line for every file fetched: its name, size and the server's tag

A file is fetched if it is missing, or if its size or tag (ETag, blob id, time of change) is not the one it was fetched
with. So what was broken off goes on where it stopped, and a whole cache serves without a network.
"""

import fcntl
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec

from data_mixtures.storage.whole_file import write_whole

CACHE_VARIABLE = "VLA_CACHE"
FETCHED_AT_ONCE = 8
TRIES = 3
_JOURNAL, _LOCK, _ASIDE, _COMPLETE = ".mirror.jsonl", ".mirror.lock", ".mirror.part", "complete"
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub", "http": "aiohttp"} | {
    "https": "aiohttp",
    "az": "adlfs",
    "abfs": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "oss": "ossfs",
    "webdav": "webdav4",
}
# What servers call a file's version; the first that is there is compared.
_TAGS = ("ETag", "etag", "blob_id", "md5Hash", "md5", "sha256", "LastModified", "last_modified", "updated", "mtime") + (
    "created",
)
_log = logging.getLogger(__name__)

# (bytes fetched, bytes to fetch) of one call, called from several threads in turn.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RemoteFile:
    """One file of a listing.

    Attributes:
        name: its path below the data set's URL.
        size: bytes; None where the server does not say.
        tag: the server's word for its version, '' where there is none.
    """

    name: str
    size: int | None
    tag: str


def is_url(place: str | Path) -> bool:
    """Whether `place` names a data set behind a URL rather than a folder."""
    return "://" in str(place) and not str(place).startswith("file://")


def cache_folder() -> Path:
    """Where remote data sets are kept: $VLA_CACHE, else the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vla"


def localise(place: str | Path, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """The local folder of a data set: itself if it is one, else a mirror of the URL, brought up to date.

    Args:
        place: a folder, or the URL of one.
        cache: where mirrors are kept; `cache_folder()` when None.
        progress: called with the bytes fetched and to be fetched.

    Raises:
        ValueError: the protocol's package is missing, there is nothing at the URL, or it cannot be reached and the
            cache is not whole.
    """
    url = str(place)
    if not is_url(place):
        return Path(unquote(urlsplit(url).path)) if url.startswith("file://") else Path(place)
    folder = _mirror_folder(url, cache or cache_folder())
    filesystem, top = _open(url)
    with _locked(folder):
        mirror = _Mirror(folder)
        try:
            files = _listing(filesystem, top)
        except FileNotFoundError as error:
            raise ValueError(f"nothing at {url}: {error}") from error
        except Exception as error:  # every protocol has errors of its own for a network that is not there
            if mirror.is_complete:
                _log.warning("%s cannot be reached (%s): using the copy in %s", url, error, folder)
                return folder
            raise ValueError(f"{url} cannot be reached, and {folder} holds no whole copy: {error}") from error
        if not files:
            raise ValueError(f"nothing at {url}: the folder is empty, or its server lists no files")
        mirror.update(filesystem, top, files, url, progress)
    return folder


class _Mirror:
    """A folder that holds what a URL did, and the journal of how each file came."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known, self.is_complete = _read_journal(folder / _JOURNAL)

    def update(
        self,
        filesystem: fsspec.AbstractFileSystem,
        top: str,
        files: list[RemoteFile],
        url: str,
        progress: Progress | None,
    ) -> None:
        """Fetch what is missing or has changed, remove what is gone from the server."""
        for name in set(self.known) - {file.name for file in files}:
            (self.folder / name).unlink(missing_ok=True)
        wanted = [file for file in files if not self._is_fresh(file)]
        if not wanted and self.is_complete and len(files) == len(self.known):
            return
        self._write_journal([file for file in files if file not in wanted])
        transfer = _Transfer(filesystem, top, self.folder, sum(file.size or 0 for file in wanted), progress)
        with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
            jobs = [pool.submit(transfer.fetch, file) for file in wanted]
            try:
                for job in jobs:
                    job.result()
            except Exception as error:
                for job in jobs:
                    job.cancel()
                raise ValueError(f"{url} was not fetched whole: {error}. Run again: what is there is kept") from error
        with (self.folder / _JOURNAL).open("a") as journal:
            journal.write(json.dumps({_COMPLETE: True}) + "\n")
        shutil.rmtree(self.folder / _ASIDE, ignore_errors=True)

    def _is_fresh(self, file: RemoteFile) -> bool:
        known, path = self.known.get(file.name), self.folder / file.name
        if known is None or known.tag != file.tag or (file.size is not None and known.size != file.size):
            return False
        return path.is_file() and path.stat().st_size == known.size

    def _write_journal(self, kept: list[RemoteFile]) -> None:
        """Start the journal anew with what stays, so that it does not grow, and is not complete while fetching."""
        lines = [json.dumps(asdict(self.known[file.name])) + "\n" for file in kept]
        write_whole(self.folder / _JOURNAL, "".join(lines))


class _Transfer:
    """Fetches files of one listing, each whole or not at all."""

    def __init__(
        self,
        filesystem: fsspec.AbstractFileSystem,
        top: str,
        folder: Path,
        num_bytes: int,
        progress: Progress | None,
    ) -> None:
        self.filesystem, self.top, self.folder = filesystem, top, folder
        self.num_bytes, self.progress = num_bytes, progress
        self._done, self._lock = 0, threading.Lock()

    def fetch(self, file: RemoteFile) -> None:
        """Fetch one file aside, check its size, rename it into place and say so in the journal."""
        aside, target = self.folder / _ASIDE / file.name, self.folder / file.name
        aside.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        size = self._fetched(file, aside)
        os.replace(aside, target)
        with self._lock:
            with (self.folder / _JOURNAL).open("a") as journal:
                journal.write(json.dumps(asdict(RemoteFile(file.name, size, file.tag))) + "\n")
            self._done += size
            if self.progress is not None:
                self.progress(self._done, max(self.num_bytes, self._done))

    def _fetched(self, file: RemoteFile, aside: Path) -> int:
        for attempt in range(1, TRIES + 1):
            try:
                self.filesystem.get_file(f"{self.top.rstrip('/')}/{file.name}", str(aside))
                size = aside.stat().st_size
                if file.size is not None and size != file.size:
                    raise OSError(f"{file.name} came with {size} bytes of {file.size}")
                return size
            except Exception as error:  # as above: every protocol has its own
                if attempt == TRIES:
                    raise OSError(f"{file.name}: {error or type(error).__name__}") from error
                time.sleep(0.1 * attempt)
        raise AssertionError


def _open(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    protocol = urlsplit(url).scheme
    try:
        filesystem, top = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(protocol, "the package that fsspec names above")
        raise ValueError(f"{url} needs a package that is not installed: pip install {package} ({error})") from error
    except ValueError as error:
        raise ValueError(f"{url}: protocol {protocol!r} is not known to fsspec: {error}") from error
    filesystem.invalidate_cache()
    return filesystem, top


def _listing(filesystem: fsspec.AbstractFileSystem, top: str) -> list[RemoteFile]:
    """Every file below `top`, sorted by name; hidden ones left out."""
    is_web = "http" in filesystem.protocol
    if is_web:
        entries = dict(_walk(filesystem, top))
    else:
        filesystem.ls(top, detail=False)  # find() gives an empty list where the server is not there
        entries: dict[str, Any] = filesystem.find(top, detail=True)  # pyright: ignore[reportAssignmentType]
    below = {_name_below(name, top): entry for name, entry in entries.items()}
    names = sorted(name for name in below if _is_wanted(name))
    if is_web:  # a page of links says nothing about the files
        with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
            infos = list(pool.map(lambda name: filesystem.info(f"{top.rstrip('/')}/{name}"), names))
    else:
        infos = [below[name] for name in names]
    return [RemoteFile(name, info.get("size"), _tag(info)) for name, info in zip(names, infos, strict=True)]


def _walk(filesystem: fsspec.AbstractFileSystem, top: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files below `top` by following links; unlike find(), an error is one."""
    stack, seen = [top.rstrip("/") + "/"], set()
    while stack:
        place = stack.pop()
        for entry in filesystem.ls(place, detail=True):
            name = entry["name"]
            if name in seen or "?" in name or "#" in name or not name.startswith(place):
                continue
            seen.add(name)
            if entry["type"] == "directory" or name.endswith("/"):
                stack.append(name.rstrip("/") + "/")
            else:
                yield name, entry


def _name_below(name: str, top: str) -> str:
    return name.removeprefix(top.rstrip("/")).lstrip("/")


def _is_wanted(name: str) -> bool:
    parts = name.split("/")
    if ".." in parts or "\\" in name:
        raise ValueError(f"the server lists {name!r}, which would lie outside the data set")
    return bool(name) and not any(part.startswith(".") for part in parts)


def _tag(info: Mapping[str, Any]) -> str:
    return next((str(info[name]) for name in _TAGS if info.get(name)), "")


def _mirror_folder(url: str, cache: Path) -> Path:
    parts = urlsplit(url)
    names = [parts.scheme, parts.netloc.replace(":", "_"), *parts.path.split("/")]
    return cache.joinpath(*(name for name in names if name not in ("", ".", "..")))


def _read_journal(path: Path) -> tuple[dict[str, RemoteFile], bool]:
    known: dict[str, RemoteFile] = {}
    complete = False
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
            complete = bool(entry.get(_COMPLETE))
            if not complete:
                known[entry["name"]] = RemoteFile(**entry)
        except (ValueError, TypeError, KeyError, AttributeError):  # a line cut short: that file is fetched again
            complete = False
    return known, complete


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time mirrors into a folder; the kernel lets go however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error}): set {CACHE_VARIABLE} to a folder you own") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
