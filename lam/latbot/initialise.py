"""Starting values of a teacher that is trained from scratch, one parameter at a time, by name."""

import hashlib
import math

import torch
from torch import Tensor

from lam.latbot.config import LatBotConfig

TOWER = "encoder.vlm.vision_tower."
# Last projections of residual branches: scaled down by the number of branches, as in GPT-2.
_RESIDUAL = ("o_proj.weight", "down_proj.weight", "to_out.0.weight", "conv_point.weight")


def initial_value(name: str, shape: torch.Size, generator: torch.Generator, config: LatBotConfig) -> Tensor:
    """The starting value of the parameter `name` (its full path in `LatBot`), float32 on CPU.

    The frozen vision tower draws from its own seed, not from `generator`: runs that differ in their training seed
    alone share one feature cache.
    """
    if name.startswith(TOWER):
        return _tower_value(name.removeprefix(TOWER), shape, config)
    special = _special_value(name, shape, generator, config)
    if special is not None:
        return special
    if name.endswith("scale_shift_table"):
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5
    if len(shape) == 1:
        # vla.nn's RMSNorm (in the fusion parts alone) stores its weight as an offset from one.
        is_offset = ".fusion." in name
        return torch.zeros(shape) if name.endswith("bias") or is_offset else torch.ones(shape)
    value = _fan_in_normal(shape, generator)
    if name.endswith(_RESIDUAL):
        layers = config.decoder.num_layers if name.startswith("decoder.") else config.language.num_layers
        value = value / math.sqrt(2 * layers)
    return value


def _special_value(name: str, shape: torch.Size, generator: torch.Generator, config: LatBotConfig) -> Tensor | None:
    """Values that are not what the shape suggests, or None."""
    if name.endswith("_queries"):
        # Wide apart from the start: with 0.02 the queries of one table stay identical for hundreds of steps.
        return config.query_std * torch.randn(shape, generator=generator)
    if name.endswith("embed_tokens.weight"):
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5
    if name.endswith(
        ("out_proj.weight", "fusion.action_out.weight", "layernorm.dense.weight", "norm_out.dense.weight")
    ):
        return torch.zeros(shape)
    if name.endswith(".dense.bias"):
        scale_shift, gate = torch.zeros(2 * shape[0] // 3), torch.ones(shape[0] // 3)
        return torch.cat([scale_shift, gate])
    if name == "decoder.proj_out.weight" and config.decoder.zero_head:
        return torch.zeros(shape)
    if name == "decoder.patch_embed.proj.weight":
        channels = config.codec.channels
        base = _fan_in_normal(torch.Size((shape[0], channels, *shape[2:])), generator)
        return torch.cat([base, torch.zeros_like(base)], dim=1)
    return None


def _tower_value(name: str, shape: torch.Size, config: LatBotConfig) -> Tensor:
    """A random tower that keeps the pixels: orthogonal patch embedding, positions of the same size, small branches."""
    digest = hashlib.sha256(f"{config.vision.seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    if name.endswith("patch_embeddings.projection.weight"):
        matrix = torch.empty(shape[0], shape[1:].numel())
        return torch.nn.init.orthogonal_(matrix, generator=generator).view(shape)
    if name.endswith("position_embeddings"):
        return 0.5 * torch.randn(shape, generator=generator)
    if "lambda_" in name:
        return torch.full(shape, 0.1)
    if len(shape) == 1:
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    return _fan_in_normal(shape, generator)


def _fan_in_normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator) / math.sqrt(shape[1:].numel())
