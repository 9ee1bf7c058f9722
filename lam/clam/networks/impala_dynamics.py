"""MLP-CLAM and LAPO on pictures: an IMPALA-CNN as inverse model, a U-Net as forward model (LAPO, appendix A.4).

Where this differs from LAPO's code:

- Its norms are over the batch; these are over groups of channels, so that a sample's prediction depends on no other.
- Its last layer squashes pixels with tanh / 2, into its range of pixels; ours are in [-1, 1], and a loss may ask for
  changes of them, so the last layer is linear.
- Its U-Net is for 64 pixels a side; this one halves as often as the picture allows.
"""

import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lam.clam.config import ImpalaDynamicsConfig
from lam.clam.frames import Frames
from lam.clam.networks.impala import ImpalaEncoder, ImpalaResidual, stacked

_GROUPS = 8


class ImpalaInverse(nn.Module):
    """The latent of a window's last transition, from its H + 2 pictures as channels of one."""

    def __init__(self, channels: int, head_dim: int, context: int, config: ImpalaDynamicsConfig) -> None:
        super().__init__()
        self.encoder = ImpalaEncoder((context + 2) * channels, config.encoder)
        self.head = nn.Linear(config.encoder.feature_dim, head_dim)

    def forward(self, frames: Frames) -> Float[Tensor, "B 1 head"]:
        """Frames: H + 2 of them."""
        return self.head(F.relu(self.encoder(frames)))[:, None]


class _Down(nn.Module):
    """Half the size."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.residual = ImpalaResidual(channels, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.max_pool2d(self.residual(self.norm(self.conv(x))), 2))


class _Up(nn.Module):
    """Twice the size."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels_in, channels, 2, stride=2)
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.residual = ImpalaResidual(channels, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(self.norm(self.conv(x))))


class ImpalaForward(nn.Module):
    """The picture after the last of H + 1, given the latent of that transition.

    The latent enters twice: as channels beside the picture, and at the U-Net's bottom.

    Args:
        channels: Of a frame, three a camera.
        latent_dim: Numbers of a latent action.
        out_dim: Of a prediction, a picture's pixels: channels x image_size x image_size.
        context: H.
        config: Sizes.
    """

    def __init__(
        self, channels: int, latent_dim: int, out_dim: int, context: int, config: ImpalaDynamicsConfig
    ) -> None:
        super().__init__()
        self.size = config.encoder.image_size
        if out_dim % self.size**2:
            raise ValueError(f"out_dim is {out_dim}: no picture of {self.size} pixels a side has so many numbers")
        shown, base, halvings = (context + 1) * channels, config.base_width, int(math.log2(self.size))
        widths = [shown + latent_dim, *(base * 2**i for i in range(halvings))]
        self.down = nn.ModuleList(_Down(a, b) for a, b in zip(widths[:-2], widths[1:-1], strict=True))
        self.bottom = nn.Conv2d(widths[-2], widths[-1], 2)
        rising = [*widths[:0:-1], base]
        beside = [latent_dim, *widths[-2:0:-1]]
        self.up = nn.ModuleList(_Up(a + extra, b) for a, extra, b in zip(rising[:-1], beside, rising[1:], strict=True))
        self.last = nn.Sequential(
            nn.Conv2d(base + shown, base, 3, padding=1),
            ImpalaResidual(base, base // 2),
            nn.ReLU(),
            nn.Conv2d(base, out_dim // self.size**2, 1),
        )

    def forward(self, frames: Frames, latents: Float[Tensor, "B 1 z"]) -> Float[Tensor, "B 1 out"]:
        """Frames: the first H + 1. The prediction is a picture [C, H, W] laid flat."""
        shown = stacked(frames, self.size)
        latent = latents[:, 0, :, None, None]
        x, passed = torch.cat([shown, latent.expand(-1, -1, self.size, self.size)], dim=1), []
        for layer in self.down:
            x = cast(_Down, layer)(x)
            passed.append(x)
        x = self.bottom(x)
        for layer, extra in zip(self.up, [latent, *reversed(passed)], strict=True):
            x = cast(_Up, layer)(torch.cat([x, extra], dim=1))
        return self.last(torch.cat([x, shown], dim=1)).flatten(1)[:, None]
