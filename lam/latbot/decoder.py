"""The unified decoder: diffusers' SANA generates the future frame while a parallel stream generates the actions.

Every published SANA parameter keeps its name and meaning. New ones live under a module called `fusion`, at the top
and in each block; their output projections start at zero, so a fresh decoder draws exactly SANA's picture.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_mixtures.spaces.unified import ACTION_DIM
from lam.latbot.config import LatBotConfig
from lam.latbot.fusion import ActionLayer, FusionStem
from vla.nn.attention import attend
from vla.nn.rotary import RotaryTable, rotary_table
from vla.nn.torchvision_ops import ensure_torchvision_operators

ensure_torchvision_operators()

from diffusers import SanaTransformer2DModel  # noqa: E402
from diffusers.models.attention_processor import Attention  # noqa: E402
from diffusers.models.transformers.sana_transformer import SanaTransformerBlock  # noqa: E402


def sana_arguments(config: LatBotConfig) -> dict[str, Any]:
    """Arguments of `SanaTransformer2DModel` for this configuration, without the current frame's channels."""
    decoder, codec = config.decoder, config.codec
    return {
        "in_channels": codec.channels,
        "out_channels": codec.channels,
        "num_attention_heads": decoder.num_heads,
        "attention_head_dim": decoder.head_dim,
        "num_layers": decoder.num_layers,
        "num_cross_attention_heads": decoder.num_cross_heads,
        "cross_attention_head_dim": decoder.cross_head_dim,
        "cross_attention_dim": decoder.width,
        "caption_channels": decoder.caption_width,
        "mlp_ratio": decoder.mlp_ratio,
        "sample_size": codec.grid,
        "interpolation_scale": 1 if decoder.position_embedding else None,
        "qk_norm": decoder.qk_norm,
    }


class CaptionAttention:
    """diffusers' attention processor for SANA's cross-attention, through our own `attend` (fast on CPU as well)."""

    def __call__(self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: object) -> Tensor:
        """Image tokens [B, N, width] read caption tokens [B, Ns, width]."""
        assert attn.to_k is not None  # None only in uses of the class that are not SANA's
        assert attn.to_v is not None
        assert attn.to_out is not None
        query, key = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states)
        if attn.norm_q is not None and attn.norm_k is not None:
            query, key = attn.norm_q(query), attn.norm_k(key)
        parts = (query, key, attn.to_v(encoder_hidden_states))
        query, key, value = (part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in parts)
        return attn.to_out[0](attend(query, key, value))


class FusedBlock(SanaTransformerBlock):
    """A SANA block with an action layer inside: the exchange stands after cross-attention, before feed-forward."""

    def __init__(self, config: LatBotConfig) -> None:
        decoder = config.decoder
        super().__init__(
            decoder.width,
            decoder.num_heads,
            decoder.head_dim,
            num_cross_attention_heads=decoder.num_cross_heads,
            cross_attention_head_dim=decoder.cross_head_dim,
            cross_attention_dim=decoder.width,
            attention_bias=False,
            mlp_ratio=decoder.mlp_ratio,
            qk_norm=decoder.qk_norm,
        )
        self.attn2.set_processor(CaptionAttention())  # pyright: ignore[reportArgumentType]  (any callable serves)
        self.grid = config.codec.grid
        self.num_motion = config.motion_tokens
        self.fusion = ActionLayer(decoder)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        image: Tensor,
        scene: Tensor,
        actions: Tensor,
        modulation: Tensor,
        cond: Tensor,
        rotary: RotaryTable,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One layer of both streams.

        Args:
            image: [B, h * w, width], the noisy future frame's tokens.
            scene: [B, Ns, width], the caption tokens of the cross-attention.
            actions: [B, Nm + S, action width], motion tokens and noisy actions.
            modulation: [B, 6 * width], SANA's time embedding.
            cond: [B, action width], the action stream's time condition.
            rotary: positions of the action stream.
            mask: who sees whom in the action stream, or None for all.

        Returns:
            image, scene and actions after the layer.
        """
        table = self.scale_shift_table[None] + modulation.unflatten(-1, (6, -1))
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = table.chunk(6, dim=1)
        normed = (self.norm1(image) * (1 + scale_msa) + shift_msa).to(image.dtype)
        image = image + gate_msa * self.attn1(normed)
        image = image + self.attn2(image, encoder_hidden_states=scene)
        actions = self.fusion.attention(actions, cond, rotary, mask)
        actions, image, scene = self.fusion.exchange(actions, image, scene, self.num_motion)
        actions = self.fusion.feed_forward(actions, cond)
        normed = self.norm2(image) * (1 + scale_mlp) + shift_mlp
        maps = normed.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return image + gate_mlp * self.ff(maps).flatten(2).transpose(1, 2), scene, actions


class UnifiedDecoder(SanaTransformer2DModel):
    """SANA with the current frame in twice the input channels, and the action stream."""

    def __init__(self, config: LatBotConfig) -> None:
        arguments: dict[str, Any] = sana_arguments(config) | {"in_channels": 2 * config.codec.channels, "num_layers": 0}
        super().__init__(**arguments)
        self.transformer_blocks = nn.ModuleList(FusedBlock(config) for _ in range(config.decoder.num_layers))
        self.fusion = FusionStem(config.decoder, config.latent_dim, ACTION_DIM)
        self.num_motion = config.motion_tokens
        self.grid = config.codec.grid
        self.action_head_dim = config.decoder.action_width // config.decoder.action_heads
        self.only_tokens = config.decoder.exchange == "tokens"

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        noisy_frame: Float[Tensor, "b c h w"],
        current_frame: Float[Tensor, "b c h w"],
        noisy_actions: Float[Tensor, "b s a"],
        scene: Float[Tensor, "b n d"],
        motion: Float[Tensor, "b m d"],
        frame_time: Float[Tensor, " b"],
        action_time: Float[Tensor, " b"],
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b s a"]]:
        """The frame head's and the action head's output, float32; times are in [0, 1], 1 is noise.

        Each stream has its own time. The action output is the velocity `noise - actions`; what the frame output means
        is `config.flow.frame_prediction`'s business.
        """
        dtype = self.proj_out.weight.dtype
        image = self.patch_embed(torch.cat([noisy_frame, current_frame], dim=1).to(dtype))
        modulation, embedded = self.time_embed(1000.0 * frame_time, batch_size=len(image), hidden_dtype=image.dtype)
        captions = self.caption_norm(self.caption_projection(self.fusion.scene_in(scene.to(dtype))))
        actions, cond = self.fusion.stream(motion, noisy_actions), self.fusion.condition(action_time)
        rotary, mask = self._positions(actions)
        for block in self.transformer_blocks:
            image, captions, actions = block(image, captions, actions, modulation, cond, rotary, mask)
        image = self.proj_out(self.norm_out(image, embedded, self.scale_shift_table))
        frame = image.transpose(1, 2).unflatten(2, (self.grid, self.grid)).float()
        return frame, self.fusion.velocity(actions, cond, self.num_motion)

    def _positions(self, actions: Tensor) -> tuple[RotaryTable, Tensor | None]:
        length = actions.shape[1]
        position = torch.arange(length, device=actions.device)
        rotary = rotary_table(position[None], self.action_head_dim)
        if not self.only_tokens:
            return rotary, None
        # Motion tokens must not carry the noisy actions to the image: they see one another alone.
        is_motion = position < self.num_motion
        return rotary, (is_motion[None, :] | ~is_motion[:, None])[None, None]
