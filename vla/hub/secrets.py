"""What must not leave this machine, nor stand in a log: tokens, keys, passwords in URLs, and local paths."""

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import get_token

HIDDEN = "<secret>"
LOCAL = "<local>"

# The value of a plain `token:` or `secret:`: long, with letters and digits inside one part; not a number, not words and
# numbers put together (`paligemma-3b_224`), not a path.
# Possessive (`++`, `*+`) and bounded, so that no text can make the search slow.
_WORD = r"(?>[A-Za-z]+(?![A-Za-z\d])|\d+(?![A-Za-z\d])|[A-Za-z\d]{1,3}(?![A-Za-z\d]))"
_END = r"(?![\w.+/=~-])"
_RANDOM = (
    rf"(?![-+]?[\d.]{{1,40}}+(?:[eE][-+]?\d{{1,4}}+)?+{_END})"
    rf"(?!{_WORD}(?:[_./-]++{_WORD})*+{_END})"
    rf"(?![\w.+/=~-]{{0,500}}\.[a-z]{{1,20}}+{_END})"
    r"(?=[^\s\"',}]{0,500}[A-Za-z])(?=[^\s\"',}]{0,500}\d)[\w.+/=~-]{14,}+"
)

# What each looks like, and words one of which it must hold (small letters): a tokenizer has millions of characters.
# None of these can stand in a recipe, a tokenizer or a statistics file by chance.
_SECRETS: dict[str, tuple[tuple[str, ...], re.Pattern[str]]] = {
    kind: (hints, re.compile(pattern))
    for kind, hints, pattern in (
        ("a Hugging Face token", ("hf_",), r"(?<![A-Za-z0-9])hf_(?:oauth_)?[A-Za-z0-9]{20,}"),
        ("an OpenAI or Anthropic key", ("sk-",), r"\bsk-[A-Za-z0-9_-]{20,}"),
        (
            "a GitHub token",
            ("gh", "github_pat_"),
            r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
        ),
        ("a GitLab token", ("glpat-",), r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20,}"),
        ("an npm token", ("npm_",), r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{30,}"),
        ("a JSON web token", ("eyj",), r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
        ("an AWS key", ("akia", "asia"), r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
        ("a Google key", ("aiza",), r"\bAIza[0-9A-Za-z_-]{35}"),
        ("a Slack token", ("xox",), r"\bxox[abprs]-[0-9A-Za-z-]{10,}"),
        ("a private key", ("private key-----",), r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
        ("a password in a URL", ("://",), r"(?<=://)[^\s/:@\"']+:[^\s/@\"']+(?=@)"),
        (
            "a signed URL",
            ("signature=", "sig=", "token="),
            r"(?<=[?&])(?i:x-amz-signature|x-goog-signature|signature|sig|token|access_token)=[^\s&\"']{8,}",
        ),
        ("a bearer token", ("bearer ",), r"\b(?i:bearer) +[A-Za-z0-9._~+/=-]{8,}"),
        (
            "a key by its name",
            ("key", "token", "secret", "passwd", "password"),
            r"(?<![A-Za-z0-9])(?i:api[_-]?key|secret[_-]?(?:access[_-]?)?key|(?:access|auth|hf|wandb)[_-]?token"
            r"|(?:(?:storage[_-]?)?account|shared[_-]?access)[_-]?key|client[_-]?secret|passw(?:or)?d)"
            r"[\"']?\s*[:=]\s*[\"']?(?!(?i:null|none)\b)[^\s\"',}]{8,}",
        ),
        (
            "a secret by its name",
            ("token", "secret"),
            r"(?:(?<![A-Za-z0-9])(?i:token|secret)|(?<=[a-z])(?:Token|Secret))[\"']?\s*[:=]\s*[\"']?" + _RANDOM,
        ),
    )
}
_ESCAPED = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|(.))")
_DEEPEST = 3  # JSON in a string of JSON in a string
_HOME = re.compile(r"(?:(?<![\w.])/(?:home|Users)/[^\s/\"']+|(?<![\w.])/root/|[A-Za-z]:\\+Users\\+[^\s\\\"']+)")
_SEPARATOR = re.compile(r"[/\\]")  # of either kind of machine
_ABSOLUTE = re.compile(r"^(?:file://|~?/|~\w*/|[A-Za-z]:[\\/])")


def redact(text: str) -> str:
    """`text` without anything that looks like a secret and without this user's own token, whatever it looks like."""
    for token in _own_tokens():
        text = text.replace(token, HIDDEN)
    for _, pattern in _possible(text):
        text = pattern.sub(HIDDEN, text)
    return text


def find_secret(text: str) -> tuple[int, str] | None:
    """(line from 1, what kind) of a secret in a text, as it stands or behind JSON's escapes, or None.

    The secret itself is not returned.
    """
    for reading in _readings(text):
        for token in _own_tokens():
            if token in reading:
                return reading[: reading.index(token)].count("\n") + 1, "your Hugging Face token"
        for kind, pattern in _possible(reading):
            found = pattern.search(reading)
            if found is not None:
                return reading[: found.start()].count("\n") + 1, kind
    return None


def find_home(text: str) -> int | None:
    """The line (from 1) that first names somebody's home folder, or None."""
    own = f"{Path.home()}/"
    for reading in _readings(text):
        places = [match.start() for match in [_HOME.search(reading)] if match]
        if len(own) > 2 and own in reading:
            places.append(reading.index(own))
        if places:
            return reading[: min(places)].count("\n") + 1
    return None


def without_local_paths(text: str) -> tuple[str, int]:
    """A recipe's YAML with every absolute path of this machine cut to its last part, and how many there were.

    `/disk/alice/droid` becomes `<local>/droid`: on another machine only the name says anything.
    """
    count = 0

    def cut(item: Any) -> Any:
        nonlocal count
        if isinstance(item, dict):
            return {key: cut(value) for key, value in item.items()}
        if isinstance(item, list):
            return [cut(value) for value in item]
        if not isinstance(item, str) or not _ABSOLUTE.match(item):
            return item
        count += 1
        return f"{LOCAL}/{re.split(_SEPARATOR, item.rstrip('/'))[-1]}"

    shortened = cut(yaml.safe_load(text))
    return (yaml.safe_dump(shortened, sort_keys=False, allow_unicode=True), count) if count else (text, 0)


@contextmanager
def no_secrets_in_logs() -> Iterator[None]:
    """Every log record made inside, by any library and at any level, is redacted before a handler sees it."""
    plain = logging.getLogRecordFactory()

    def redacted(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = plain(*arguments, **named)
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip())
            record.exc_info = None
        return record

    logging.setLogRecordFactory(redacted)
    try:
        yield
    finally:
        logging.setLogRecordFactory(plain)


def _readings(text: str) -> Iterator[str]:
    """The text as it stands, and as a reader of its strings sees it, escapes undone; lines stay lines."""
    yield text
    for _ in range(_DEEPEST):
        if "\\" not in text:
            return
        # A line without escapes was looked at already.
        text = "\n".join(_ESCAPED.sub(_unescaped, line) if "\\" in line else "" for line in text.split("\n"))
        yield text


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    if code is None:
        return " " if found[4] in "nrtbf" else found[4]
    letter = chr(number) if (number := int(code, 16)) <= sys.maxunicode else " "
    return " " if letter.isspace() else letter


def _possible(text: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    """The patterns worth trying: each is slow beside a search for its words."""
    lowered = text.lower()
    for kind, (hints, pattern) in _SECRETS.items():
        if any(hint in lowered for hint in hints):
            yield kind, pattern


def _own_tokens() -> list[str]:
    """The tokens this process could send, longest first; very short ones would hide ordinary words."""
    named = (os.environ.get("HF_TOKEN"), os.environ.get("HUGGING_FACE_HUB_TOKEN"), get_token())
    return sorted({token for token in named if token and len(token) >= 6}, key=len, reverse=True)
