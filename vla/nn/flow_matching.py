"""Rectified flow in pi0.5's convention: t = 1 is noise, t = 0 is data.

`x_t = t * noise + (1 - t) * x`, the network predicts the velocity `noise - x`, and sampling integrates from t = 1
to t = 0. SANA's scheduler uses the same convention with sigma for t.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def interpolate(x: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """The point on the straight path: x, noise [B, ...], time [B] in [0, 1] -> x_t [B, ...]."""
    t = time.reshape(-1, *(1,) * (x.dim() - 1)).to(x.dtype)
    return t * noise + (1 - t) * x


def velocity_target(x: Tensor, noise: Tensor) -> Tensor:
    """What the network learns to predict: `noise - x`, the same shape as x."""
    return noise - x


def beta_time(uniform: Tensor) -> Tensor:
    """pi0.5's training times in [0.001, 1]: Beta(1.5, 1) by its inverse, from uniform draws of any shape."""
    return 0.001 + 0.999 * uniform ** (2 / 3)


def shifted_time(uniform: Tensor, shift: float) -> Tensor:
    """SANA's shifted times: sigma = shift * u / (1 + (shift - 1) * u), from uniform draws of any shape."""
    return shift * uniform / (1 + (shift - 1) * uniform)


def sincos_embedding(time: Tensor, dim: int, min_period: float = 4e-3, max_period: float = 4.0) -> Tensor:
    """Sine-cosine embedding of times [B] -> [B, dim] float32, computed in float64 as openpi does."""
    fraction = torch.linspace(0.0, 1.0, dim // 2, dtype=torch.float64, device=time.device)
    period = min_period * (max_period / min_period) ** fraction
    angle = 2 * math.pi * time.to(torch.float64)[:, None] / period
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1).to(torch.float32)


def euler_times(num_steps: int, device: torch.device | str = "cpu") -> Tensor:
    """The times [num_steps] float32 at which equal Euler steps from t = 1 to t = 0 evaluate the velocity.

    The clock is `1 + step * dt`, as in LeRobot; accumulating float32 as openpi does differs by 6e-5.
    """
    return torch.tensor([1.0 - step / num_steps for step in range(num_steps)], device=device)


def euler_sample(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, num_steps: int) -> Tensor:
    """Integrate from noise [B, ...] at t = 1 to data at t = 0 with equal Euler steps.

    `velocity(x_t [B, ...], time [B])` returns [B, ...].
    """
    x = noise
    for time in euler_times(num_steps, noise.device):
        x = x - velocity(x, time.expand(len(noise))) / num_steps
    return x
