"""A module alone, under DDP or sharded by FSDP2: called directly, so that what is asked for is what runs."""

import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from vla.train import optim
from vla.train.checkpoint import load_sharded, save_sharded
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.distributed import World
from vla.train.ema import local
from vla.train.engine import Engine, build_on_meta
from vla.train.initialise import initialise, materialise, persistent_buffers, persistent_tensors
from vla.train.precision import forward_precision
from vla.train.stage import Stage


def place(stage: Stage, loop: LoopConfig, config: OptimConfig, parallel: ParallelConfig, world: World) -> Engine:
    """Build, shard, fill and wrap the stage's module as the recipe asks, and make sure that is what runs."""
    if parallel.kind == "deepspeed":
        from vla.train.zero import ZeroEngine  # importing deepspeed takes seconds, and only this needs it

        engine: Engine = ZeroEngine(stage, loop, config, parallel, world)
    else:
        engine = TorchEngine(stage, loop, config, parallel, world)
    if engine.running() != parallel.name:
        raise RuntimeError(f"parallel asks for {parallel.name!r}, but what runs is {engine.running()!r}")
    return engine


def _shard(module: nn.Module, blocks: list[nn.Module], mesh: DeviceMesh) -> None:
    # Said in every forward pass of a block that returns a view. It is about in-place operations on that view, which
    # no stage has: the tests that compare a stage's gradients over all kinds of parallelism would see one.
    warnings.filterwarnings("once", message="FSDP2-wrapped module .* returned a view tensor")
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)


class TorchEngine(Engine):
    """`single`, `ddp` or `fsdp`; see `Engine` for what each method promises."""

    network: nn.Module

    def __init__(
        self, stage: Stage, loop: LoopConfig, config: OptimConfig, parallel: ParallelConfig, world: World
    ) -> None:
        mesh = None
        if parallel.kind != "single":
            mesh = init_device_mesh(world.device.type, (world.size,), mesh_dim_names=("data",))
        self.module, blocks = build_on_meta(stage, loop, mesh)
        decayed = optim.decayed_names(self.module, config)
        if parallel.kind == "fsdp" and mesh is not None:
            _shard(self.module, blocks, mesh)
        materialise(self.module, world.device)
        initialise(self.module, stage, loop.seed)
        self.network = _replicate(self.module, world.device) if parallel.kind == "ddp" else self.module
        self._parameters = dict(self.module.named_parameters())
        self._optimiser = optim.build_adamw(self._parameters, decayed, config)
        optim.start_moments(self._optimiser)
        self._loop, self._clip_norm, self._device = loop, config.clip_norm, world.device

    @override
    def forward(self, last: bool) -> torch.autocast:
        # Ranks exchange gradients once an update, in the last micro-batch's backward pass.
        if isinstance(self.network, DistributedDataParallel):
            self.network.require_backward_grad_sync = last
        elif isinstance(self.module, FSDPModule):
            self.module.set_requires_gradient_sync(last)
        return forward_precision(self._loop.dtype, self._device, sharded=isinstance(self.module, FSDPModule))

    @override
    def backward(self, loss: Tensor) -> None:
        (loss / self._loop.accumulate).backward()

    @override
    def update(self, lr: float, loss_is_finite: bool) -> float:
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self._clip_norm)
        norm = (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()
        if loss_is_finite and math.isfinite(norm):
            optim.set_learning_rate(self._optimiser, lr)
            self._optimiser.step()
        self._optimiser.zero_grad()
        return norm

    @override
    def weights(self) -> dict[str, Tensor]:
        return {name: p for name, p in self._parameters.items() if p.requires_grad}

    @override
    @torch.no_grad()
    def full_tensors(self) -> Iterator[tuple[str, Tensor]]:
        self.forget_gathered()
        for name, tensor in persistent_tensors(self.module):
            yield name, (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()

    @override
    def forget_gathered(self) -> None:
        for module in self.module.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def _state(self, averages: dict[str, Tensor]) -> dict[str, Tensor]:
        # Frozen weights are left out: the stage gives the same ones again on every start.
        model = self.weights() | dict(persistent_buffers(self.module))
        return {
            **{f"model.{name}": tensor.detach() for name, tensor in model.items()},
            **{f"optim.{name}": tensor for name, tensor in optim.moments(self._optimiser, self._parameters).items()},
            **{f"ema.{name}": tensor for name, tensor in averages.items()},
        }

    @override
    def held_tensors(self) -> list[Tensor]:
        return [local(tensor) for tensor in self._state({}).values()]

    @override
    def checkpoint_settings(self) -> dict[str, object]:
        return {"parallel.kind": "single, ddp or fsdp"}  # they read each other's

    @override
    def save(self, folder: Path, averages: dict[str, Tensor]) -> None:
        save_sharded(self._state(averages), folder)

    @override
    def load(self, folder: Path, averages: dict[str, Tensor]) -> None:
        load_sharded(self._state(averages), folder)

    @override
    def running(self) -> str:
        if isinstance(self.network, DistributedDataParallel):
            return "ddp" if dist.get_world_size(self.network.process_group) == dist.get_world_size() else "nothing"
        parameters = list(self.module.parameters())
        if all(isinstance(p, DTensor) and p.device_mesh.size() == dist.get_world_size() for p in parameters):
            return "fsdp"
        return "single" if not any(isinstance(p, DTensor) for p in parameters) else "partly sharded"


def _replicate(module: nn.Module, device: torch.device) -> DistributedDataParallel:
    # Buffers are not broadcast: each rank computes the same ones, and no stage changes them while training.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*broadcast_buffers.* is deprecated")  # torch 2.11 has no other name
        return DistributedDataParallel(
            module,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )
