"""MLPs: CLAM's smallest inverse and forward models (section G.3), and what decoders and policies are made of."""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lam.clam.config import MlpConfig
from lam.clam.frames import Frames

LEAK = 0.2


class Mlp(nn.Module):
    """Linear layers with leaky ReLUs (slope 0.2, as in the paper's listings) between them.

    Args:
        dims: Widths, from the input's to the output's.
    """

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in itertools.pairwise(dims))

    def forward(self, x: Float[Tensor, "*batch dim_in"]) -> Float[Tensor, "*batch dim_out"]:
        """All layers; nothing follows the last one."""
        for layer in self.layers[:-1]:
            x = nn.functional.leaky_relu(layer(x), LEAK)
        return self.layers[-1](x)


class MlpInverse(nn.Module):
    """The latent of a window's last transition, from its H + 2 frames side by side."""

    def __init__(self, input_dim: int, head_dim: int, context: int, config: MlpConfig) -> None:
        super().__init__()
        self.network = Mlp([(context + 2) * input_dim, *config.hidden_dims, head_dim])

    def forward(self, frames: Frames) -> Float[Tensor, "batch 1 head"]:
        """Frames: H + 2 of them."""
        assert frames.state is not None
        return self.network(frames.state.flatten(1))[:, None]


class MlpForward(nn.Module):
    """What follows the last of H + 1 frames, given the latent of that transition."""

    def __init__(self, input_dim: int, latent_dim: int, out_dim: int, context: int, config: MlpConfig) -> None:
        super().__init__()
        self.network = Mlp([(context + 1) * input_dim + latent_dim, *config.hidden_dims, out_dim])

    def forward(self, frames: Frames, latents: Float[Tensor, "batch 1 latent"]) -> Float[Tensor, "batch 1 out"]:
        """Frames: the first H + 1."""
        assert frames.state is not None
        return self.network(torch.cat([frames.state.flatten(1), latents[:, 0]], dim=1))[:, None]
