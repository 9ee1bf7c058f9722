"""The action decoder p(a|z): from a latent action to the robot's."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lam.clam.config import DecoderConfig
from lam.clam.networks.mlp import LEAK, Mlp


class ActionDecoder(nn.Module):
    """An embedding and an MLP; tanh keeps actions in [-1, 1], as the policies' own head does (section G.1).

    With the paper's sizes, 16 latent and 4 action dimensions it has 2,637,316 parameters, not the "1M" of section G.
    """

    def __init__(self, latent_dim: int, action_dim: int, config: DecoderConfig) -> None:
        super().__init__()
        self.embedding = nn.Linear(latent_dim, config.embedding_dim)
        self.network = Mlp([config.embedding_dim, *config.hidden_dims, action_dim])

    def forward(self, latents: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch action"]:
        """Actions in [-1, 1]."""
        return torch.tanh(self.network(nn.functional.leaky_relu(self.embedding(latents), LEAK)))
