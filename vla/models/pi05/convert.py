"""Foreign weights in and out: pi0.5 as openpi and LeRobot publish it, and plain PaliGemma.

Files are opened lazily and read one tensor at a time, so the peak is one tensor.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

_PALIGEMMA = "paligemma_with_expert.paligemma."
_HEAD = _PALIGEMMA + "lm_head.weight"
# (pattern of a foreign name, our name), tried in order on a name already stripped of LeRobot's `model.` prefix.
_RULES = (
    (r"action_time_mlp_(in|out)\.(.+)", r"time_mlp_\1.\2"),
    (re.escape(_PALIGEMMA) + r"model\.language_model\.embed_tokens\.weight", _HEAD),
    (r"(?:language_model\.)?(?:model\.)?language_model\.model\.embed_tokens\.weight", _HEAD),
    (r"(?:language_model\.)?lm_head\.weight", _HEAD),
    (r"language_model\.model\.(.+)", _PALIGEMMA + r"model.language_model.\1"),
    (r"(vision_tower|multi_modal_projector)\.(.+)", _PALIGEMMA + r"model.\1.\2"),
)
# In the files, of no use: pi0's state projection and the expert's dead output head.
_DEAD = re.compile(r"state_proj\..+|paligemma_with_expert\.gemma_expert\.lm_head\.weight")


def our_name(foreign: str) -> str | None:
    """The name a tensor of a published file has here, or None for one that is knowingly left out."""
    name = foreign
    if foreign.startswith("model.") and not foreign.startswith(("model.language_model.", "model.vision_tower.")):
        name = foreign.removeprefix("model.")
    if _DEAD.fullmatch(name):
        return None
    for pattern, replacement in _RULES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


class WeightFile:
    """The tensors of a model folder or .safetensors file (sharded or not), under our names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._where: dict[str, tuple[Path, str]] = {}
        for file in _weight_files(path):
            with safe_open(file, "pt") as opened:
                for foreign in opened.keys():  # noqa: SIM118 (the handle is no mapping)
                    name = our_name(foreign)
                    if name is not None:
                        self._where.setdefault(name, (file, foreign))

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor as float32.

        PaliGemma's own 257216-row embedding is cut to pi0.5's 257152 rows; any other difference in shape raises
        ValueError.
        """
        file, foreign = self._where[name]
        with safe_open(file, "pt") as opened:
            value: Tensor = opened.get_tensor(foreign).float()
        if name == _HEAD and value.shape[0] == 257_216 and shape[0] == 257_152:
            value = value[: shape[0]]
        if tuple(value.shape) != tuple(shape):
            raise ValueError(
                f"init_from {self.path}: {name} has shape {tuple(value.shape)}, the model's is {tuple(shape)}. "
                "Give the model the sizes the checkpoint was trained with, or name the tensor in `fresh`"
            )
        return value


def _weight_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    index = path / "model.safetensors.index.json"
    if index.is_file():
        mapping: dict[str, str] = json.loads(index.read_text())["weight_map"]
        return [path / name for name in sorted(set(mapping.values()))]
    if (path / "model.safetensors").is_file():
        return [path / "model.safetensors"]
    raise ValueError(
        f"init_from {path}: no model.safetensors there. Give the `model` folder of a finished run "
        "(run the stage that makes it first), or a published checkpoint's folder"
    )


def to_lerobot(state: Mapping[str, Any]) -> dict[str, Any]:
    """Our state dict under the names LeRobot writes and reads; the latent read-out keeps its own name."""
    return {f"model.{name}": value for name, value in state.items()}
