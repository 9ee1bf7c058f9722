"""Rotary positions, the rotate-half form of Gemma and Llama."""

import torch
from torch import Tensor

RotaryTable = tuple[Tensor, Tensor]


def rotary_table(positions: Tensor, head_dim: int, theta: float = 10_000.0) -> RotaryTable:
    """Positions [B, N] (integers) -> cosines and sines, each [B, 1, N, head_dim] float32."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angle = positions[..., None].float() * theta**-exponent
    angle = torch.cat([angle, angle], dim=-1)[:, None]
    return angle.cos(), angle.sin()


def apply_rotary(x: Tensor, table: RotaryTable) -> Tensor:
    """Rotate heads x [B, heads, N, head_dim] by their positions; shape and dtype stay."""
    cos, sin = (part.to(x.dtype) for part in table)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
