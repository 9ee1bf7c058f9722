"""Gemma's root-mean-square norm, whose weight is stored as an offset from one."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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


class _ScaledRms(torch.autograd.Function):
    """`rms_normalise(x, eps) * scale`, scale [width], in float32.

    The backward pass keeps x and one number a token, not the normalised tokens, and gives what autograd's own
    would, to the bit.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, eps: float) -> Tensor:
        """As said above."""
        wide = x.float()
        inverse = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, inverse, scale)
        return wide * inverse * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Gradients of x and scale."""
        x, inverse, scale = ctx.saved_tensors
        wide = x.float()
        of_x, of_scale = None, None
        if ctx.needs_input_grad[1]:
            of_scale = (gradient * (wide * inverse)).sum_to_size(scale.shape)
        if ctx.needs_input_grad[0]:
            of_normalised = gradient * scale
            of_inverse = (of_normalised * wide).sum(-1, keepdim=True)
            of_mean = -0.5 * of_inverse * inverse.pow(3)
            of_x = (of_normalised * inverse + (of_mean / x.shape[-1]) * (wide * 2.0)).to(x.dtype)
        return of_x, of_scale, None


class RMSNorm(nn.Module):
    """`rms(x) * (1 + weight)`: the weight starts at zero and is applied in float32, as Gemma does."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """X [..., width] -> the same shape, in the dtype of the products that follow."""
        return _ScaledRms.apply(x, 1.0 + self.weight.float(), self.eps).to(compute_dtype(x))
