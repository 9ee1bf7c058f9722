"""Placement: which parts of the student are sharded and recomputed as units."""

from torch import nn

from vla.models.pi05.model import Pi05


def blocks(module: nn.Module) -> list[nn.Module]:
    """The repeated layers in the order a forward pass runs them: vision tower, VLM, expert."""
    assert isinstance(module, Pi05)
    return [*module.vision.encoder.layers, *module.language.layers, *module.expert.layers]
