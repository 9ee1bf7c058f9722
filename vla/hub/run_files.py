"""The files of a run that go to the Hub: the model's at the root, the run's own under `run/`, and nothing else."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vla.hub.secrets import find_home, find_secret, redact, without_local_paths
from vla.hub.weights import SUFFIXES, TEXT, header_text, is_pickle, read_header

CARD = "README.md"
MANIFEST = "run/manifest.json"
RUN_FILES = ("recipe.yaml", "versions.json", "metrics.jsonl", "done.json", "health.json")
"""What lies beside `model/` in a run folder and is shared. Checkpoints are left out: they are pickles, for resuming."""
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")

_BLOCK = 4 << 20


@dataclass(frozen=True)
class Outgoing:
    """One file as it will stand in the repository; `content` is a file here, or the bytes themselves."""

    path: str
    content: Path | bytes

    @property
    def is_model(self) -> bool:
        """Whether it is part of the model, rather than of what is told about it."""
        return not self.path.startswith("run/") and self.path != CARD

    @cached_property
    def size(self) -> int:
        """In bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    @cached_property
    def digests(self) -> tuple[str, str]:
        """(SHA-256, git's blob id) in hex: the Hub knows large files by the first, small ones by the second."""
        sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        for block in self._blocks():
            sha256.update(block)
            blob.update(block)
        return sha256.hexdigest(), blob.hexdigest()

    def _blocks(self) -> Iterator[bytes]:
        if isinstance(self.content, bytes):
            yield self.content
            return
        with self.content.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block


def collect(run: Path) -> tuple[list[Outgoing], list[str]]:
    """A training run's files, checked, and sentences on what was changed or left out on the way.

    Raises:
        ValueError: no model yet; a pickle, a link out of the run, a token or a home folder in what would be uploaded.
    """
    model = run / "model"
    if not model.is_dir():
        raise ValueError(f"{run} holds no `model`: it appears when training is done; give a run folder that has one.")
    if not model.resolve().is_relative_to(run.resolve()):
        raise ValueError(f"{model} is a link out of the run; copy the model into the run folder.")
    notes: list[str] = []
    outgoing = list(_model_files(run, model, notes))
    if not any(file.path.endswith(".safetensors") for file in outgoing):
        raise ValueError(f"{model} holds no .safetensors file; run the training again.")
    outgoing += _own_files(run, notes)
    return outgoing, notes


def manifest(files: list[Outgoing], tag: str) -> Outgoing:
    """`run/manifest.json`: what a push put there, so that the next one knows what is its own to replace."""
    rows = {
        file.path: {"size": file.size, "sha256": file.digests[0], "blob": file.digests[1]}
        for file in sorted(files, key=lambda f: f.path)
    }
    return Outgoing(MANIFEST, json.dumps({"format": 1, "tag": tag, "files": rows}, indent=1).encode())


def _model_files(run: Path, model: Path, notes: list[str]) -> Iterator[Outgoing]:
    for path in sorted(model.rglob("*")):
        name = path.relative_to(model).as_posix()
        if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(run.resolve())):
            raise ValueError(f"{path} is a link out of the run; copy what it points to, or remove it.")
        if path.is_dir() or any(part.startswith(".") for part in name.split("/")) or name.endswith(".partial"):
            continue
        if secret := find_secret(name):
            raise ValueError(f"{redact(str(path))}: the name looks like {secret[1]}; nothing was uploaded. Rename it.")
        if name == CARD or name.startswith("run/"):
            notes.append(f"model/{name} is left out: the card and run/ are made from the run")
            continue
        _check_name(path, name)
        if path.suffix == ".safetensors":
            read_header(path)
            _check_text(path, header_text(path))
        elif path.suffix in TEXT:
            text = _decoded(path)
            _check_text(path, text, homes=not name.startswith("tokenizer"))
            yield Outgoing(name, text.encode())  # what was looked at is what goes up
            continue
        yield Outgoing(name, path)


def _check_name(path: Path, name: str) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is not a plain file; remove it.")
    if is_pickle(path):
        raise ValueError(f"{path} is a pickle (or a format that can hold one), which runs code when read; remove it.")
    if path.suffix not in SUFFIXES or not SAFE_NAME.fullmatch(name):
        raise ValueError(f"{path} is nothing a model folder holds ({', '.join(SUFFIXES)}); remove or rename it.")


def _own_files(run: Path, notes: list[str]) -> Iterator[Outgoing]:
    for name in RUN_FILES:
        path = run / name
        if not path.exists():
            continue
        if not path.resolve().is_relative_to(run.resolve()):
            raise ValueError(f"{path} is a link out of the run; copy what it points to, or remove it.")
        text = _decoded(path)
        if name == "metrics.jsonl":  # a run that still writes may be in the middle of a line
            text = text[: text.rfind("\n") + 1]
        if name == "recipe.yaml":
            text, cut = without_local_paths(text)
            if cut:
                notes.append(f"recipe.yaml: {cut} absolute path(s) cut to <local>/NAME")
        _check_text(path, text)
        yield Outgoing(f"run/{name}", text.encode())


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text, as its name says; write it again or remove it.") from error


def _check_text(path: Path, text: str, homes: bool = True) -> None:
    secret = find_secret(text)
    if secret is not None:
        line, kind = secret
        raise ValueError(f"{path}, line {line}: this looks like {kind}; nothing was uploaded. Take it out.")
    if homes and (line := find_home(text)):
        raise ValueError(f"{path}, line {line}: this names a home folder; nothing was uploaded. Write a relative path.")
