"""Gemma's root-mean-square norm, whose weight is stored as an offset from one."""

import torch
from torch import Tensor, nn


def rms_normalise(x: Tensor, eps: float) -> Tensor:
    """X [..., width] divided by its root mean square over the last axis; returns float32 whatever comes in."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


class RMSNorm(nn.Module):
    """`rms(x) * (1 + weight)`: the weight starts at zero and is applied in float32, as Gemma does."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """X [..., width] -> the same shape and dtype."""
        return (rms_normalise(x, self.eps) * (1.0 + self.weight.float())).to(x.dtype)
