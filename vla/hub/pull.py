"""From the Hub: a model into a folder that appears whole or not at all, or into the cache."""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, ModelInfo, RepoFile, get_session, hf_hub_url, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, validate_repo_id

from data_mixtures.storage.whole_file import write_whole
from vla.hub.errors import HubError, in_words
from vla.hub.facts import PULLED, model_weights
from vla.hub.run_files import CARD, SAFE_NAME
from vla.hub.secrets import no_secrets_in_logs
from vla.hub.weights import PICKLES, SUFFIXES, is_pickle, read_header

_BLOCK = 1 << 20
_ATTEMPTS = 5  # without a byte of progress
_PAUSE_S = 1.0
_LARGEST_TEXT = 200_000_000  # bytes; the largest tokenizer has a tenth of it


@dataclass(frozen=True)
class Pulled:
    """A folder that came from the Hub; `left_out` are files of the repository that were not taken.

    `folder` is a run folder: the repository's root is in its `model`, its `run/` beside that.
    """

    folder: Path
    repo: str
    commit: str
    licence: str | None
    size: int
    parameters: int
    left_out: tuple[str, ...]
    fresh: bool


def download_model(repo: str, revision: str | None = None, api: HfApi | None = None) -> Path:
    """The model of a repository as a folder in huggingface_hub's cache, downloaded if it is not there.

    Only safetensors, JSON and tokenizer files are taken; code and pickles never are. With HF_HUB_OFFLINE, or without a
    network, what the cache holds is given.

    Args:
        repo: `user/name`.
        revision: tag, branch or commit; the newest by default.
        api: of another endpoint or token than the environment's.

    Raises:
        HubError: no such model or revision, no right to it, not in the cache while offline, or no safetensors in it.
        TransferStoppedError: the connection broke; the same call goes on.
    """
    api = api or HfApi()
    with in_words(repo, revision), no_secrets_in_logs():
        folder = Path(
            snapshot_download(
                repo,
                revision=revision,
                allow_patterns=["*.safetensors", "*.json", "tokenizer*", "*.model", "*.txt", "*.jinja"],
                ignore_patterns=["run/*", *(f"*{suffix}" for suffix in PICKLES)],
                endpoint=api.endpoint,
                token=api.token,
            )
        )
    weights = model_weights(folder)
    if not weights:
        raise HubError(f"{repo} holds no model.safetensors; only such weights are loaded, never pickles.")
    for path in weights:
        read_header(path)
    return folder


def pull(
    repo: str,
    to: Path,
    revision: str | None = None,
    api: HfApi | None = None,
    show: Callable[[str, int, int], None] = lambda *_: None,
) -> Pulled:
    """Download a model into `to`, laid out as a run folder; the same call goes on after an interruption.

    Files come one after the other into `.NAME.partial` beside it, each checked against the Hub's own hash, and the
    whole is renamed into place at the end. A folder that already holds this commit is left as it is.

    Args:
        repo: `user/name`.
        to: the folder to make.
        revision: tag, branch or commit; the newest by default.
        api: of another endpoint or token than the environment's.
        show: told (file, bytes that are there, bytes of it) as they come.

    Raises:
        HubError: no such model or revision, no right to it, no safetensors in it, or no room on the disk.
        ValueError: `to` holds something else or is a link, or a file is not what the Hub said.
        TransferStoppedError: the connection broke; the same call goes on.
    """
    api = api or HfApi()
    with in_words(repo, revision), no_secrets_in_logs():
        if repo.count("/") != 1:
            raise HubError(f"{repo}: write USER/NAME, as in `alice/drawer-policy`.")
        validate_repo_id(repo)
        info = api.model_info(repo, revision=revision)
        if info.sha is None:
            raise HubError(f"{repo} is empty: nothing was pushed to it yet.")
        entries = list(api.list_repo_tree(repo, revision=info.sha, recursive=True))
        files = [entry for entry in entries if isinstance(entry, RepoFile)]
        taken = _choose(repo, files)
        left_out = tuple(sorted({file.path for file in files} - {file.path for file in taken} - {".gitattributes"}))
        _refuse_link(to)
        if to.exists():
            return _already(repo, info, to, left_out)
        to.parent.mkdir(parents=True, exist_ok=True)
        marker = {"repo": repo, "commit": info.sha, "license": _licence_of(info)}
        with _partial(to, json.dumps(marker, indent=1)) as aside:
            _fetch_all(api, repo, info.sha, taken, aside, show)
            parameters = _check_weights(aside)
            aside.replace(to)
    return Pulled(to, repo, info.sha, marker["license"], sum(f.size for f in taken), parameters, left_out, fresh=True)


def place_in(folder: Path, path: str) -> Path:
    """Where a file of the repository goes: the root's into `model`, those of `run/` and the card beside it."""
    if path.startswith("run/"):
        return folder / path.removeprefix("run/")
    return folder / path if path == CARD else folder / "model" / path


def _choose(repo: str, files: list[RepoFile]) -> list[RepoFile]:
    """The files worth having: weights and text by the kinds of `weights.SUFFIXES`, licences, nothing that runs."""
    taken = [f for f in files if Path(f.path).suffix in SUFFIXES or Path(f.path).name.startswith(("LICENSE", "NOTICE"))]
    for file in taken:
        if not SAFE_NAME.fullmatch(file.path):
            raise HubError(f"{repo} holds a file named `{ascii(file.path)}`, which is not pulled; ask its owner why.")
        if file.lfs is None and file.size > _LARGEST_TEXT:
            raise HubError(f"{repo}: {file.path} is {file.size:,} bytes of text; that is not a model's.")
    if not any(f.path.endswith(".safetensors") and not f.path.startswith("run/") for f in taken):
        pickles = [f.path for f in files if Path(f.path).suffix in PICKLES]
        held = f"only pickles ({', '.join(pickles[:3])}), which run code when read" if pickles else "no weights"
        raise HubError(f"{repo} holds {held}; ask for a .safetensors version.")
    return taken


def _already(repo: str, info: ModelInfo, to: Path, left_out: tuple[str, ...]) -> Pulled:
    try:
        marker = json.loads((to / PULLED).read_text())
    except (OSError, ValueError):
        marker = {}
    if (marker.get("repo"), marker.get("commit")) != (repo, info.sha):
        commit = str(marker.get("commit"))[:8]
        held = f"holds {marker['repo']} at {commit}" if marker.get("repo") else "is something else"
        raise ValueError(f"{to} exists and {held}; give another folder with `--to FOLDER`, or remove it.")
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    return Pulled(to, repo, str(info.sha), marker.get("license"), size, _check_weights(to), left_out, fresh=False)


@contextmanager
def _partial(to: Path, marker: str) -> Iterator[Path]:
    """The folder that becomes `to`, for this process alone; what another commit left in it is thrown away."""
    aside = to.with_name(f".{to.name}.partial")
    _refuse_link(aside)
    if aside.exists() and not aside.is_dir():
        raise ValueError(f"{aside} is in the way, and is no folder; remove it, or give another folder than {to}.")
    aside.mkdir(exist_ok=True)
    handle = os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{to} is being pulled by another process; wait for it, or give another folder.") from None
        stamp = aside / PULLED
        if not stamp.exists() or stamp.read_text() != marker:
            for item in aside.iterdir():
                shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
            write_whole(stamp, marker)
        for root, folders, files in os.walk(aside):  # a file that is a link would be written through
            for name in (*folders, *files):
                _refuse_link(Path(root, name))
        yield aside
    finally:
        os.close(handle)


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise ValueError(
            f"{path} is a link to {os.readlink(path)}, and a pull writes and empties only a folder of its own; "
            "remove the link, or give another folder."
        )


def _fetch_all(
    api: HfApi, repo: str, commit: str, files: list[RepoFile], aside: Path, show: Callable[[str, int, int], None]
) -> None:
    missing = [file for file in files if not place_in(aside, file.path).exists()]
    needed, free = sum(file.size for file in missing), shutil.disk_usage(aside).free
    if needed > free:
        raise HubError(f"{repo} needs {needed / 1e9:,.1f} GB, {aside.parent} has {free / 1e9:,.1f} GB free; make room.")
    for file in sorted(missing, key=lambda f: (f.size, f.path)):
        target = place_in(aside, file.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        _fetch(api, repo, commit, file, part, show)
        _check_hash(repo, file, part)
        part.replace(target)


def _fetch(
    api: HfApi, repo: str, commit: str, file: RepoFile, part: Path, show: Callable[[str, int, int], None]
) -> None:
    """Bring a file's bytes into `part`, going on from those it has; a broken connection is tried again."""
    fruitless = 0
    while (had := _size(part)) < file.size or not part.exists():
        broken: Exception = HubError(f"{repo}: the Hub gives only {had:,} of the {file.size:,} bytes of {file.path}.")
        try:
            for there in _stream(api, repo, commit, file, part, had):
                show(file.path, there, file.size)
        except HfHubHTTPError:
            raise
        except HTTPError as error:  # of the transport: reset, cut short, timed out
            broken = error
        fruitless = 0 if _size(part) > had else fruitless + 1
        if fruitless >= _ATTEMPTS:
            raise broken
        if fruitless:
            time.sleep(_PAUSE_S)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _stream(api: HfApi, repo: str, commit: str, file: RepoFile, part: Path, had: int) -> Iterator[int]:
    """Append to `part` what comes, yielding its length after every block."""
    url = hf_hub_url(repo, file.path, revision=commit, endpoint=api.endpoint)
    headers = {**build_hf_headers(token=api.token), "Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
    with get_session().stream("GET", url, headers=headers, timeout=30.0) as response:
        if response.status_code >= 400:
            response.read()
        hf_raise_for_status(response)
        resumed = response.status_code == 206
        there = had if resumed else 0
        with part.open("ab" if resumed else "wb") as out:
            for block in response.iter_bytes():  # as they come: a break then loses none
                there += len(block)
                if there > file.size:
                    raise ValueError(f"{repo}: {file.path} is longer than the {file.size:,} bytes the Hub lists.")
                out.write(block)
                yield there


def _check_hash(repo: str, file: RepoFile, part: Path) -> None:
    """Against the Hub's SHA-256 of a large file, or git's id of a small one; a wrong one is thrown away."""
    digest = hashlib.sha256() if file.lfs else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with part.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != (file.lfs.sha256 if file.lfs else file.blob_id):
        part.unlink()
        raise ValueError(f"{repo}: {file.path} arrived damaged (not the Hub's hash); run the same command again.")


def _check_weights(folder: Path) -> int:
    """The model's parameters; raises ValueError for a pickle in disguise or weights that are not whole."""
    held = [path for path in sorted((folder / "model").rglob("*")) if path.is_file()]
    for path in held:
        if path.suffix != ".safetensors" and is_pickle(path):
            raise ValueError(f"{path.name} is a pickle under another name; do not use this repository.")
    headers = {path: read_header(path) for path in held if path.suffix == ".safetensors"}
    return sum(headers[path].parameters for path in model_weights(folder / "model"))


def _licence_of(info: ModelInfo) -> str | None:
    """The `license` in a repository's card, as the Hub read it."""
    licence = info.card_data.get("license") if info.card_data is not None else None
    return None if licence is None else str(licence)
