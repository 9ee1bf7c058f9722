"""Grouped-query attention over tokens and, optionally, keys and values computed elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla.nn.rotary import RotaryTable, apply_rotary

KeyValue = tuple[Tensor, Tensor]

_kernels_of: str | None = None


@contextmanager
def kernels_of(device_type: str) -> Iterator[None]:
    """Inside, attention is computed as on that kind of device, wherever the tensors are.

    For reckoning without a GPU what a GPU would need (`vla plan`).
    """
    global _kernels_of
    before, _kernels_of = _kernels_of, device_type
    try:
        yield
    finally:
        _kernels_of = before


def runs_on_cpu(x: Tensor) -> bool:
    """Whether attention over x is computed by a CPU's kernels."""
    return (_kernels_of or x.device.type) == "cpu"


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention with scale head_dim^-0.5.

    Args:
        query: [B, heads, N, head_dim].
        key: [B, kv_heads, M, head_dim], kv_heads dividing heads.
        value: like key.
        mask: bool, True where a query may look, broadcastable to [B, heads, N, M]; None lets every query see all.

    Returns:
        [B, N, heads * head_dim].
    """
    batch, heads, length, head_dim = query.shape
    if key.shape[1] != heads:
        key, value = (_share(part, heads) for part in (key, value))
    out = _by_products(query, key, value, mask) if _on_slow_path(query) else _fused(query, key, value, mask)
    return out.transpose(1, 2).reshape(batch, length, heads * head_dim)


def _share(part: Tensor, heads: int) -> Tensor:
    """Give each group of query heads its key or value head: a view where there is one head to share."""
    batch, kv_heads, length, head_dim = part.shape
    if kv_heads == 1:
        return part.expand(batch, heads, length, head_dim)
    return part[:, :, None].expand(-1, -1, heads // kv_heads, -1, -1).reshape(batch, heads, length, head_dim)


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _on_slow_path(query: Tensor) -> bool:
    """Whether the fused kernel would be the slow one: its bfloat16 backward on a CPU.

    Measured on one core with AMX, 32 x 4 heads x 96 tokens x 32: fused 4 ms forward and 62 ms backward, plain
    products 5 and 6. In float32, and without a gradient, the fused kernel is as fast or faster.
    """
    return runs_on_cpu(query) and query.dtype == torch.bfloat16 and torch.is_grad_enabled()


def _by_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1).to(value.dtype) @ value


class GroupedQueryAttention(nn.Module):
    """Bias-free q, k, v and o projections with rotary positions: the attention of Gemma's layers."""

    def __init__(self, width: int, num_heads: int, num_kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = nn.Linear(width, num_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(width, num_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(width, num_kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(num_heads * head_dim, width, bias=False)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def key_value(self, x: Tensor, rotary: RotaryTable) -> KeyValue:
        """Keys (rotated) and values of tokens x [B, N, width], each [B, kv_heads, N, head_dim]."""
        return apply_rotary(self._split(self.k_proj(x)), rotary), self._split(self.v_proj(x))

    def forward(
        self, x: Tensor, own: KeyValue, rotary: RotaryTable, mask: Tensor | None, context: KeyValue | None = None
    ) -> Tensor:
        """Attend from x [B, N, width] to `own` keys and values, after those of `context` if there are any.

        The mask is over the context first, then x's own tokens: [B or 1, 1, N or 1, context + N].
        """
        key, value = own
        if context is not None:
            key, value = torch.cat([context[0], key], dim=2), torch.cat([context[1], value], dim=2)
        query = apply_rotary(self._split(self.q_proj(x)), rotary)
        return self.o_proj(attend(query, key, value, mask))
