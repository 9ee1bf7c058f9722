"""A student's weights as inference reads them: few large products, cast once, and in memory once.

Projections of the same input become one matrix. The model's own parameters become views of it, so both the fused
weights and the model can be used, and nothing is held twice.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vla.models.pi05.model import Pi05
from vla.models.pi05.precision import published_dtype
from vla.nn.flow_matching import euler_times


class VisionWeights(NamedTuple):
    """A layer of the vision tower: (weight, bias) of its norms and products; `qkv` stacks queries, keys, values."""

    norm1: tuple[Tensor, Tensor]
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]
    fc1: tuple[Tensor, Tensor]
    fc2: tuple[Tensor, Tensor]


class GemmaWeights(NamedTuple):
    """The products of a Gemma layer: qkv [(H + 2 G) D, W], out [W, H D], gate_up [2 M, W], down [W, M]."""

    qkv: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor


class PrefixWeights(NamedTuple):
    """A layer of the VLM: its norms' factors `1 + weight`, float32 [W], and its products."""

    norm1: Tensor
    norm2: Tensor
    products: GemmaWeights


class Modulations(NamedTuple):
    """What adaRMS does at every Euler step T and norm n of the expert, in order: each [T, n, width].

    scale (with one added) and shift are float32, the gate has the dtype of the residual stream.
    """

    scale: Tensor
    shift: Tensor
    gate: Tensor


def cast_as_published(model: Pi05, dtype: torch.dtype) -> None:
    """Give every parameter the dtype it has in published files of that precision, one after another, in place."""
    for name, parameter in model.named_parameters():
        wanted = torch.float32 if dtype == torch.float32 else published_dtype(name, "openpi")
        if parameter.dtype != wanted:
            parameter.data = parameter.data.to(wanted)


def vision_layers(model: Pi05) -> list[VisionWeights]:
    """The vision tower's layers, fused."""
    fused = []
    for layer in model.vision.encoder.layers:
        attention = [layer.get_submodule(f"self_attn.{name}_proj") for name in ("q", "k", "v")]
        qkv = (_join([part.weight for part in attention]), _join([part.bias for part in attention]))  # pyright: ignore
        names = ("layer_norm1", "self_attn.out_proj", "layer_norm2", "mlp.fc1", "mlp.fc2")
        norm1, out, norm2, fc1, fc2 = (weight_and_bias(layer.get_submodule(name)) for name in names)
        fused.append(VisionWeights(norm1, qkv, out, norm2, fc1, fc2))
    return fused


def prefix_layers(model: Pi05) -> list[PrefixWeights]:
    """The VLM's layers, fused."""
    fused = []
    for layer in model.language.layers:
        norms = [1.0 + layer.get_parameter(f"{name}_layernorm.weight").data for name in ("input", "post_attention")]
        fused.append(PrefixWeights(norms[0], norms[1], _gemma(layer)))
    return fused


def expert_layers(model: Pi05) -> list[GemmaWeights]:
    """The expert's layers, fused; their norms are `modulations`."""
    return [_gemma(layer) for layer in model.expert.layers]


def modulations(model: Pi05, dtype: torch.dtype) -> Modulations:
    """Scale, shift and gate of all norms at all Euler steps: functions of time alone, so one product makes them."""
    device = model.action_in_proj.weight.device
    steps = model.step_modulations(euler_times(model.config.num_steps, device))
    table = torch.stack([torch.cat(step) for step in steps]).float()
    scale, shift, gate = table.chunk(3, dim=-1)
    return Modulations((1.0 + scale).contiguous(), shift.contiguous(), gate.to(dtype).contiguous())


def weight_and_bias(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Of a Linear or LayerNorm."""
    return module.get_parameter("weight").data, module.get_parameter("bias").data


def _gemma(layer: nn.Module) -> GemmaWeights:
    attention = [layer.get_parameter(f"self_attn.{name}_proj.weight") for name in ("q", "k", "v")]
    gate_up = [layer.get_parameter(f"mlp.{name}_proj.weight") for name in ("gate", "up")]
    return GemmaWeights(
        qkv=_join(attention),
        out=layer.get_parameter("self_attn.o_proj.weight").data,
        gate_up=_join(gate_up),
        down=layer.get_parameter("mlp.down_proj.weight").data,
    )


def _join(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The parameters one below the other; each becomes a view of its rows, and its old memory is free."""
    joined = torch.cat([parameter.data for parameter in parameters])
    rows = joined.split([len(parameter) for parameter in parameters])
    for parameter, part in zip(parameters, rows, strict=True):
        parameter.data = part
    return joined
