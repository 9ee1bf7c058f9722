"""Transformer-CLAM: frames as tokens (section G.3 and its listing).

What the page leaves open is settled as the released code has it: positions are added to queries and keys in every
layer, not to values; z of a transition is read at the token of the frame after it. Where they differ:

- The page leaves the decoder's cross-attention unmasked, "even ones in a future timestep"; the code masks it
  causally. `sees_later_latents` chooses; the page's way is the default.
- The page's equation has the decoder read the encoder's h, which has seen the frames to be predicted; its listing and
  the code embed the raw frames. So does this.
- The code takes positions from the step within the episode (a table of 200 covers one). Here they count from the
  window's first frame: dynamics do not depend on the clock, and a policy's rollouts may outlast the table.
"""

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from lam.clam.config import TransformerConfig
from lam.clam.frames import Frames


def later(num_tokens: int, device: torch.device) -> Bool[Tensor, "N N"]:
    """The causal mask as torch's attention reads it: True where token i may not look at token j, that is j > i."""
    return torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=device).triu(1)


class FeedForward(nn.Module):
    """`linear2(gelu(linear1(x)))` with dropout between."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """X [..., width] -> [..., width]."""
        return self.linear2(self.dropout(F.gelu(self.linear1(x))))


def attention(width: int, num_heads: int, dropout: float) -> nn.MultiheadAttention:
    """Multi-head attention over [B, N, width]."""
    return nn.MultiheadAttention(width, num_heads, dropout=dropout, batch_first=True)


def attended(layer: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None) -> Tensor:
    """Its output [B, N, width]; `hidden` [N, M] is True where a query may not look."""
    return layer(query, key, value, attn_mask=hidden, need_weights=False)[0]


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each followed by its norm (table 12: pre norm False)."""

    def __init__(self, width: int, feedforward: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = attention(width, num_heads, dropout)
        self.feedforward = FeedForward(width, feedforward, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Tokens x [B, N, width] with positions [N, width] -> [B, N, width]."""
        query = x + positions
        x = self.norm1(x + self.dropout(attended(self.self_attn, query, query, x, hidden)))
        return self.norm2(x + self.dropout(self.feedforward(x)))


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to a memory, feed-forward; each followed by its norm."""

    def __init__(self, width: int, feedforward: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = attention(width, num_heads, dropout)
        self.multihead_attn = attention(width, num_heads, dropout)
        self.feedforward = FeedForward(width, feedforward, dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        positions: Tensor,
        memory_positions: Tensor,
        hidden: Tensor | None = None,
        memory_hidden: Tensor | None = None,
    ) -> Tensor:
        """Tokens x [B, N, width] read themselves and memory [B, M, width] -> [B, N, width].

        `positions` [N, width] and `memory_positions` [M, width] go to queries and keys; `hidden` [N, N] and
        `memory_hidden` [N, M] are True where a token may not look.
        """
        query = x + positions
        x = self.norm1(x + self.dropout(attended(self.self_attn, query, query, x, hidden)))
        key = memory + memory_positions
        x = self.norm2(x + self.dropout(attended(self.multihead_attn, x + positions, key, memory, memory_hidden)))
        return self.norm3(x + self.dropout(self.feedforward(x)))


class TransformerInverse(nn.Module):
    """IDM: h = Encoder(o_{t-H} .. o_{t+1}), no mask; z = Head(h of the later frames)."""

    def __init__(self, input_dim: int, head_dim: int, context: int, config: TransformerConfig) -> None:
        super().__init__()
        check_positions(context + 2, config.max_positions)
        self.input_embed = nn.Linear(input_dim, config.width)
        self.layers = nn.ModuleList(
            EncoderLayer(config.width, config.feedforward, config.num_heads, config.dropout)
            for _ in range(config.num_encoder_layers)
        )
        self.pos_embed = nn.Embedding(config.max_positions, config.width)
        self.latent_action = nn.Linear(config.width, head_dim)

    def forward(self, frames: Frames) -> Float[Tensor, "B N head"]:
        """Frames o_{t-H} .. o_{t+1} (their states) -> one row a transition, N = H+1.

        Row i belongs to the transition from frame i to frame i+1 and is read at frame i+1's token. There is no mask:
        every row has seen the whole window.
        """
        return self.latent_action(self.tokens(frames)[:, 1:])

    def tokens(self, frames: Frames) -> Float[Tensor, "B T width"]:
        """What the encoder makes of every frame."""
        x = F.leaky_relu(self.input_embed(_states(frames)), 0.2)
        positions = self.pos_embed.weight[: x.shape[1]]
        for layer in self.layers:
            x = cast(EncoderLayer, layer)(x, positions)
        return x


class TransformerForward(nn.Module):
    """FDM: decodes the frame after each of o_{t-H} .. o_t from the frames up to it and the latents."""

    def __init__(self, input_dim: int, latent_dim: int, out_dim: int, context: int, config: TransformerConfig) -> None:
        super().__init__()
        check_positions(context + 1, config.max_positions)
        self.sees_later_latents = config.sees_later_latents
        self.input_embed = nn.Linear(input_dim, config.width)
        self.la_embed = nn.Linear(latent_dim, config.width)
        self.layers = nn.ModuleList(
            DecoderLayer(config.width, config.feedforward, config.num_heads, config.dropout)
            for _ in range(config.num_decoder_layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.decoder_pos_embed = nn.Embedding(config.max_positions, config.width)
        self.encoder_pos_embed = nn.Embedding(config.max_positions, config.width)
        self.to_observation = nn.Linear(config.width, out_dim)

    def forward(self, frames: Frames, latents: Float[Tensor, "B N z"]) -> Float[Tensor, "B N out"]:
        """Frames o_{t-H} .. o_t and the latent of each one's transition -> what comes after each, N = H+1.

        Row i has seen frames 0..i and every latent, those of later transitions too; with `sees_later_latents` off,
        latents 0..i.
        """
        x = F.leaky_relu(self.input_embed(_states(frames)), 0.2)
        memory = self.la_embed(latents)
        num_frames = x.shape[1]
        hidden = later(num_frames, x.device)
        positions = self.decoder_pos_embed.weight[:num_frames]
        memory_positions = self.encoder_pos_embed.weight[:num_frames]
        memory_hidden = None if self.sees_later_latents else hidden
        for layer in self.layers:
            x = cast(DecoderLayer, layer)(x, memory, positions, memory_positions, hidden, memory_hidden)
        return self.to_observation(self.norm(x))


def _states(frames: Frames) -> Tensor:
    if frames.state is None:
        raise ValueError("lam.transformer reads states and these frames have none: give lam.space_time for pictures")
    return frames.state


def check_positions(num_tokens: int, max_positions: int) -> None:
    """ValueError where a table of learned positions is too short."""
    if num_tokens > max_positions:
        raise ValueError(f"max_positions is {max_positions}, and {num_tokens} are needed; raise it")
