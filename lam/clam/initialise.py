"""Starting values: torch's own defaults for every kind of layer, as functions of a generator."""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class StartsItself(Protocol):
    """A module with tensors directly on it (tokens, codebooks) says where they start."""

    def initial_value(self, name: str, generator: torch.Generator) -> Tensor:
        """The starting value, float32 on CPU, of the parameter or buffer `name` of this very module."""
        ...


def initial_value(model: nn.Module, name: str, generator: torch.Generator) -> Tensor:
    """The starting value of one parameter or persistent buffer, float32 on CPU.

    Args:
        model: The whole model, on any device, meta too: the layers are looked up in it, for a bias's range depends on
            the width of its layer's input, which neither its name nor its shape tells.
        name: Full path in `model`.
        generator: What it is drawn from.

    Raises:
        ValueError: A kind of layer without a rule here.
    """
    path, _, own = name.rpartition(".")
    layer = model.get_submodule(path)
    if isinstance(layer, StartsItself):
        return layer.initial_value(own, generator)
    tensor = getattr(layer, own)
    value = torch.empty(tensor.shape)
    if isinstance(layer, nn.Embedding):
        return value.normal_(generator=generator)
    if isinstance(layer, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d):
        return value.fill_(1.0 if own in ("weight", "running_var") else 0.0)
    if isinstance(layer, nn.MultiheadAttention):
        return _attention_value(value, own, generator)
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        in_attention = isinstance(model.get_submodule(path.rpartition(".")[0]), nn.MultiheadAttention)
        if own == "bias" and in_attention:
            return value.zero_()
        return _linear_value(value, layer.weight.shape, own, generator)
    raise ValueError(f"{name}: no starting value is known for a {type(layer).__name__}; give it `initial_value`")


def _attention_value(value: Tensor, own: str, generator: torch.Generator) -> Tensor:
    if own == "in_proj_bias":
        return value.zero_()
    return nn.init.xavier_uniform_(value, generator=generator)


def _linear_value(value: Tensor, weight: torch.Size, own: str, generator: torch.Generator) -> Tensor:
    """Uniform within 1 / sqrt(fan in), weight and bias alike: what kaiming_uniform_(a=sqrt(5)) comes to."""
    bound = 1 / math.sqrt(weight[1:].numel())
    return value.uniform_(-bound, bound, generator=generator)
