"""To the Hub: one commit that holds a run's model whole, under a tag that never moves to other weights."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from vla.hub.errors import LOG_IN, HubError, in_words
from vla.hub.run_files import CARD, MANIFEST, Outgoing, manifest
from vla.hub.secrets import no_secrets_in_logs

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Pushed:
    """What a push came to: `uploaded` and `deleted` are paths in the repository, both empty if nothing had changed."""

    url: str
    commit: str
    tag: str
    private: bool
    uploaded: tuple[str, ...]
    deleted: tuple[str, ...]
    bytes_uploaded: int


@dataclass
class _Remote:
    """A repository as it stands: `head` None and no files while it does not exist or is empty."""

    exists: bool = False
    private: bool = True
    head: str | None = None
    files: dict[str, RepoFile] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def push(
    files: Sequence[Outgoing],
    repo: str,
    tag: str,
    *,
    public: bool = False,
    card: Literal["keep", "replace"] | None = None,
    api: HfApi | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Pushed:
    """Upload what changed, in one commit, and tag it; the same call goes on after an interruption.

    Large files that arrived are not sent again (by chunk where the Hub stores with Xet and hf_xet is installed, else
    by file), and until the commit nobody sees any of it.

    Args:
        files: of the run, with the card; the manifest is added here.
        repo: `user/name`; made, private, if it does not exist.
        tag: of this model. It stays where it is if it already names the same model; other weights under it are refused.
        public: whether the repository may be seen by everyone; it is opened when the upload is complete.
        card: what to do with a README.md that was edited on the Hub; None refuses.
        api: of another endpoint or token than the environment's.
        say: told what is going on, a line at a time.

    Raises:
        HubError: no token or no right, the tag or the card is taken, the repository is public and `public` is not set.
        TransferStoppedError: the connection broke; the same call goes on.
    """
    api = api or HfApi()
    with in_words(repo, writing=True), no_secrets_in_logs():
        _check_names(repo, tag)
        _check_token(api, repo)
        remote = _look(api, repo)
        if remote.exists and not remote.private and not public:
            raise HubError(f"{repo} is public, so everyone would see this: add `--public`, or make it private first.")
        stamps = {file.path: _stamp(file) for file in files}
        all_files = [*files, manifest(list(files), tag)]
        _check_tag(api, repo, tag, remote, all_files)
        changed = [file for file in all_files if not _same(remote.files.get(file.path), file)]
        theirs = _pushed_before(api, repo, remote)
        changed = _spare_card(changed, remote, theirs, card, repo)
        gone = sorted(path for path in theirs if path in remote.files and path not in {f.path for f in all_files})
        if not remote.exists:
            api.create_repo(repo, private=True)
            remote = _look(api, repo)
            say(f"made {repo}, private")
        commit = remote.head
        if changed or gone or commit is None:
            say(f"uploading {len(changed)} file(s), {sum(file.size for file in changed) / 1e6:,.1f} MB")
            commit = _commit(api, repo, f"Push {tag}", remote.head, changed, gone, stamps)
        if tag not in remote.tags:
            api.create_tag(repo, tag=tag, revision=commit)
        elif remote.tags[tag] != commit:
            say(f"tag {tag} stays at {remote.tags[tag][:8]}: the model is the same, only what is told of it is new")
        if public and remote.private:
            api.update_repo_settings(repo, private=False)
            say(f"{repo} is public now")
    return Pushed(
        url=f"{api.endpoint}/{repo}/tree/{tag}",
        commit=str(commit),
        tag=tag,
        private=not public,
        uploaded=tuple(file.path for file in changed),
        deleted=tuple(gone),
        bytes_uploaded=sum(file.size for file in changed),
    )


def _check_names(repo: str, tag: str) -> None:
    if repo.count("/") != 1:
        raise HubError(f"--repo {repo}: write USER/NAME, as in `alice/drawer-policy`.")
    validate_repo_id(repo)
    if not _TAG.fullmatch(tag) or tag == "main" or ".." in tag:
        raise HubError(f"--tag {tag}: use letters, digits, dots, dashes and underscores, as in `step-600`; not `main`.")


def _check_token(api: HfApi, repo: str) -> None:
    """Ask who we are before any file is read: a wrong token must not cost minutes."""
    who = api.whoami()
    access = (who.get("auth") or {}).get("accessToken") or {}
    if access.get("role") == "read":
        name = access.get("displayName")
        raise HubError(f"{repo}: the token `{name}` may only read; {LOG_IN} that has the right to write.")


def _look(api: HfApi, repo: str) -> _Remote:
    try:
        info = api.model_info(repo)
    except RepositoryNotFoundError as error:
        if error.response.status_code != 404:
            raise
        return _Remote()
    if info.sha is None:
        return _Remote(exists=True, private=bool(info.private))
    return _Remote(
        exists=True,
        private=bool(info.private),
        head=info.sha,
        files=_tree(api, repo, info.sha),
        tags={ref.name: ref.target_commit for ref in api.list_repo_refs(repo).tags},
    )


def _tree(api: HfApi, repo: str, commit: str) -> dict[str, RepoFile]:
    entries = api.list_repo_tree(repo, revision=commit, recursive=True)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _same(there: RepoFile | None, here: Outgoing) -> bool:
    if there is None or there.size != here.size:
        return False
    sha256, blob = here.digests
    return there.lfs.sha256 == sha256 if there.lfs is not None else there.blob_id == blob


def _check_tag(api: HfApi, repo: str, tag: str, remote: _Remote, files: Sequence[Outgoing]) -> None:
    """A tag names one model for good: pushing other weights under it is an error, found before any upload."""
    if tag not in remote.tags:
        return
    tagged = _tree(api, repo, remote.tags[tag])
    for file in files:
        if file.is_model and not _same(tagged.get(file.path), file):
            raise HubError(
                f"{repo}: the tag `{tag}` already names another model ({file.path} differs), and tags do not move. "
                f"Give this one a name with `--tag NAME`, or delete that tag: `hf repos tag delete {repo} {tag}`."
            )


def _pushed_before(api: HfApi, repo: str, remote: _Remote) -> dict[str, dict[str, str]]:
    """Path -> digests of the files that the last push put there; only those are ours to replace or delete."""
    if MANIFEST not in remote.files:
        return {}
    path = api.hf_hub_download(repo, MANIFEST, revision=remote.head)
    try:
        rows = json.loads(Path(path).read_text())["files"]
        return {str(name): dict(row) for name, row in rows.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # somebody else's file of that name


def _spare_card(
    changed: list[Outgoing],
    remote: _Remote,
    theirs: dict[str, dict[str, str]],
    card: Literal["keep", "replace"] | None,
    repo: str,
) -> list[Outgoing]:
    there = remote.files.get(CARD)
    edited = there is not None and there.blob_id != theirs.get(CARD, {}).get("blob")
    if not edited or card == "replace" or all(file.path != CARD for file in changed):
        return changed
    if card is None:
        raise HubError(
            f"{repo}: its README.md was written or edited on the Hub. `--card replace` puts the new card in its place "
            "(the old one stays in the history), `--card keep` leaves it."
        )
    return [file for file in changed if file.path != CARD]


def _commit(
    api: HfApi,
    repo: str,
    message: str,
    parent: str | None,
    changed: Sequence[Outgoing],
    gone: Sequence[str],
    stamps: dict[str, tuple[int, int, int] | None],
) -> str:
    additions = [_addition(file) for file in changed]
    api.preupload_lfs_files(repo, additions, free_memory=False)
    for file in changed:
        if _stamp(file) != stamps.get(file.path):
            raise ValueError(f"{file.content} changed while it was uploaded; push again when the run is at rest.")
    deletions = [CommitOperationDelete(path) for path in gone]
    done = api.create_commit(repo, [*additions, *deletions], commit_message=message, parent_commit=parent)
    return done.oid


def _addition(file: Outgoing) -> CommitOperationAdd:
    addition = CommitOperationAdd(file.path, file.content)
    addition.upload_info.sha256 = bytes.fromhex(file.digests[0])  # already known: spares reading the weights again
    return addition


def _stamp(file: Outgoing) -> tuple[int, int, int] | None:
    if isinstance(file.content, bytes):
        return None
    now = file.content.stat()
    return now.st_size, now.st_mtime_ns, now.st_ino
