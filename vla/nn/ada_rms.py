"""Adaptive RMS norm (adaRMS): pi0.5's way of telling every layer of the action expert the flow time.

A modulation is a function of the condition alone, never of the tokens, so a sampler computes the modulations of all
its Euler steps before the first one (see `stacked_modulations`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla.nn.norms import compute_dtype, rms_normalise


class AdaRMSNorm(nn.Module):
    """`y = rms(x) * (1 + scale) + shift`, with `scale, shift, gate = dense(cond).chunk(3)`.

    The gate multiplies the residual branch that follows: `x + f(y) * gate`. `dense.weight` starts at zero and
    `dense.bias` at the Linear default, as published.
    """

    def __init__(self, width: int, cond_dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.dense = nn.Linear(cond_dim, 3 * width)
        self.eps = eps
        nn.init.zeros_(self.dense.weight)

    def modulation(self, cond: Tensor) -> Tensor:
        """Condition [B, cond_dim] -> [B, 3 * width]: scale, shift and gate side by side."""
        return self.dense(cond.to(self.dense.weight.dtype))

    def forward(self, x: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens x [B, S, width] and a modulation [B, 3 * width] -> (y [B, S, width], gate [B, 1, width])."""
        scale, shift, gate = modulation.float()[:, None].chunk(3, dim=-1)
        y = torch.addcmul(shift, rms_normalise(x, self.eps), 1.0 + scale)
        return y.to(compute_dtype(x)), gate.to(x.dtype)


def stacked_modulations(norms: Sequence[AdaRMSNorm], cond: Tensor) -> list[Tensor]:
    """The modulations of many norms in one matrix product: cond [B, cond_dim] -> one [B, 3 * width] per norm.

    Reads the weights of all the norms at once: for sampling on whole parameters, not inside a sharded forward.
    """
    weight = torch.cat([norm.dense.weight for norm in norms])
    bias = torch.cat([norm.dense.bias for norm in norms])
    sizes = [norm.dense.out_features for norm in norms]
    return list(F.linear(cond.to(weight.dtype), weight, bias).split(sizes, dim=-1))
