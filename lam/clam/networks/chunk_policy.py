"""Appendix F's policy: a chunk of actions, or of latents, from cameras and state (figure 6).

    each camera ─► ResNet18 ─► h x w features ─► read by learned queries ─► tokens ─┐
    state of each frame ─► MLP ─► a token ──────────────────────────────────────────┴─► memory
    k learned action tokens ─► decoder layers: themselves (causal), memory ─► k rows

Positions of the feature map, of the memory and of the action tokens are sinusoids. The page leaves open how many
tokens a camera gives and how many layers there are; see `ChunkPolicyConfig`.
"""

import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lam.clam.config import ChunkPolicyConfig
from lam.clam.frames import Frames
from lam.clam.networks.transformer import DecoderLayer, attended, attention, later

BACKBONE = "backbone."


def sinusoids(places: Tensor, width: int) -> Float[Tensor, "N D"]:
    """Sines, then cosines, of places [N] at wavelengths from 2 pi to 20,000 pi (Vaswani et al. 2017)."""
    rates = torch.exp(-math.log(10_000) / (width // 2) * torch.arange(width // 2, device=places.device))
    angles = places[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def grid_positions(rows: int, columns: int, width: int, device: torch.device) -> Float[Tensor, "N D"]:
    """Of a feature map's places, row by row: half of the numbers tell the row, half the column."""
    row = sinusoids(torch.arange(rows, device=device), width // 2)
    column = sinusoids(torch.arange(columns, device=device), width // 2)
    return torch.cat([row.repeat_interleave(columns, 0), column.repeat(rows, 1)], dim=-1)


class CameraStem(nn.Module):
    """Learned queries read a feature map (Wang et al. 2024): a camera becomes a few tokens."""

    def __init__(self, feature_dim: int, config: ChunkPolicyConfig) -> None:
        super().__init__()
        self.queries = nn.Embedding(config.tokens_per_camera, config.width)
        self.norm = nn.LayerNorm(feature_dim)
        self.project = nn.Linear(feature_dim, config.width)
        self.cross_attn = attention(config.width, config.num_heads, config.dropout)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K D"]:
        """Tokens of one camera."""
        rows, columns = features.shape[-2:]
        values = self.project(self.norm(features.flatten(2).transpose(1, 2)))
        values = values + grid_positions(rows, columns, values.shape[-1], values.device)
        queries = self.queries.weight.expand(len(features), -1, -1)
        return attended(self.cross_attn, queries, values, values, None)


class ChunkPolicy(nn.Module):
    """See the head of this file.

    Args:
        state_dim: Numbers of a frame's state; 0 where it is not read.
        cameras: Three channels each, of the last frame; 0 reads states alone.
        out_dim: Of a row.
        config: Sizes.
    """

    def __init__(self, state_dim: int, cameras: int, out_dim: int, config: ChunkPolicyConfig) -> None:
        super().__init__()
        if not state_dim and not cameras:
            raise ValueError("a policy must see something: give states, cameras or both")
        width = config.width
        self.state_dim, self.cameras = state_dim, cameras
        if cameras:
            # Here, not above: a policy that reads states alone needs no timm, which takes seconds to import.
            from lam.clam.networks.resnet import FEATURE_DIM, ResNet18

            self.backbone = ResNet18()
            self.stems = nn.ModuleList(CameraStem(FEATURE_DIM, config) for _ in range(cameras))
        if state_dim:
            self.state_in, self.state_out = nn.Linear(state_dim, width), nn.Linear(width, width)
        self.modality_embed = nn.Embedding(cameras + bool(state_dim), width)
        self.action_tokens = nn.Embedding(config.chunk_size, width)
        self.layers = nn.ModuleList(
            DecoderLayer(width, config.feedforward, config.num_heads, config.dropout) for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.to_action = nn.Linear(width, out_dim)

    def forward(self, frames: Frames) -> Float[Tensor, "B k out"]:
        """The chunk from the last of these frames on; states of all of them are read, pictures of the last."""
        memory = torch.cat(self._tokens(frames), dim=1)
        x = self.action_tokens.weight.expand(len(memory), -1, -1)
        places, memory_places = (torch.arange(n, device=x.device) for n in (x.shape[1], memory.shape[1]))
        positions, memory_positions = sinusoids(places, x.shape[2]), sinusoids(memory_places, x.shape[2])
        hidden = later(x.shape[1], x.device)
        for layer in self.layers:
            x = cast(DecoderLayer, layer)(x, memory, positions, memory_positions, hidden)
        return self.to_action(self.norm(x))

    def _tokens(self, frames: Frames) -> list[Tensor]:
        """Of each modality [B, its tokens, D]: cameras in their order, then states."""
        found: list[Tensor] = []
        if self.cameras:
            features = self.backbone(self._pictures(frames).flatten(0, 1)).unflatten(0, (-1, self.cameras))
            found += [cast(CameraStem, stem)(features[:, camera]) for camera, stem in enumerate(self.stems)]
        if self.state_dim:
            if frames.state is None:
                raise ValueError("this policy reads states and these frames have none")
            found.append(self.state_out(F.leaky_relu(self.state_in(frames.state), 0.2)))
        return [tokens + own for tokens, own in zip(found, self.modality_embed.weight, strict=True)]

    def _pictures(self, frames: Frames) -> Float[Tensor, "B cameras 3 H W"]:
        channels = 0 if frames.image is None else frames.image.shape[2]
        if frames.image is None or channels != 3 * self.cameras:
            raise ValueError(f"this policy reads {self.cameras} cameras, and these frames have {channels // 3}")
        return frames.image[:, -1].unflatten(1, (self.cameras, 3))


def published_value(name: str, shape: torch.Size, config: ChunkPolicyConfig) -> Tensor | None:
    """The published value of the parameter or buffer `name` of a `ChunkPolicy`; None where it starts afresh."""
    if config.resnet is None or not name.startswith(BACKBONE):
        return None
    from lam.clam.networks.resnet import published_resnet

    return published_resnet(config.resnet, name.removeprefix(BACKBONE), shape)
