"""Which tensors the published bfloat16 files keep in float32."""

import re
from collections import Counter
from typing import Literal

import torch

from vla.models.pi05.convert import WeightFile

Project = Literal["openpi", "lerobot"]

_ISLANDS = re.compile(
    r"(action|time)_.+"
    r"|.+\.(patch|position)_embedding\.(weight|bias)"
    r"|.+\.(language_model|gemma_expert\.model)\.(layers\.\d+\.(input|post_attention)_layernorm|norm)\..+"
)
_LEROBOT_ISLANDS = re.compile(r".+\.(vision_tower|multi_modal_projector)\..+")


def published_dtype(name: str, project: Project) -> torch.dtype:
    """The dtype a tensor has in a project's bfloat16 files; LeRobot also keeps the vision tower and projector."""
    island = _ISLANDS.fullmatch(name) or (project == "lerobot" and _LEROBOT_ISLANDS.fullmatch(name))
    return torch.float32 if island else torch.bfloat16


def stored_precision(weights: WeightFile) -> str:
    """A file's dtypes in words, with whose bfloat16 files have the same."""
    words = {torch.float32: "F32", torch.bfloat16: "BF16"}
    stored = {name: weights.dtype(name) for name in weights}
    counted = ", ".join(f"{count} {dtype}" for dtype, count in sorted(Counter(stored.values()).items()))
    projects: tuple[Project, ...] = ("openpi", "lerobot")
    same = [
        project
        for project in projects
        if all(words[published_dtype(name, project)] == dtype for name, dtype in stored.items())
    ]
    return f"{counted}, as {same[0]} writes bfloat16" if same else counted
