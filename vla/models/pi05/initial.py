"""Starting values of fresh parameters: one rule a kind of name, a function of (name, shape, generator).

Published pi0.5 starts from PaliGemma; these rules are for what has no checkpoint, down to a nano student trained
from scratch, where the scale of a start decides whether the first thousand steps are wasted.
"""

import math

import torch
from torch import Tensor

from vla.models.pi05.config import Pi05Config

_RESIDUAL_OUTPUTS = ("o_proj", "down_proj", "out_proj", "fc2")


def initial_value(config: Pi05Config, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """The full float32 starting value of one parameter of `Pi05(config)`."""
    owner, _, kind = name.rpartition(".")
    module = owner.rpartition(".")[2]
    if module == "dense":
        # adaRMS: zero weight, bias at the Linear default: every expert layer starts as nearly the identity.
        return torch.zeros(shape) if kind == "weight" else _uniform(shape, config.expert.width, generator)
    if "norm" in module:
        return torch.ones(shape) if _is_layer_norm(name) and kind == "weight" else torch.zeros(shape)
    if kind == "bias":
        return torch.zeros(shape)
    if module == "position_embedding":
        return sincos_positions(*shape)
    if name.endswith("_queries"):
        return 0.5 * torch.randn(shape, generator=generator)
    if module == "lm_head":
        # Tied: looked-up embeddings are scaled by sqrt(width) to unit size, and logits come out with unit size.
        return torch.randn(shape, generator=generator) * shape[1] ** -0.5
    if module in ("action_out_proj", "proj"):
        # Heads start at zero: the first prediction is the mean of the target.
        return torch.zeros(shape)
    return _matrix(config, name, module, shape, generator)


def _matrix(config: Pi05Config, name: str, module: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    fan_in = math.prod(shape[1:])
    value = torch.randn(shape, generator=generator) * fan_in**-0.5
    if module in _RESIDUAL_OUTPUTS:
        depth = config.vision.depth if "vision_tower" in name else config.vlm.depth
        value = value * (2 * depth) ** -0.5
    return value


def _is_layer_norm(name: str) -> bool:
    return "vision_tower" in name  # the tower has LayerNorms; Gemma's norms store an offset from one


def _uniform(shape: torch.Size, fan_in: int, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(shape, generator=generator) - 1) * fan_in**-0.5


def sincos_positions(num_tokens: int, width: int) -> Tensor:
    """Sine-cosine positions of a square grid, [num_tokens, width], unit-sized: a start for the learned table."""
    side = math.isqrt(num_tokens)
    quarter = width // 4
    frequency = 100.0 ** -(torch.arange(quarter) / max(1, quarter))
    angle = torch.arange(side)[:, None] * frequency
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows, columns = wave.repeat_interleave(side, dim=0), wave.repeat(side, 1)
    table = torch.zeros(num_tokens, width)
    table[: side * side, : 4 * quarter] = torch.cat([rows, columns], dim=1)
    return table
