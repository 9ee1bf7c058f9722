"""The latent action policy pi(z|o), decoded to actions; and plain behaviour cloning, which is the same without latents.

o_t ─► embedding ─► MLP ─┬─► tanh ─► actions                       (behaviour cloning)
                         └─► latents ─► decoder p(a|z) ─► actions  (section 3.2, algorithm 2)

An observation is a state, or the last few pictures (eyes.py) with or without numbers of the state beside them. With
`chunk` appendix F's transformer stands in the place of embedding and MLP.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_mixtures.batch import Batch
from lam.clam.config import DecoderConfig, EncoderConfig, LamConfig, PolicyConfig
from lam.clam.decoder import ActionDecoder
from lam.clam.dynamo import StateEncoder
from lam.clam.eyes import ImpalaEyes, InverseEyes
from lam.clam.frames import Frames, pixels
from lam.clam.model import Sizes
from lam.clam.networks.chunk_policy import ChunkPolicy
from lam.clam.networks.mlp import LEAK, Mlp
from lam.clam.standard import Standard


@dataclass(frozen=True)
class LatentSizes:
    """Of the latents a policy imitates, and of what decodes them; `decoder` is None where latents are actions (VPT)."""

    latent_dim: int
    decoder: DecoderConfig | None


def observed_moments(batch: Batch, frame_stack: int) -> tuple[Tensor, Tensor]:
    """States [B, T, 46] and pictures of a window's first T frames: the present one is the last of the stack."""
    assert batch.states is not None, "a batch of data_mixtures.transitions"
    return batch.states[:, :frame_stack], batch.images[:, :frame_stack]


class ObservationNetwork(nn.Module):
    """What every policy here is made of: an MLP on an embedding of what is seen, or appendix F's transformer.

    Args:
        config: Sizes, and what is seen.
        sizes: What the data decide.
        out_dim: Numbers it gives for each action of a chunk.
        features: A frozen encoder whose embedding stands in the states' place (DynaMo); None for none.
        lam: Of stage 1, whose inverse model looks at the pictures of a `pretrained` policy.
    """

    def __init__(
        self,
        config: PolicyConfig,
        sizes: Sizes,
        out_dim: int,
        features: EncoderConfig | None = None,
        lam: LamConfig | None = None,
    ) -> None:
        super().__init__()
        self.config, self.sizes, self.out_dim = config, sizes, out_dim
        self.standard = Standard(sizes.state_columns, sizes.action_columns, pictures=sizes.cameras > 0)
        self.num_states = _num_states(config, sizes)
        self.features = None if features is None else StateEncoder(features, sizes).requires_grad_(False)
        self.eyes = _eyes(config, sizes, lam)
        if config.chunk is not None:
            self.network = ChunkPolicy(self.num_states, sizes.cameras, out_dim, config.chunk)
            return
        state_dim = self.num_states if features is None else features.embedding_dim
        input_dim = config.frame_stack * state_dim + (0 if self.eyes is None else self.eyes.feature_dim)
        self.embedding = nn.Linear(input_dim, config.embedding_dim)
        self.network = Mlp([config.embedding_dim, *config.hidden_dims, config.chunk_size * out_dim])

    @property
    def networks(self) -> list[nn.Module]:
        """Those that learn."""
        return [self.network] if self.eyes is None else [self.network, self.eyes]

    def observed(self, states: Float[Tensor, "batch T 46"], images: Tensor) -> Float[Tensor, "batch chunk out"]:
        """What is said of T = `frame_stack` moments, the last one the present.

        Args:
            states: As recorded.
            images: uint8 [B, T, cameras, 3, H, W].
        """
        seen = self.standard.states(states)[..., : self.num_states]
        if isinstance(self.network, ChunkPolicy):
            image = pixels(images) if self.network.cameras else None
            return self.network(Frames(seen if self.num_states else None, image))
        parts = [seen if self.features is None else self.features(states)]
        parts = [part.flatten(1) for part in parts]
        if self.eyes is not None:
            parts.append(self.eyes(states, images))
        out = self.network(nn.functional.leaky_relu(self.embedding(torch.cat(parts, dim=1)), LEAK))
        return out.unflatten(1, (self.config.chunk_size, self.out_dim))


def _num_states(config: PolicyConfig, sizes: Sizes) -> int:
    """Of the state's columns, how many are shown."""
    there = len(sizes.state_columns)
    if config.chunk is not None and sizes.cameras and config.state_columns is None:
        raise ValueError(
            "policy.state_columns: say how many of the state's columns it sees beside pictures, 0 for none"
        )
    wanted = there if config.state_columns is None else config.state_columns
    if not 0 <= wanted <= there:
        raise ValueError(f"policy.state_columns is {wanted}: the states have {there} numbers")
    return wanted


def _eyes(config: PolicyConfig, sizes: Sizes, lam: LamConfig | None) -> ImpalaEyes | InverseEyes | None:
    if config.impala is not None:
        return ImpalaEyes(config.impala, sizes, config.frame_stack)
    if config.pretrained is None:
        return None
    if lam is None or lam.image_size is None:
        raise ValueError(
            f"policy.pretrained is {config.pretrained!r}: `lam` looks at no pictures; name space_time there"
        )
    return InverseEyes(lam, sizes, config.frame_stack, frozen=config.pretrained == "frozen")


class ClonedPolicy(ObservationNetwork):
    """From what is observed to the next latents or actions.

    With the paper's sizes, 39 state and 7 target dimensions it has the 1,602,567 parameters of the listing in section
    G.1 (which prints 4 outputs).

    Args:
        config: Sizes, and what is imitated.
        sizes: What the data decide.
        latent: Of the latents; None where actions are imitated.
        features: A frozen encoder, or None.
        lam: Of stage 1, for a `pretrained` policy.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self,
        config: PolicyConfig,
        sizes: Sizes,
        latent: LatentSizes | None,
        features: EncoderConfig | None = None,
        lam: LamConfig | None = None,
    ) -> None:
        action_dim = len(sizes.action_columns)
        super().__init__(config, sizes, action_dim if latent is None else latent.latent_dim, features, lam)
        self.decodes = latent is not None
        self.decoder = None
        if latent is not None:
            self.register_buffer("latent_mean", torch.empty(latent.latent_dim))
            self.register_buffer("latent_std", torch.empty(latent.latent_dim))
            if latent.decoder is not None:
                self.decoder = ActionDecoder(latent.latent_dim, action_dim, latent.decoder)

    def forward(self, states: Float[Tensor, "batch T 46"], images: Tensor) -> Float[Tensor, "batch chunk target"]:
        """What is imitated: actions in [-1, 1], or latents in units of their spread."""
        out = self.observed(states, images)
        return out if self.decodes else torch.tanh(out)

    def act(self, states: Float[Tensor, "batch T 46"], images: Tensor) -> Float[Tensor, "batch chunk A"]:
        """Actions in the robot's own units."""
        out = self(states, images)
        if self.decodes:
            latents = out * self.latent_std + self.latent_mean
            out = latents.clamp(-1, 1) if self.decoder is None else self.decoder(latents)
        return self.standard.physical(out)
