"""The action stream beside SANA's layers, and the two reads that tie them together at every layer.

Stream: motion tokens, then noisy actions. Motion tokens are its main input: at the start of training both reads
give zero, so the stream knows the video only through them.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lam.latbot.config import DecoderConfig
from vla.nn.ada_rms import AdaRMSNorm
from vla.nn.attention import GroupedQueryAttention, attend
from vla.nn.flow_matching import sincos_embedding
from vla.nn.norms import RMSNorm
from vla.nn.rotary import RotaryTable
from vla.nn.transformer import GeGLU


class CrossRead(nn.Module):
    """Tokens of one stream read another: pre-norm on both sides, attention, a projection that starts at zero."""

    def __init__(self, query_width: int, context_width: int, width: int, num_heads: int) -> None:
        super().__init__()
        self.head_dim = width // num_heads
        self.query_norm = RMSNorm(query_width)
        self.context_norm = RMSNorm(context_width)
        self.q_proj = nn.Linear(query_width, width, bias=False)
        self.k_proj = nn.Linear(context_width, width, bias=False)
        self.v_proj = nn.Linear(context_width, width, bias=False)
        self.out_proj = nn.Linear(width, query_width)

    def forward(self, queries: Float[Tensor, "b n w"], context: Float[Tensor, "b m v"]) -> Float[Tensor, "b n w"]:
        """What queries [B, N, query_width] gain from context [B, M, context_width]; the caller adds it."""
        context = self.context_norm(context)
        parts = self.q_proj(self.query_norm(queries)), self.k_proj(context), self.v_proj(context)
        query, key, value = (part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for part in parts)
        return self.out_proj(attend(query, key, value))


class ActionLayer(nn.Module):
    """One layer of the action stream, split where the exchange happens: between attention and feed-forward."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width, heads = config.action_width, config.action_heads
        self.self_attn = GroupedQueryAttention(width, heads, heads, width // heads)
        self.mlp = GeGLU(width, 4 * width)
        self.input_layernorm = AdaRMSNorm(width, width)
        self.post_attention_layernorm = AdaRMSNorm(width, width)
        self.scene_to_motion = CrossRead(width, config.width, width, heads)
        self.motion_to_scene = CrossRead(config.width, width, width, heads)
        self.only_tokens = config.exchange == "tokens"

    def attention(self, x: Tensor, cond: Tensor, rotary: RotaryTable, mask: Tensor | None) -> Tensor:
        """Self-attention half: x [B, Nm + S, W], cond [B, W] -> [B, Nm + S, W]."""
        y, gate = self.input_layernorm(x, self.input_layernorm.modulation(cond))
        return x + self.self_attn(y, self.self_attn.key_value(y, rotary), rotary, mask) * gate

    def exchange(self, x: Tensor, image: Tensor, scene: Tensor, num_motion: int) -> tuple[Tensor, Tensor, Tensor]:
        """Both reads at once, each from the other's state before it: (x, image, scene) -> the same three."""
        both = torch.cat([image, scene], dim=1)
        gained = self.motion_to_scene(both, x[:, :num_motion] if self.only_tokens else x)
        x = x + self.scene_to_motion(x, scene if self.only_tokens else both)
        image_gain, scene_gain = gained.split([image.shape[1], scene.shape[1]], dim=1)
        return x, image + image_gain, scene + scene_gain

    def feed_forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Feed-forward half: x [B, Nm + S, W] -> the same shape."""
        y, gate = self.post_attention_layernorm(x, self.post_attention_layernorm.modulation(cond))
        return x + self.mlp(y) * gate


class FusionStem(nn.Module):
    """Ways in and out of the streams: latents to captions and motion tokens, actions, flow time, action velocity."""

    def __init__(self, config: DecoderConfig, latent_dim: int, action_dim: int) -> None:
        super().__init__()
        width = config.action_width
        self.scene_in = nn.Linear(latent_dim, config.caption_width)
        self.motion_in = nn.Linear(latent_dim, width)
        self.action_in = nn.Linear(action_dim, width)
        self.time_in = nn.Linear(width, width)
        self.time_out = nn.Linear(width, width)
        self.norm_out = AdaRMSNorm(width, width)
        self.action_out = nn.Linear(width, action_dim)

    def condition(self, time: Float[Tensor, " b"]) -> Float[Tensor, "b w"]:
        """Flow times [B] in [0, 1] -> the adaRMS condition [B, W], as pi0.5 makes it."""
        embedding = sincos_embedding(time, self.time_in.in_features).to(self.time_in.weight.dtype)
        return nn.functional.silu(self.time_out(nn.functional.silu(self.time_in(embedding))))

    def stream(self, motion: Tensor, noisy_actions: Tensor) -> Tensor:
        """Motion tokens [B, Nm, D] and noisy actions [B, S, A] -> the action stream's first state [B, Nm + S, W]."""
        dtype = self.action_in.weight.dtype
        return torch.cat([self.motion_in(motion.to(dtype)), self.action_in(noisy_actions.to(dtype))], dim=1)

    def velocity(self, x: Tensor, cond: Tensor, num_motion: int) -> Tensor:
        """The stream's last state -> action velocity [B, S, A], float32."""
        y, _ = self.norm_out(x, self.norm_out.modulation(cond))
        return self.action_out(y[:, num_motion:]).float()
