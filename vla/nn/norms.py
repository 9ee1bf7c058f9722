"""Gemma's root-mean-square norm, whose weight is stored as an offset from one."""

import torch
from torch import Tensor, nn


def rms_normalise(x: Tensor, eps: float) -> Tensor:
    """X [..., width] divided by its root mean square over the last axis; returns float32 whatever comes in."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def compute_dtype(x: Tensor) -> torch.dtype:
    """What a matrix product would turn x into here: autocast's dtype if it is on, else x's own.

    A norm that gives this out is cast once, where the two to four projections that read it would each cast it again.
    """
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class RMSNorm(nn.Module):
    """`rms(x) * (1 + weight)`: the weight starts at zero and is applied in float32, as Gemma does."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """X [..., width] -> the same shape, in the dtype of the products that follow."""
        return (rms_normalise(x, self.eps) * (1.0 + self.weight.float())).to(compute_dtype(x))
