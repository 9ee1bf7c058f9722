"""The student's layers over fused weights, written for few passes over memory: for inference only.

Masks here are over keys alone ([B, 1, 1, keys], True to look), because every query of a block sees the same. So the
query heads that share a key head can be laid behind one another as further queries: [B, G, N * H / G, D] against
[B, G, keys, D] reads keys and values once, without a copy for each head.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vla.models.pi05.fused import GemmaWeights, PrefixWeights, VisionWeights
from vla.nn.norms import rms_normalise
from vla.nn.rotary import RotaryTable

_EPS = 1e-6


class HeadShape(NamedTuple):
    """Query heads, key and value heads, width of a head."""

    heads: int
    kv_heads: int
    dim: int


class ContextBuffer(NamedTuple):
    """A layer's keys and values [B, kv_heads, prefix + S, head_dim]: the prefix's first, then this step's."""

    key: Tensor
    value: Tensor


def vision_layer(x: Tensor, weights: VisionWeights, num_heads: int) -> Tensor:
    """Tokens x [n, T, width] -> the same shape."""
    qkv = F.linear(_layer_norm(x, weights.norm1), *weights.qkv)
    query, key, value = qkv.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
    seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    x = x + F.linear(seen, *weights.out)
    hidden = F.gelu(F.linear(_layer_norm(x, weights.norm2), *weights.fc1), approximate="tanh")
    return x + F.linear(hidden, *weights.fc2)


def prefix_layer(
    x: Tensor, weights: PrefixWeights, shape: HeadShape, rotary: RotaryTable, mask: Tensor | None, out: ContextBuffer
) -> Tensor:
    """Tokens x [B, N, width] -> the same shape; keys and values go to the first N places of `out`."""
    normed = _rms_norm(x, weights.norm1)
    query, own = _query_key_value(normed, weights.products.qkv, shape, rotary, out, 0)
    x = x + F.linear(_attend(query, own, mask, shape), weights.products.out)
    return x + _geglu(_rms_norm(x, weights.norm2), weights.products)


def prefix_keys_and_values(
    x: Tensor, weights: PrefixWeights, shape: HeadShape, rotary: RotaryTable, out: ContextBuffer
) -> None:
    """What the last layer is for: keys and values of tokens x [B, N, width], into the first N places of `out`."""
    only = weights.products.qkv[shape.heads * shape.dim :]
    _query_key_value(_rms_norm(x, weights.norm1), only, shape._replace(heads=0), rotary, out, 0)


def expert_layer(
    x: Tensor,
    weights: GemmaWeights,
    modulation: tuple[Tensor, Tensor, Tensor],
    shape: HeadShape,
    rotary: RotaryTable,
    mask: Tensor | None,
    context: ContextBuffer,
) -> Tensor:
    """Noisy actions x [B, S, width] -> the same shape; their keys and values go to the last S places of `context`.

    modulation: scale, shift and gate of the layer's two norms at this time, each [2, width].
    """
    scale, shift, gate = modulation
    start = context.key.shape[2] - x.shape[1]
    normed = modulated(x, scale[0], shift[0])
    query, _ = _query_key_value(normed, weights.qkv, shape, rotary, context, start)
    x = torch.addcmul(x, F.linear(_attend(query, context, mask, shape), weights.out), gate[0])
    return torch.addcmul(x, _geglu(modulated(x, scale[1], shift[1]), weights), gate[1])


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """AdaRMS with scale (one added) and shift float32 [width]: x [B, S, width] -> the same shape and dtype."""
    return torch.addcmul(shift, rms_normalise(x, _EPS), scale).to(x.dtype)


def _rms_norm(x: Tensor, factor: Tensor) -> Tensor:
    return (rms_normalise(x, _EPS) * factor).to(x.dtype)


def _layer_norm(x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], *weights, eps=_EPS)


def _geglu(x: Tensor, weights: GemmaWeights) -> Tensor:
    gate, up = F.linear(x, weights.gate_up).chunk(2, dim=-1)
    return F.linear(F.gelu(gate, approximate="tanh") * up, weights.down)


def _query_key_value(
    x: Tensor, qkv: Tensor, shape: HeadShape, rotary: RotaryTable, out: ContextBuffer, start: int
) -> tuple[Tensor, ContextBuffer]:
    """Rotated queries [B, G, N * H / G, D]; keys and values are written into `out` from `start` on.

    Returns them with the queries, as views of `out`.
    """
    length = x.shape[1]
    parts = F.linear(x, qkv).unflatten(-1, (-1, shape.dim))
    turning, value = parts.split([shape.heads + shape.kv_heads, shape.kv_heads], dim=2)
    query, key = _rotated(turning, rotary).split([shape.heads, shape.kv_heads], dim=2)
    own = ContextBuffer(out.key[:, :, start : start + length], out.value[:, :, start : start + length])
    own.key.copy_(key.transpose(1, 2))
    own.value.copy_(value.transpose(1, 2))
    return query.unflatten(2, (shape.kv_heads, -1)).transpose(1, 2).flatten(2, 3), own


def _rotated(x: Tensor, rotary: RotaryTable) -> Tensor:
    """Heads x [B, N, heads, D], turned by tables [B or 1, N, 1, D / 2]: half a table, for its halves are alike."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _attend(query: Tensor, context: ContextBuffer, mask: Tensor | None, shape: HeadShape) -> Tensor:
    """Queries [B, G, N * H / G, D] over keys and values -> [B, N, H * D]."""
    out = F.scaled_dot_product_attention(query, context.key, context.value, attn_mask=mask)
    per_group = shape.heads // shape.kv_heads
    return out.unflatten(2, (-1, per_group)).transpose(1, 2).flatten(2)
