"""Sizes of the pi0.5-style student: the published one, and one a laptop can train."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_mixtures.spaces.unified import ACTION_DIM
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
        """Read what `save` wrote."""
        raw = json.loads(path.read_text())
        raw["vision"] = VisionConfig(**raw["vision"])
        raw["vlm"], raw["expert"] = GemmaConfig(**raw["vlm"]), GemmaConfig(**raw["expert"])
        raw["latent"] = LatentConfig(**raw["latent"]) if raw["latent"] else None
        return cls(**raw)
