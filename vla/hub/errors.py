"""What can go wrong between this machine and the Hub, in words that name the fix."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import errors as hub

from vla.hub.secrets import redact

_UNREACHABLE = ("ConnectError", "ConnectTimeout", "ProxyError")  # of httpx, or of httpx2: by huggingface_hub's version
_GOES_ON = "The same command goes on where this one stopped."
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token of https://huggingface.co/settings/tokens"


class HubError(ValueError):
    """The Hub refused or could not be reached; the message says what to do."""


class TransferStoppedError(RuntimeError):
    """A transfer broke off; the same command goes on where it stopped."""


@contextmanager
def in_words(repo: str, revision: str | None = None, writing: bool = False) -> Iterator[None]:
    """Turn huggingface_hub's errors into `HubError` and `TransferStoppedError`, without secrets in them or behind them.

    The chain is cut on purpose: a server may echo the token, and a traceback prints every error of the chain.
    """
    try:
        yield
    except (HubError, TransferStoppedError):
        raise
    except hub.HFValidationError as error:
        raise HubError(f"{redact(str(error))} Write the repository as USER/NAME.") from None
    except Exception as error:
        known = _known(error)
        if known is None and (isinstance(error, RuntimeError) or type(error).__module__.startswith("hf_xet")):
            raise TransferStoppedError(f"{repo}: the transfer stopped ({redact(str(error))}). {_GOES_ON}") from None
        if known is None:
            raise
        raise _words(known, repo, revision, writing) from None


def _known(error: BaseException) -> BaseException | None:
    """The error that says why: huggingface_hub wraps the ones of its upload threads and of its cache."""
    while error.__cause__ is not None and isinstance(error, (RuntimeError, hub.LocalEntryNotFoundError)):
        error = error.__cause__
    kinds = (hub.HTTPError, hub.OfflineModeIsEnabled, hub.LocalTokenNotFoundError, hub.LocalEntryNotFoundError)
    return error if isinstance(error, kinds) else None


def _words(error: BaseException, repo: str, revision: str | None, writing: bool) -> Exception:
    if isinstance(error, hub.OfflineModeIsEnabled):
        return HubError(
            f"{repo}: HF_HUB_OFFLINE is set, so the Hub is not asked{'' if writing else ', and it is not in the cache'}"
            "; unset HF_HUB_OFFLINE, or give a folder on this machine."
        )
    if isinstance(error, hub.LocalTokenNotFoundError):
        return HubError(f"{repo}: there is no Hugging Face token; {LOG_IN}.")
    if isinstance(error, hub.LocalEntryNotFoundError):
        return HubError(f"{repo}: not in the cache, and the Hub could not be asked; connect, or give a local folder.")
    if isinstance(error, hub.HfHubHTTPError):
        return _answered(error, repo, revision, writing)
    if type(error).__name__ in _UNREACHABLE:
        return HubError(
            f"{repo}: the Hub cannot be reached ({redact(str(error))}); check the network, the proxy, and HF_ENDPOINT "
            f"if it is set. {_GOES_ON}"
        )
    return TransferStoppedError(
        f"{repo}: the connection to the Hub failed ({type(error).__name__}: {redact(str(error))}). {_GOES_ON}"
    )


def _answered(error: hub.HfHubHTTPError, repo: str, revision: str | None, writing: bool) -> Exception:
    status = error.response.status_code
    said = redact(str(error.server_message or "").strip().replace("\n", " "))
    told = f" The Hub says: {said}" if said else ""
    if isinstance(error, hub.GatedRepoError):
        return HubError(f"{repo} is gated: ask for access at https://huggingface.co/{repo}, then {LOG_IN}.{told}")
    if isinstance(error, hub.RevisionNotFoundError):
        return HubError(f"{repo} has no revision `{revision}`; give one of its tags, its branches, or a commit.{told}")
    if status == 401:
        return HubError(f"{repo}: the Hub does not accept this token, or there is none; {LOG_IN}.{told}")
    if status == 403:
        right = "write to" if writing else "read"
        return HubError(
            f"{repo}: this token may not {right} it; use one with the right to {right} this namespace "
            f"(https://huggingface.co/settings/tokens).{told}"
        )
    if isinstance(error, hub.RepositoryNotFoundError) or status == 404:
        return HubError(
            f"{repo}: the Hub knows no such model, or it is private and this token may not see it; "
            f"check the spelling, or {LOG_IN}.{told}"
        )
    if status in (409, 412):
        return HubError(f"{repo} changed while this was under way; run the same command again.{told}")
    if status == 429 or status >= 500:
        return TransferStoppedError(f"{repo}: the Hub answers {status} for now; run the same command again.{told}")
    return HubError(f"{repo}: the Hub refuses with status {status}.{told}")
