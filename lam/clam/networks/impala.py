"""The IMPALA-CNN that embeds pictures (Espeholt et al. 2018; CLAM, section G.1; sizes as LAPO's and CLAM's code)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lam.clam.config import ImpalaConfig
from lam.clam.frames import Frames


class ImpalaResidual(nn.Module):
    """Two 3 x 3 convolutions, each after a ReLU, added to what came in."""

    def __init__(self, channels: int, hidden: int | None = None) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(channels, hidden or channels, 3, padding=1)
        self.conv1 = nn.Conv2d(hidden or channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The same size."""
        return x + self.conv1(F.relu(self.conv0(F.relu(x))))


class ImpalaGroup(nn.Module):
    """A convolution, a pooling that halves the picture (rounding up), two residual blocks."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.residual0, self.residual1 = ImpalaResidual(channels), ImpalaResidual(channels)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """Half the size."""
        return self.residual1(self.residual0(F.max_pool2d(self.conv(x), 3, stride=2, padding=1)))


class ImpalaEncoder(nn.Module):
    """Features of a stack of pictures: a policy's last frames (3 in table 14), or an inverse model's window.

    Args:
        channels: Of the stack: frames x three a camera.
        config: Sizes.
    """

    def __init__(self, channels: int, config: ImpalaConfig) -> None:
        super().__init__()
        self.config = config
        widths = [channels, *(config.scale * width for width in config.channels)]
        self.groups = nn.Sequential(*(ImpalaGroup(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)))
        size = config.image_size
        for _ in config.channels:
            size = (size + 1) // 2
        self.fc = nn.Linear(widths[-1] * size**2, config.feature_dim)
        self.feature_dim = config.feature_dim

    def forward(self, frames: Frames) -> Float[Tensor, "B {self.feature_dim}"]:
        """Features of all given frames together; nothing follows the last linear layer."""
        return self.fc(F.relu(self.groups(stacked(frames, self.config.image_size)).flatten(1)))


def stacked(frames: Frames, size: int) -> Float[Tensor, "B T*C H W"]:
    """Frames' pictures as channels of one.

    Raises:
        ValueError: They have none, or not of this size.
    """
    if frames.image is None:
        raise ValueError("an IMPALA-CNN reads pictures and these frames have none: name data.cameras")
    if frames.image.shape[-2:] != torch.Size((size, size)):
        raise ValueError(
            f"image_size is {size}, the frames are {list(frames.image.shape[-2:])}: give data.image_size the same value"
        )
    return frames.image.flatten(1, 2)
