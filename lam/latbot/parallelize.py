"""Placement of the teacher: which parts are sharded and checkpointed as one, and buffers that need recomputing."""

import torch
from torch import nn

from lam.latbot.model import LatBot
from vla.nn.torchvision_ops import ensure_torchvision_operators

ensure_torchvision_operators()

from diffusers.models.embeddings import PatchEmbed  # noqa: E402


def blocks(model: LatBot) -> list[nn.Module]:
    """The repeated blocks in the order they run: vision layers, language layers, fused decoder layers."""
    vlm = model.encoder.vlm
    return [*vlm.vision_tower.encoder.layer, *vlm.language_model.layers, *model.decoder.transformer_blocks]


def init_buffers(model: LatBot) -> None:
    """Recompute the non-persistent buffers that `to_empty` left undefined: rotary frequencies, sine positions."""
    rotary = model.encoder.vlm.language_model.rotary_emb
    patch_embed = model.decoder.patch_embed
    with torch.device("cpu"):
        sources: list[tuple[nn.Module, nn.Module]] = [(rotary, type(rotary)(rotary.config))]
        if patch_embed.pos_embed is not None:
            sources.append((patch_embed, _positions(patch_embed)))
    for module, fresh in sources:
        values = dict(fresh.named_buffers())
        for name, buffer in module.named_buffers(recurse=False):
            buffer.copy_(values[name])


def _positions(module: PatchEmbed) -> PatchEmbed:
    """A patch embedding with the same positions and no weights worth the name."""
    side, width = module.height * module.patch_size, module.proj.out_channels
    scale = module.interpolation_scale
    return PatchEmbed(side, side, module.patch_size, 1, width, interpolation_scale=scale, pos_embed_type="sincos")
