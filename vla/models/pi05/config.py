"""Sizes of the pi0.5-style student: the published one, and one a laptop can train."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from data_mixtures.spaces.unified import ACTION_DIM
from data_mixtures.storage.json_object import read_object
from data_mixtures.storage.whole_file import write_whole


@dataclass(frozen=True)
class VisionConfig:
    """A SigLIP tower over square images; the defaults are So400m/14 at 224 px (256 tokens an image)."""

    width: int = 1152
    depth: int = 27
    mlp_dim: int = 4304
    num_heads: int = 16
    patch_size: int = 14
    image_size: int = 224

    @property
    def num_tokens(self) -> int:
        """Tokens an image becomes."""
        return (self.image_size // self.patch_size) ** 2

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"vision.image_size {self.image_size} is not a multiple of vision.patch_size {self.patch_size}: "
                f"choose for example {self.image_size - self.image_size % self.patch_size}"
            )
        if self.width % self.num_heads:
            raise ValueError(f"vision.width {self.width} is not a multiple of vision.num_heads {self.num_heads}")


@dataclass(frozen=True)
class GemmaConfig:
    """A stack of Gemma layers; the defaults are Gemma-2B as PaliGemma uses it."""

    width: int = 2048
    depth: int = 18
    mlp_dim: int = 16384
    num_heads: int = 8
    num_kv_heads: int = 1
    head_dim: int = 256

    @property
    def attention_shape(self) -> tuple[int, int, int]:
        """What two stacks must agree on to share keys and values: (heads, kv heads, head dim)."""
        return self.num_heads, self.num_kv_heads, self.head_dim


@dataclass(frozen=True)
class LatentConfig:
    """Latent-action read-out: learned queries at the end of the prefix (LatBot, stage 2)."""

    scene_tokens: int = 64
    motion_tokens: int = 64
    width: int = 2048  # of the teacher's representations

    @property
    def num_tokens(self) -> int:
        """Scene and motion tokens together."""
        return self.scene_tokens + self.motion_tokens


@dataclass(frozen=True)
class Pi05Config:
    """The whole student. The defaults are the published pi0.5 base, without a latent read-out."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    vlm: GemmaConfig = field(default_factory=GemmaConfig)
    expert: GemmaConfig = field(default_factory=lambda: GemmaConfig(width=1024, mlp_dim=4096))
    vocab_size: int = 257_152
    action_dim: int = 32
    horizon: int = 50
    latent: LatentConfig | None = None
    keep_latent_tokens: bool = True  # the queries stay in the prefix in stage 3 and the expert attends to them
    gripper_logit: bool = False  # gripper dims of the clean estimate are logits (set by `loss: latbot`)
    noisy_padding: bool = False  # dimensions the robot lacks carry noise, as in published checkpoints; else they are 0
    state_in_prompt: bool = True  # write the discretised state into the prompt
    max_text_tokens: int = 200
    num_steps: int = 10  # Euler steps from noise to actions

    def __post_init__(self) -> None:
        if self.vlm.attention_shape != self.expert.attention_shape or self.vlm.depth != self.expert.depth:
            raise ValueError(
                "vlm and expert must share depth, num_heads, num_kv_heads and head_dim, because each expert layer "
                f"attends to the same VLM layer: vlm {(self.vlm.depth, *self.vlm.attention_shape)}, "
                f"expert {(self.expert.depth, *self.expert.attention_shape)}"
            )
        if self.vlm.num_heads % self.vlm.num_kv_heads:
            raise ValueError(f"vlm.num_heads {self.vlm.num_heads} is not a multiple of num_kv_heads")
        if self.horizon < 1 or self.action_dim < 1:
            raise ValueError(f"horizon ({self.horizon}) and action_dim ({self.action_dim}) must be at least 1")
        if self.num_steps < 1 or self.max_text_tokens < 1:
            raise ValueError(
                f"num_steps ({self.num_steps}) and max_text_tokens ({self.max_text_tokens}) must be at least 1"
            )

    @classmethod
    def nano(cls, latent: LatentConfig | None = None, **overrides: Any) -> "Pi05Config":
        """About a million parameters at 64 px: for tests and for learning on a CPU, in the unified action space."""
        sizes: dict[str, Any] = {
            "vision": VisionConfig(width=128, depth=3, mlp_dim=256, num_heads=4, patch_size=16, image_size=64),
            "vlm": GemmaConfig(width=128, depth=3, mlp_dim=256, num_heads=4, num_kv_heads=1, head_dim=32),
            "expert": GemmaConfig(width=96, depth=3, mlp_dim=192, num_heads=4, num_kv_heads=1, head_dim=32),
            "vocab_size": 1024,
            "action_dim": ACTION_DIM,
            "horizon": 16,
            "latent": latent,
        }
        return cls(**{**sizes, **overrides})

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_whole(path, json.dumps(asdict(self), indent=2))

    @classmethod
    def load(cls, path: Path) -> "Pi05Config":
        """Read what `save` wrote; ValueError names the file and the field that cannot be."""
        raw = read_object(path, "it holds a student's sizes; copy the model folder whole")
        try:
            return cls(**_sizes(cls, raw, ""))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


_PARTS = {"vision": VisionConfig, "vlm": GemmaConfig, "expert": GemmaConfig, "latent": LatentConfig}
# A query less is a read-out without it; nothing else can be absent.
_MAY_BE_ZERO = ("scene_tokens", "motion_tokens")


def _sizes(kind: type, raw: object, at: str) -> dict[str, Any]:
    """The arguments a stored part is made of. A field that older folders lack has its default."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"{at.rstrip('.')} is {raw!r}, but must be an object of sizes")
    known = {each.name: each for each in fields(kind)}
    if unknown := sorted(set(raw) - set(known)):
        raise ValueError(f"{at}{unknown[0]} is no field of it; known are {', '.join(known)}: was it written later?")
    if absent := sorted(name for name in _PARTS if name in known and name not in raw):
        raise ValueError(f"{at}{absent[0]} is missing: it is no student's, or cut short")
    return {name: _size(known[name].type, value, name, at) for name, value in raw.items()}


def _size(kind: object, value: object, name: str, at: str) -> object:
    if name in _PARTS and not (name == "latent" and value is None):
        part = _PARTS[name]
        return part(**_sizes(part, value, f"{at}{name}."))
    if kind is bool and not isinstance(value, bool):
        raise ValueError(f"{at}{name} is {value!r}, but must be true or false")
    least = 0 if name in _MAY_BE_ZERO else 1
    if kind is int and (type(value) is not int or value < least):
        raise ValueError(f"{at}{name} is {value!r}, but must be a whole number from {least} on")
    return value
