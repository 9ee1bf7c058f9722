"""A recorded case: the inputs another implementation was given and what it answered, in one .npz file."""

import lzma
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vla.models.pi05.config import Pi05Config
from vla.models.pi05.convert import our_name
from vla.models.pi05.model import Prefix

# Entry -> its sizes by letter, and numpy's kind of its numbers. C cameras, B samples, R pixels of a side, N text
# tokens, S actions of a chunk, A numbers of an action, P prefix tokens, W width of the VLM, G gradients.
_ENTRIES = {
    "images": ("C B 3 R R", "f"),
    "img_masks": ("C B", "b"),
    "tokens": ("B N", "iu"),
    "masks": ("B N", "b"),
    "actions": ("B S A", "f"),
    "noise": ("B S A", "f"),
    "time": ("B", "f"),
    "sample_noise": ("B S A", "f"),
    "losses": ("B S A", "f"),
    "loss": ("", "f"),
    "grad_names": ("G", "U"),
    "grad_norms": ("G", "f"),
    "sampled_actions": ("B S A", "f"),
    "prefix_embs": ("B P W", "f"),
    "prefix_pad_masks": ("B P", "b"),
    "vision_heads": ("", "iu"),
    "head_dim": ("", "iu"),
    "num_steps": ("", "iu"),
    "clock": ("", "U"),
}
CLOCKS = ("lerobot", "openpi")
_PREFIX = ("images", "img_masks", "tokens", "masks")
_TRAINING = (*_PREFIX, "actions", "noise", "time")
# Recorded answers, and the inputs each needs.
_ANSWERS = {
    "losses": _TRAINING,
    "loss": _TRAINING,
    "grad_norms": (*_TRAINING, "grad_names"),
    "sampled_actions": (*_PREFIX, "sample_noise"),
    "prefix_embs": (*_PREFIX, "prefix_pad_masks"),
    "prefix_pad_masks": _PREFIX,
}


@dataclass(frozen=True)
class RecordedCase:
    """Inputs and recorded answers by name, checked against each other.

    Attributes:
        path: The file.
        tensors: Everything numeric, floating numbers as float32.
        grad_norms: The norm of each parameter's gradient, by the recorded name; empty where none is recorded.
        sizes: What each letter of the entries' shapes stands for.
        unread: Entries of the file that mean nothing here.
        clock: Whose Euler times the actions were sampled at, "lerobot" or "openpi"; None where it is not stated.
    """

    path: Path
    tensors: dict[str, Tensor]
    grad_norms: dict[str, float]
    sizes: dict[str, int]
    unread: tuple[str, ...]
    clock: str | None = None

    @classmethod
    def load(cls, path: Path) -> "RecordedCase":
        """Read and check a file; ValueError names the entry that is missing or does not fit."""
        arrays = _arrays(path)
        known = {name: array for name, array in arrays.items() if name in _ENTRIES}
        _check_complete(path, set(known))
        sizes = _check_shapes(path, known)
        norms: dict[str, float] = {}
        if "grad_norms" in known:
            norms = dict(zip(map(str, known["grad_names"]), map(float, known["grad_norms"]), strict=True))
        tensors = {
            name: _tensor(array) for name, array in known.items() if name != "grad_norms" and array.dtype.kind != "U"
        }
        return cls(path, tensors, norms, sizes, tuple(sorted(set(arrays) - set(known))), _clock(path, known))

    @property
    def horizon(self) -> int:
        """Actions of a chunk, 1 where the case has no actions."""
        return self.sizes.get("S", 1)

    def number(self, name: str) -> int | None:
        """A whole number the case states, or None."""
        value = int(self.tensors[name]) if name in self.tensors else None
        if value is not None and value < 1:
            raise ValueError(f"{self.path}: `{name}` is {value}; it must be at least 1")
        return value

    def prefix(self) -> Prefix:
        """What the policy observes."""
        t = self.tensors
        return Prefix(t["images"].transpose(0, 1), t["img_masks"].T, t["tokens"], t["masks"])

    def check(self, config: Pi05Config, parameters: set[str]) -> None:
        """Raise ValueError, naming entry and fix, unless the case is one of a model of these sizes."""
        cameras, text = self.sizes["C"], self.sizes["N"]
        expected = {"A": config.action_dim, "W": config.vlm.width, "P": cameras * config.vision.num_tokens + text}
        for letter, size in expected.items():
            if self.sizes.get(letter, size) != size:
                names = [name for name, (shape, _) in _ENTRIES.items() if letter in shape and name in self.tensors]
                raise ValueError(
                    f"{self.path}: {_quoted(names)} has {self.sizes[letter]} {_LETTERS[letter]}, but the weights have "
                    f"{size}; case and weights are of different models"
                )
        largest = int(self.tensors["tokens"].max())
        if largest >= config.vocab_size or int(self.tensors["tokens"].min()) < 0:
            raise ValueError(
                f"{self.path}: `tokens` reach {largest}, but the weights know 0 to {config.vocab_size - 1}"
            )
        for name in self.grad_norms:
            ours = our_name(name)
            if ours is not None and ours not in parameters:
                raise ValueError(f"{self.path}: `grad_names` has {name}, which is no parameter of π0.5")


_LETTERS = {"A": "numbers an action", "W": "numbers a token", "P": "prefix tokens"}


# What zipfile, its decompressors and numpy's reading of headers raise on damaged files.
_DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    LookupError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here and not by numpy, which leaves a broken file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as opened:
            return {name: opened[name] for name in opened.files}
    except _DAMAGE as error:
        raise ValueError(f"{path}: not a case in an .npz file of plain arrays ({error})") from error


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array.astype(np.bool_ if array.dtype.kind == "b" else np.int64))


def _clock(path: Path, arrays: dict[str, np.ndarray]) -> str | None:
    clock = str(arrays["clock"]) if "clock" in arrays else None
    if clock is not None and clock not in CLOCKS:
        raise ValueError(f"{path}: `clock` is {clock!r}; it must be one of {', '.join(CLOCKS)}, or be left out")
    return clock


def _check_complete(path: Path, names: set[str]) -> None:
    recorded = [name for name in _ANSWERS if name in names]
    if not recorded:
        raise ValueError(f"{path}: nothing to compare; a case records at least one of {_quoted(list(_ANSWERS))}")
    for name in recorded:
        absent = [needed for needed in _ANSWERS[name] if needed not in names]
        if absent:
            raise ValueError(f"{path}: records `{name}` but not {_quoted(absent)}, which it was computed from")


def _check_shapes(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, int]:
    """The size of every letter; ValueError names the first entry that contradicts an earlier one."""
    sizes: dict[str, int] = {}
    for name, (letters, kind) in _ENTRIES.items():
        if name not in arrays:
            continue
        array = arrays[name]
        if array.dtype.kind not in kind:
            words = {"f": "floating numbers", "b": "booleans", "iu": "whole numbers", "U": "text"}[kind]
            raise ValueError(f"{path}: `{name}` holds {array.dtype}, but must hold {words}")
        wanted = letters.split()
        known = [int(letter) if letter.isdigit() else sizes.get(letter) for letter in wanted]
        fits = len(wanted) == array.ndim and all(
            size > 0 and expected in (None, size) for size, expected in zip(array.shape, known, strict=True)
        )
        if fits:
            for letter, size in zip(wanted, array.shape, strict=True):
                fits = fits and (letter.isdigit() or sizes.setdefault(letter, size) == size)
        if not fits:
            meant = ", ".join(letter if size is None else str(size) for letter, size in zip(wanted, known, strict=True))
            raise ValueError(f"{path}: `{name}` has shape {array.shape}, but must be [{', '.join(wanted)}] = [{meant}]")
    return sizes


def _quoted(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
