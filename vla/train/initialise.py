"""From a module on meta to one with weights: the same bits under every kind of parallelism.

Every weight is a function of (seed, its name), drawn whole on the CPU and then cut to what this rank holds, so the
peak is one full tensor and neither the number of ranks nor the order of the parameters changes a run's start.
"""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from vla.train.stage import Stage


def generator_for(seed: int, name: str) -> torch.Generator:
    """The generator a parameter's starting value is drawn from; sha256 because `hash` differs between processes."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def persistent_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of all a file of weights holds: parameters, tied ones once, and persistent buffers."""
    yield from module.named_parameters()
    saved = module.state_dict(keep_vars=True).keys()
    yield from ((name, buffer) for name, buffer in module.named_buffers() if name in saved)


def materialise(module: nn.Module, device: torch.device | str) -> None:
    """Give a meta module undefined memory on `device`, keeping tied parameters tied (`to_empty` alone unties them)."""
    names_of: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names_of.setdefault(id(parameter), []).append(name)
    module.to_empty(device=device)
    for first, *others in names_of.values():
        for name in others:
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, module.get_parameter(first))


@torch.no_grad()
def fill(tensor: Tensor, full: Tensor) -> None:
    """Copy the whole value `full` into `tensor`, or this rank's shard of it."""
    if isinstance(tensor, DTensor):
        # Every rank holds the same full value, so each cuts its own shard: src_data_rank=None sends nothing.
        full = distribute_tensor(
            full.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None
        ).to_local()
        tensor = tensor.to_local()
    tensor.copy_(full)


def starting_value(stage: Stage, name: str, shape: torch.Size, seed: int) -> Tensor:
    """The stage's full starting value for one tensor, checked for shape and finiteness."""
    full = stage.init_parameter(name, shape, generator_for(seed, name))
    if full.shape != shape:
        raise ValueError(f"{name}: starting value has shape {tuple(full.shape)}, the module's is {tuple(shape)}")
    if not full.isfinite().all():
        raise ValueError(f"{name}: starting value is not finite; look at the file or the rule it came from")
    return full


def initialise(module: nn.Module, stage: Stage, seed: int) -> None:
    """Fill every parameter and buffer of a materialised, possibly sharded module."""
    for name, tensor in persistent_tensors(module):
        fill(tensor, starting_value(stage, name, tensor.shape, seed))
    stage.init_buffers(module)
