"""From a module on meta to one with weights: the same bits under every kind of parallelism.

Every weight is a function of (seed, its name), drawn whole on the CPU and then cut to what this rank holds, so the
peak is one full tensor and neither the number of ranks nor the order of the parameters changes a run's start.
"""

import hashlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from vla.train.stage import Stage


def generator_for(seed: int, name: str) -> torch.Generator:
    """The generator a parameter's starting value is drawn from; sha256 because `hash` differs between processes."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def persistent_buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """(name, buffer) of the buffers a file of weights holds."""
    saved = module.state_dict(keep_vars=True).keys()
    yield from ((name, buffer) for name, buffer in module.named_buffers() if name in saved)


def persistent_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of all a file of weights holds: parameters, tied ones once, and persistent buffers."""
    yield from module.named_parameters()
    yield from persistent_buffers(module)


def largest_first(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """(name, parameter), the largest first.

    A value is whole on the CPU before it is cut or copied: in this order that copy is gone, or small, when the memory
    already filled is largest. In a module's own order pi0.5's embedding alone adds 16 % to the peak.
    """
    return sorted(module.named_parameters(), key=lambda item: -item[1].numel())


def replace_parameter(module: nn.Module, names: list[str], parameter: nn.Parameter) -> None:
    """Put one parameter in the place of the (tied) ones called `names`."""
    for name in names:
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, parameter)


def tied_names(module: nn.Module) -> list[list[str]]:
    """The parameters' names, those of one tied parameter together; the first is what `named_parameters` calls it."""
    names_of: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names_of.setdefault(id(parameter), []).append(name)
    return list(names_of.values())


def materialise_buffers(module: nn.Module, device: torch.device | str) -> None:
    """Give a meta module's buffers undefined memory on `device`."""
    for owner in module.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            owner.register_buffer(
                name,
                torch.empty_like(buffer, device=device),
                persistent=name not in owner._non_persistent_buffers_set,
            )


def materialise(module: nn.Module, device: torch.device | str) -> None:
    """Give a meta module undefined memory on `device`. Unlike `to_empty` this keeps tied parameters tied."""
    for names in tied_names(module):
        meta = module.get_parameter(names[0])
        empty = torch.empty_like(meta, device=device)
        replace_parameter(module, names, nn.Parameter(empty, requires_grad=meta.requires_grad))
    materialise_buffers(module, device)


@torch.no_grad()
def fill(tensor: Tensor, full: Tensor) -> None:
    """Copy the whole value `full` into `tensor`, or this rank's shard of it."""
    if isinstance(tensor, DTensor):
        # Every rank holds the same full value, so each cuts its own shard: src_data_rank=None sends nothing.
        full = full.to(tensor.device)
        full = distribute_tensor(full, tensor.device_mesh, tensor.placements, src_data_rank=None).to_local()
        tensor = tensor.to_local()
    tensor.copy_(full)


def starting_value(stage: Stage, name: str, shape: torch.Size, seed: int) -> Tensor:
    """The stage's full starting value for one tensor, checked for shape and finiteness."""
    full = stage.init_parameter(name, shape, generator_for(seed, name))
    if full.shape != shape:
        raise ValueError(f"{name}: starting value has shape {tuple(full.shape)}, the module's is {tuple(shape)}")
    if full.numel() and not all(math.isfinite(end) for end in map(float, full.aminmax())):  # isfinite() would copy it
        raise ValueError(f"{name}: starting value is not finite; look at the file or the rule it came from")
    return full


def initialise_buffers(module: nn.Module, stage: Stage, seed: int) -> None:
    """Fill the buffers of a materialised module."""
    for name, buffer in persistent_buffers(module):
        fill(buffer, starting_value(stage, name, buffer.shape, seed))
    stage.init_buffers(module)


def initialise(module: nn.Module, stage: Stage, seed: int) -> None:
    """Fill every parameter and buffer of a materialised, possibly sharded module."""
    for name, parameter in largest_first(module):
        fill(parameter, starting_value(stage, name, parameter.shape, seed))
    initialise_buffers(module, stage, seed)
