"""Gemma's layer, plain and time-conditioned: one reads images and text, the other denoises actions beside it."""

from torch import Tensor, nn
from torch.nn import functional as F

from vla.nn.ada_rms import AdaRMSNorm
from vla.nn.attention import GroupedQueryAttention, KeyValue
from vla.nn.norms import RMSNorm
from vla.nn.recompute import recomputed
from vla.nn.rotary import RotaryTable


class GeGLU(nn.Module):
    """`down(gelu_tanh(gate(x)) * up(x))`, without biases."""

    def __init__(self, width: int, mlp_dim: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, mlp_dim, bias=False)
        self.up_proj = nn.Linear(width, mlp_dim, bias=False)
        self.down_proj = nn.Linear(mlp_dim, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """X [..., width] -> [..., width]. Of the four tensors as wide as the layer, the backward pass keeps two."""
        return recomputed(self._gated, self.gate_proj(x), self.up_proj(x))

    def _gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return self.down_proj(F.gelu(gate, approximate="tanh") * up)


class GemmaBlock(nn.Module):
    """A Gemma layer that also hands out its keys and values, so another stream can attend to them."""

    def __init__(self, width: int, mlp_dim: int, num_heads: int, num_kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.self_attn = GroupedQueryAttention(width, num_heads, num_kv_heads, head_dim)
        self.mlp = GeGLU(width, mlp_dim)
        self.input_layernorm = RMSNorm(width)
        self.post_attention_layernorm = RMSNorm(width)

    def forward(
        self,
        x: Tensor,
        rotary: RotaryTable,
        mask: Tensor | None,
        context: KeyValue | None = None,
        only_key_value: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens x [B, N, width] -> (x after the layer, keys, values), keys and values [B, kv_heads, N, head_dim].

        `context` holds keys and values of earlier tokens (the mask covers them first). With `only_key_value` the
        layer stops after its keys and values and gives x back as it came: enough where nothing reads its output.
        """
        normed = self.input_layernorm(x)
        own = self.self_attn.key_value(normed, rotary)
        if only_key_value:
            return x, *own
        x = x + self.self_attn(normed, own, rotary, mask, context)
        return x + self.mlp(self.post_attention_layernorm(x)), *own


class AdaGemmaBlock(nn.Module):
    """A Gemma layer with adaRMS norms and gated residuals, attending to a context's keys and values and to itself."""

    def __init__(
        self, width: int, mlp_dim: int, num_heads: int, num_kv_heads: int, head_dim: int, cond_dim: int | None = None
    ) -> None:
        super().__init__()
        self.self_attn = GroupedQueryAttention(width, num_heads, num_kv_heads, head_dim)
        self.mlp = GeGLU(width, mlp_dim)
        self.input_layernorm = AdaRMSNorm(width, cond_dim or width)
        self.post_attention_layernorm = AdaRMSNorm(width, cond_dim or width)

    def forward(
        self,
        x: Tensor,
        cond: Tensor,
        rotary: RotaryTable,
        mask: Tensor | None,
        context: KeyValue | None = None,
        modulations: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Tokens x [B, S, width] under condition cond [B, cond_dim] -> [B, S, width].

        The mask covers the context first, then x: [B or 1, 1, S or 1, context + S]. `modulations`, both norms'
        [B, 3 * width], replaces what would be computed from `cond`.
        """
        first, second = modulations or (
            self.input_layernorm.modulation(cond),
            self.post_attention_layernorm.modulation(cond),
        )
        y, gate = self.input_layernorm(x, first)
        x = x + self.self_attn(y, self.self_attn.key_value(y, rotary), rotary, mask, context) * gate
        y, gate = self.post_attention_layernorm(x, second)
        return x + self.mlp(y) * gate
