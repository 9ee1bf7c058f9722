"""A model's sizes from its weights: everything but what leaves no trace in a shape.

Numbers of heads leave none: a projection to 8 heads of 16 has the shape of one to 4 heads of 32.
"""

import math
import re
from dataclasses import dataclass

from vla.models.pi05.config import GemmaConfig, Pi05Config, VisionConfig
from vla.models.pi05.convert import WeightFile

_VLM = "paligemma_with_expert.paligemma.model.language_model"
_EXPERT = "paligemma_with_expert.gemma_expert.model"
_VISION = "paligemma_with_expert.paligemma.model.vision_tower.vision_model"


@dataclass(frozen=True)
class Heads:
    """What shapes do not tell: heads of the vision tower, and the width of one head in both Gemma stacks."""

    vision: int
    head_dim: int


def head_choices(weights: WeightFile, vision: int | None = None, head_dim: int | None = None) -> list[Heads]:
    """The heads the weights could have, the likeliest first; one only at the published widths.

    `vision` and `head_dim` are taken as they are where they are known.
    """
    tower = _shape(weights, f"{_VISION}.post_layernorm.weight", 1)[0]
    visions = [vision] if vision else _vision_heads(tower)
    queries, keys = _query_key_widths(weights)
    dims = [head_dim] if head_dim else _head_dims(queries, keys)
    if not dims:
        raise ValueError(f"{weights.path}: no heads make queries {queries} and keys {keys} wide; is this a π0.5?")
    return [Heads(number, dim) for dim in dims for number in visions]


def _vision_heads(width: int) -> list[int]:
    if width == VisionConfig.width:
        return [VisionConfig.num_heads]
    return [heads for heads in range(1, width + 1) if width % heads == 0]


def _head_dims(queries: int, keys: int) -> list[int]:
    """One key and value head, as all published models have, before several."""
    if keys == GemmaConfig.head_dim and queries == GemmaConfig.num_heads * keys:
        return [keys]
    shared = math.gcd(queries, keys)
    return [dim for dim in range(shared, 1, -1) if shared % dim == 0 and dim % 2 == 0]


def config_of(weights: WeightFile, heads: Heads, image_size: int, horizon: int, num_steps: int = 10) -> Pi05Config:
    """The configuration a file of weights was made with.

    Args:
        weights: A whole π0.5.
        heads: One of `head_choices`.
        image_size: Pixels of a side of an image.
        horizon: Actions of a chunk.
        num_steps: Euler steps from noise to actions.

    Raises:
        ValueError: A tensor the sizes come from is missing, or sizes do not go together.
    """
    width, _, _, patch_size = _shape(weights, f"{_VISION}.embeddings.patch_embedding.weight", 4)
    positions, _ = _shape(weights, f"{_VISION}.embeddings.position_embedding.weight", 2)
    if image_size != math.isqrt(positions) * patch_size:
        raise ValueError(
            f"{weights.path} has {positions} image positions in patches of {patch_size} px, for images of "
            f"{math.isqrt(positions) * patch_size} px, but the images have {image_size} px"
        )
    vision = VisionConfig(
        width=width,
        depth=_depth(weights, f"{_VISION}.encoder"),
        mlp_dim=_shape(weights, f"{_VISION}.encoder.layers.0.mlp.fc1.weight", 2)[0],
        num_heads=heads.vision,
        patch_size=patch_size,
        image_size=image_size,
    )
    return Pi05Config(
        vision=vision,
        vlm=_gemma(weights, _VLM, heads.head_dim),
        expert=_gemma(weights, _EXPERT, heads.head_dim),
        vocab_size=_shape(weights, "paligemma_with_expert.paligemma.lm_head.weight", 2)[0],
        action_dim=_shape(weights, "action_in_proj.weight", 2)[1],
        horizon=horizon,
        num_steps=num_steps,
    )


def _gemma(weights: WeightFile, stack: str, head_dim: int) -> GemmaConfig:
    """A stack's own width, with the depth and the heads that it shares with the other one.

    Where the stacks do not agree, the names or shapes that are wrong then come out by name.
    """
    queries, keys = _query_key_widths(weights)
    if queries % head_dim or keys % head_dim or head_dim % 2:
        raise ValueError(f"head_dim {head_dim} does not fit {weights.path}: queries are {queries} wide, keys {keys}")
    mlp_dim, width = _shape(weights, f"{stack}.layers.0.mlp.up_proj.weight", 2)
    return GemmaConfig(
        width=width,
        depth=max(_depth(weights, _VLM), _depth(weights, _EXPERT)),
        mlp_dim=mlp_dim,
        num_heads=queries // head_dim,
        num_kv_heads=keys // head_dim,
        head_dim=head_dim,
    )


def _query_key_widths(weights: WeightFile) -> tuple[int, int]:
    attention = f"{_VLM}.layers.0.self_attn."
    return tuple(_shape(weights, f"{attention}{part}_proj.weight", 2)[0] for part in "qk")  # pyright: ignore


def _shape(weights: WeightFile, name: str, dims: int) -> tuple[int, ...]:
    shape = weights.shape(name)
    if len(shape) != dims:
        raise ValueError(f"{weights.path}: {weights.foreign(name)} has shape {shape}; a π0.5 has {dims} sizes there")
    return shape


def _depth(weights: WeightFile, stack: str) -> int:
    """One more than the largest layer number: a layer that is not there then counts as missing."""
    layer = re.compile(re.escape(stack) + r"\.layers\.(\d+)\.")
    numbers = [int(found[1]) for name in weights if (found := layer.match(name))]
    if not numbers:
        raise ValueError(f"{weights.path}: there is no {stack}.layers.0, which every π0.5 has; is this one?")
    return max(numbers) + 1
