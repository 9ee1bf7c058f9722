"""Space-time CLAM: patches of every frame as tokens (section G.2, figures 8 to 10; Bertasius et al. 2021).

    picture ─► patches ─► embed ─► blocks of: attention among a frame's patches, then along each patch's moments
               IDM: a CLS token a frame, no mask; z is read at it       FDM: causal in time, and it reads the latents

Where the released code differs from this, or settles what the page leaves open:

- Its causal mask hides nothing: a float matrix of ones and zeros, which torch adds to the scores; and its norms run
  over all tokens of a sample at once, so that every token sees every other through their mean. Here the mask is
  boolean, and norms are over one token's numbers, without weights as in the code (the page's listing has none).
- Its cross-attention was to be causal, like its temporal attention; here it is.
- It builds a cross-attention in every encoder block and never calls it. The page's 12,163,344 counts those three
  (789,504); here they do not exist.
- The page's listing gives the FDM's embeddings width 512; only 256 throughout gives its count, with the hand's position
  and the gripper embedded beside every token, and the CLS token.
- Positions count from the window's first frame, as in transformer.py.
"""

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from lam.clam.config import SpaceTimeConfig
from lam.clam.frames import Frames
from lam.clam.networks.transformer import FeedForward, attended, attention, check_positions, later


def patchify(image: Float[Tensor, "*batch C H W"], size: int) -> Float[Tensor, "*batch N C*size*size"]:
    """Squares of a picture, row by row; a square's numbers in the order C, rows, columns."""
    rows, columns = image.shape[-2] // size, image.shape[-1] // size
    cells = image.unflatten(-1, (columns, size)).unflatten(-3, (rows, size))  # ... C rows size columns size
    return cells.movedim((-4, -2), (-5, -4)).flatten(-3).flatten(-3, -2)


def unpatchify(patches: Float[Tensor, "*batch N D"], size: int, rows: int) -> Float[Tensor, "*batch C H W"]:
    """The picture that `patchify` cut, `rows` squares high."""
    cells = patches.unflatten(-1, (-1, size, size)).unflatten(-4, (rows, -1))  # ... rows columns C size size
    return cells.movedim((-5, -4), (-4, -2)).flatten(-2).flatten(-3, -2)


class SpaceTimeBlock(nn.Module):
    """Spatial attention, temporal attention, in the decoder cross-attention, feed-forward; a norm after each."""

    def __init__(self, config: SpaceTimeConfig, reads_latents: bool) -> None:
        super().__init__()
        width, num_heads, dropout = config.width, config.num_heads, config.dropout
        self.spatial_attn = attention(width, num_heads, dropout)
        self.temporal_attn = attention(width, num_heads, dropout)
        self.cross_attn = attention(width, num_heads, dropout) if reads_latents else None
        self.feedforward = FeedForward(width, config.feedforward, dropout)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B T N D"],
        positions: Float[Tensor, "T N D"],
        hidden: Bool[Tensor, "T T"] | None = None,
        latents: Float[Tensor, "B T D"] | None = None,
        latent_positions: Float[Tensor, "T D"] | None = None,
    ) -> Float[Tensor, "B T N D"]:
        """`hidden` is True where a moment may not look: at frames along a patch, and at latents."""
        x = self._added(x, self._among_patches(x, positions))
        x = self._added(x, self._along_time(x, positions, hidden))
        if self.cross_attn is not None:
            assert latents is not None
            assert latent_positions is not None
            key = latents + latent_positions
            x = self._added(x, self._to_latents(self.cross_attn, x + positions, key, latents, hidden))
        return self._added(x, self.feedforward(x))

    def _added(self, x: Tensor, change: Tensor) -> Tensor:
        return self.norm(x + self.dropout(change))

    def _among_patches(self, x: Tensor, positions: Tensor) -> Tensor:
        query = (x + positions).flatten(0, 1)
        return attended(self.spatial_attn, query, query, x.flatten(0, 1), None).view_as(x)

    def _along_time(self, x: Tensor, positions: Tensor, hidden: Tensor | None) -> Tensor:
        query = (x + positions).transpose(1, 2).flatten(0, 1)
        out = attended(self.temporal_attn, query, query, x.transpose(1, 2).flatten(0, 1), hidden)
        return out.unflatten(0, (len(x), -1)).transpose(1, 2)

    def _to_latents(
        self, layer: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None
    ) -> Tensor:
        """All patches of all moments ask at once: the same as patch by patch, with the latents projected once."""
        per_token = None if hidden is None else hidden.repeat_interleave(query.shape[2], dim=0)
        return attended(layer, query.flatten(1, 2), key, value, per_token).view_as(query)


class _Inputs(nn.Module):
    """What both models do with a picture first: positions of its tokens, and the hand's numbers beside each."""

    def __init__(self, num_tokens: int, num_frames: int, config: SpaceTimeConfig) -> None:
        super().__init__()
        check_positions(max(num_tokens, num_frames), config.max_positions)
        width = config.width
        self.state_columns = config.state_columns
        self.spatial_pos_embed = nn.Embedding(config.max_positions, width)
        self.temporal_pos_embed = nn.Embedding(config.max_positions, width)
        if config.state_columns:
            self.hand_pos_embed = nn.Linear(config.state_columns, width)
            self.input_embed_two = nn.Linear(2 * width, width)

    def positions(self, num_frames: int, num_tokens: int) -> Float[Tensor, "T N D"]:
        return self.temporal_pos_embed.weight[:num_frames, None] + self.spatial_pos_embed.weight[:num_tokens]

    def forward(self, tokens: Float[Tensor, "B T N D"], frames: Frames) -> Float[Tensor, "B T N D"]:
        if not self.state_columns:
            return tokens
        if frames.state is None or frames.state.shape[-1] < self.state_columns:
            raise ValueError(
                f"lam.space_time.state_columns is {self.state_columns} and these frames have "
                f"{0 if frames.state is None else frames.state.shape[-1]} numbers of state; give 0 for pictures alone"
            )
        hand = self.hand_pos_embed(frames.state[..., : self.state_columns])
        return self.input_embed_two(torch.cat([tokens, hand[:, :, None].expand_as(tokens)], dim=-1))


class ClsToken(nn.Module):
    """A learned token before every frame's patches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.empty(width))

    def initial_value(self, name: str, generator: torch.Generator) -> Tensor:
        """A standard normal token, as in the released code."""
        return torch.randn(getattr(self, name).shape, generator=generator)

    def forward(self, tokens: Float[Tensor, "B T N D"]) -> Float[Tensor, "B T N+1 D"]:
        """The token, then the patches."""
        first = self.value.expand(*tokens.shape[:2], 1, -1)
        return torch.cat([first, tokens], dim=2)


class SpaceTimeInverse(nn.Module):
    """IDM: a row for each transition, read at the CLS token of the frame after it.

    Args:
        channels: Of a frame, three a camera.
        head_dim: Numbers of a row.
        context: H.
        config: Sizes.
    """

    def __init__(self, channels: int, head_dim: int, context: int, config: SpaceTimeConfig) -> None:
        super().__init__()
        self.config = config
        num_patches = (config.image_size // config.patch_size) ** 2
        self.input_embed = nn.Linear(channels * config.patch_size**2, config.width)
        self.inputs = _Inputs(num_patches + 1, context + 2, config)
        self.cls = ClsToken(config.width)
        self.layers = nn.ModuleList(SpaceTimeBlock(config, False) for _ in range(config.num_encoder_layers))
        self.la_head = nn.Linear(config.width, head_dim)
        self.feature_dim = (num_patches + 1) * config.width

    def forward(self, frames: Frames) -> Float[Tensor, "B N head"]:
        """Frames o_{t-H} .. o_{t+1} -> one row a transition, N = H+1; every row has seen the whole window."""
        return self.la_head(self.tokens(frames)[:, 1:, 0])

    def features(self, frames: Frames) -> Float[Tensor, "B {self.feature_dim}"]:
        """What a policy may look at in place of pixels (section 3.2): all tokens of the last of these frames.

        Give frames up to the current one, o_{t-H} .. o_t or fewer: none after it is needed. The page does not say
        which of the encoder's outputs it takes; patches are kept, for they say where things are.
        """
        return self.tokens(frames)[:, -1].flatten(1)

    def tokens(self, frames: Frames) -> Float[Tensor, "B T N+1 D"]:
        """What the encoder makes of every frame's CLS token and patches."""
        patches = F.leaky_relu(self.input_embed(patchify(_images(frames, self.config), self.config.patch_size)), 0.2)
        x = self.inputs(self.cls(patches), frames)
        positions = self.inputs.positions(*x.shape[1:3])
        for layer in self.layers:
            x = cast(SpaceTimeBlock, layer)(x, positions)
        return x


class SpaceTimeForward(nn.Module):
    """FDM: the picture after each of o_{t-H} .. o_t.

    Args:
        channels: Of a frame it is shown.
        latent_dim: Numbers of a latent action.
        out_dim: Of a prediction, a picture's pixels: channels x image_size x image_size.
        context: H.
        config: Sizes.
    """

    def __init__(self, channels: int, latent_dim: int, out_dim: int, context: int, config: SpaceTimeConfig) -> None:
        super().__init__()
        self.config = config
        self.rows = config.image_size // config.patch_size
        if out_dim % config.image_size**2:
            raise ValueError(
                f"out_dim is {out_dim}: no picture of {config.image_size} pixels a side has so many numbers"
            )
        self.patch_embed = nn.Linear(channels * config.patch_size**2, config.width)
        self.la_embed = nn.Linear(latent_dim, config.width)
        self.inputs = _Inputs(self.rows**2, context + 1, config)
        self.cond_pos_embed = nn.Embedding(config.max_positions, config.width)
        self.layers = nn.ModuleList(SpaceTimeBlock(config, True) for _ in range(config.num_decoder_layers))
        self.to_recon = nn.Linear(config.width, out_dim // self.rows**2)

    def forward(self, frames: Frames, latents: Float[Tensor, "B N z"]) -> Float[Tensor, "B N out"]:
        """Frames o_{t-H} .. o_t and the latent of each one's transition -> the picture after each.

        Row i is a picture [C, H, W] laid flat, and has seen frames 0..i and latents 0..i: a frame's own latent is
        added to its patches, the earlier ones are attended to.
        """
        latent = self.la_embed(latents)
        patches = self.patch_embed(patchify(_images(frames, self.config), self.config.patch_size))
        x = self.inputs(patches + latent[:, :, None], frames)
        num_frames = x.shape[1]
        positions, hidden = self.inputs.positions(*x.shape[1:3]), later(num_frames, x.device)
        latent_positions = self.cond_pos_embed.weight[:num_frames]
        for layer in self.layers:
            x = cast(SpaceTimeBlock, layer)(x, positions, hidden, latent, latent_positions)
        return unpatchify(self.to_recon(x), self.config.patch_size, self.rows).flatten(2)


def _images(frames: Frames, config: SpaceTimeConfig) -> Tensor:
    if frames.image is None:
        raise ValueError("lam.space_time reads pictures and these frames have none: name data.cameras")
    if frames.image.shape[-2:] != (config.image_size, config.image_size):
        raise ValueError(
            f"lam.space_time.image_size is {config.image_size}, the frames are {list(frames.image.shape[-2:])}: give "
            "data.image_size the same value"
        )
    return frames.image
