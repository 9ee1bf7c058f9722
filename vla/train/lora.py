"""Low-rank adapters through peft: put in, named, started, and merged away again in what a run leaves.

A linear `x.q_proj` becomes `x.q_proj.base_layer` (frozen) beside `x.q_proj.lora_A.default` and `.lora_B.default`: those
are peft's names, in checkpoints for resuming. What is exported has `x.q_proj` again: base + alpha / rank * B A.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from vla.nn.randomness import keep_by_ids
from vla.nn.torchvision_ops import ensure_torchvision_operators

_BASE, _A, _B = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"


class DropoutRows:
    """The samples a forward pass is about: set by the stage before it, read by every adapter's dropout."""

    sample_ids: Tensor | None = None


class AdapterDropout(nn.Module):
    """Dropout of input features, the same ones for all of a sample's tokens: a function of (adapter, sample id).

    peft's own draws every element from torch's global generator: a run resumed, cut over ranks or into micro-batches,
    or padded differently, would be another run.
    """

    def __init__(self, rate: float, stream: int, rows: DropoutRows) -> None:
        super().__init__()
        self.rate, self.stream, self.rows = rate, stream, rows

    @override
    def forward(self, x: Tensor) -> Tensor:
        """X [R, N, width], R a multiple of the samples, sample-major -> the same, zeros in a share `rate`."""
        if not self.training:
            return x
        ids = self.rows.sample_ids
        assert ids is not None, "the stage must say which samples the rows are"
        keep = keep_by_ids(ids, x.shape[-1], self.rate, self.stream) / (1 - self.rate)
        return x * keep.to(x.dtype).repeat_interleave(len(x) // len(ids), dim=0)[:, None]


def add_adapters(
    module: nn.Module, targets: Sequence[str], rank: int, alpha: float, dropout: float = 0.0
) -> DropoutRows:
    """Put an adapter on each linear layer named in `targets`, in place; nothing else changes, frozen or not.

    Args:
        module: What they are put into; it may be on meta.
        targets: Full names of linear layers.
        rank: Of the update.
        alpha: The update is scaled by alpha / rank.
        dropout: Share of an adapter's input features that is zeroed in training, chosen anew for each sample.

    Returns:
        Where the stage says, before each forward pass, which samples it is about; only dropout reads it.
    """
    ensure_torchvision_operators()
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds, and only this needs it
    from peft.tuners.lora import LoraLayer

    learning = {name for name, p in module.named_parameters() if p.requires_grad}
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), bias="none")  # pyright: ignore[reportArgumentType]
    inject_adapter_in_model(config, module)
    rows = DropoutRows()
    found = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, LoraLayer)]
    assert {name for name, _ in found} == set(targets), "a target that is no linear layer"
    for stream, (_, layer) in enumerate(found):
        layer.cast_input_dtype_enabled = False  # autocast casts; peft would first make a float32 copy of every input
        if dropout:
            layer.lora_dropout["default"] = AdapterDropout(dropout, stream, rows)
    for name, parameter in module.named_parameters():  # peft freezes all that is not an adapter
        parameter.requires_grad_(is_adapter(name) or name in learning)
    return rows


def is_adapter(name: str) -> bool:
    """Whether a parameter's name is an adapter's."""
    return name.endswith((_A, _B))


def plain_name(name: str) -> str:
    """A parameter's name as it is without adapters."""
    return name.replace(_BASE, ".")


def adapter_value(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """An adapter's starting value: A uniform within 1 / sqrt(inputs), as peft's, and B zero."""
    if name.endswith(_B):
        return torch.zeros(shape)
    return (2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(shape[1])


def merged(module: nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of a module's whole tensors, its adapters gone into the weights they stand beside, in float32.

    `tensors` are in the order of `named_parameters`: a base weight comes before its own A and B, and at most one is
    held meanwhile. A module without adapters passes through.
    """
    name, parts = "", []
    for tensor_name, tensor in tensors:
        if is_adapter(tensor_name):
            parts.append(tensor.float().clone())
            if len(parts) == 3:
                base, a, b = parts
                layer: Any = module.get_submodule(name.removesuffix(".weight"))
                yield name, base + layer.scaling["default"] * (b @ a)
        elif tensor_name.endswith(f"{_BASE}weight"):
            # A copy: the engine may take a gathered tensor's memory back when it gives the next one.
            name, parts = plain_name(tensor_name), [tensor.float().clone()]
        else:
            yield plain_name(tensor_name), tensor
