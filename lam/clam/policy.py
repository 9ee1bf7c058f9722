"""The latent action policy pi(z|o), decoded to actions; and plain behaviour cloning, which is the same without latents.

o_t ─► embedding ─► MLP ─┬─► tanh ─► actions                       (behaviour cloning)
                         └─► latents ─► decoder p(a|z) ─► actions  (section 3.2, algorithm 2)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lam.clam.config import DecoderConfig, EncoderConfig, PolicyConfig
from lam.clam.decoder import ActionDecoder
from lam.clam.dynamo import StateEncoder
from lam.clam.model import Sizes
from lam.clam.networks.mlp import LEAK, Mlp
from lam.clam.standard import Standard


@dataclass(frozen=True)
class LatentSizes:
    """Of the latents a policy imitates, and of what decodes them; `decoder` is None where latents are actions (VPT)."""

    latent_dim: int
    decoder: DecoderConfig | None


class ObservationMlp(nn.Module):
    """An embedding of one observation and an MLP on it: what every policy here is made of.

    Args:
        config: Sizes.
        sizes: What the data decide.
        out_dim: Numbers it gives.
        features: A frozen encoder whose embedding stands in the observation's place (DynaMo); None for none.
    """

    def __init__(self, config: PolicyConfig, sizes: Sizes, out_dim: int, features: EncoderConfig | None) -> None:
        super().__init__()
        self.standard = Standard(sizes.state_columns, sizes.action_columns)
        self.features = None if features is None else StateEncoder(features, sizes).requires_grad_(False)
        input_dim = len(sizes.state_columns) if features is None else features.embedding_dim
        self.embedding = nn.Linear(input_dim, config.embedding_dim)
        self.network = Mlp([config.embedding_dim, *config.hidden_dims, out_dim])

    def observed(self, states: Float[Tensor, "batch 46"]) -> Float[Tensor, "batch out"]:
        """What the MLP says of observations."""
        seen = self.standard.states(states) if self.features is None else self.features(states)
        return self.network(nn.functional.leaky_relu(self.embedding(seen), LEAK))


class ClonedPolicy(ObservationMlp):
    """An MLP from one observation to the next latents or actions.

    With the paper's sizes, 39 state and 7 target dimensions it has the 1,602,567 parameters of the listing in section
    G.1 (which prints 4 outputs).

    Args:
        config: Sizes, and what is imitated.
        sizes: What the data decide.
        latent: Of the latents; None where actions are imitated.
        features: A frozen encoder, or None.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self, config: PolicyConfig, sizes: Sizes, latent: LatentSizes | None, features: EncoderConfig | None = None
    ) -> None:
        action_dim = len(sizes.action_columns)
        target_dim = action_dim if latent is None else latent.latent_dim
        super().__init__(config, sizes, config.chunk_size * target_dim, features)
        self.config, self.target_dim = config, target_dim
        self.decodes = latent is not None
        self.decoder = None
        if latent is not None:
            self.register_buffer("latent_mean", torch.empty(latent.latent_dim))
            self.register_buffer("latent_std", torch.empty(latent.latent_dim))
            if latent.decoder is not None:
                self.decoder = ActionDecoder(latent.latent_dim, action_dim, latent.decoder)

    def forward(self, states: Float[Tensor, "batch 46"]) -> Float[Tensor, "batch chunk target"]:
        """What is imitated: actions in [-1, 1], or latents in units of their spread."""
        out = self.observed(states).unflatten(1, (self.config.chunk_size, self.target_dim))
        return out if self.decodes else torch.tanh(out)

    def act(self, states: Float[Tensor, "batch 46"]) -> Float[Tensor, "batch chunk A"]:
        """Actions in the robot's own units."""
        out = self(states)
        if self.decodes:
            latents = out * self.latent_std + self.latent_mean
            out = latents.clamp(-1, 1) if self.decoder is None else self.decoder(latents)
        return self.standard.physical(out)
