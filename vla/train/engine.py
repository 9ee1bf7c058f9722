"""What the loop needs of a module in place, whatever runs underneath, and how one is made ready to be placed."""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.utils.checkpoint import checkpoint

from vla.train.config import LoopConfig
from vla.train.stage import Stage


class Engine(Protocol):
    """A module in place with its optimiser.

    Attributes:
        module: The stage's own module, with its own names.
        network: What a loss is computed with: `module`, or the wrapper that keeps the ranks in step.
    """

    module: nn.Module
    network: nn.Module

    def forward(self, last: bool) -> AbstractContextManager[object]:
        """The context a micro-batch's loss is computed in; `last` marks the update's last one."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of one micro-batch."""
        ...

    def update(self, lr: float, loss_is_finite: bool) -> float:
        """Clip the gradient, update the weights if it and the loss are finite, and forget the gradient either way.

        Returns the gradient's global norm before clipping, the same on every rank; not finite if any gradient is not.
        """
        ...

    def weights(self) -> dict[str, Tensor]:
        """The trainable weights as this rank holds them, by name."""
        ...

    def full_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every persistent tensor, whole, one at a time. Gathers: all ranks must iterate, and none may stop early."""
        ...

    def forget_gathered(self) -> None:
        """Drop weights gathered by a forward pass that no backward pass followed: they may change underneath."""
        ...

    def held_tensors(self) -> list[Tensor]:
        """All this rank would write to a checkpoint, to be looked at for NaNs."""
        ...

    def checkpoint_settings(self) -> dict[str, object]:
        """What a checkpoint of this engine depends on: a run that resumes one must have the same."""
        ...

    def save(self, folder: Path, averages: dict[str, Tensor]) -> None:
        """Write weights, optimiser and EMA averages into an existing folder; every rank calls it."""
        ...

    def load(self, folder: Path, averages: dict[str, Tensor]) -> None:
        """Read what `save` wrote, in place."""
        ...

    def running(self) -> str:
        """The kind of parallelism, read off the objects that run: compared with `ParallelConfig.name`."""
        ...


def build_on_meta(stage: Stage, loop: LoopConfig, mesh: DeviceMesh | None) -> tuple[nn.Module, list[nn.Module]]:
    """The stage's module on meta and its blocks, with activation checkpointing and compilation applied.

    Both are applied in place, to the block's `forward` and call: a wrapper would change the names in checkpoints.
    """
    with torch.device("meta"):
        module = stage.build()
    blocks = stage.parallelize(module, mesh)
    if loop.activation_checkpointing:
        recompute(blocks)
    if loop.compile:
        for block in blocks:
            block.compile()
    return module, blocks


def recompute(blocks: list[nn.Module]) -> None:
    """Activation checkpointing: keep a block's inputs alone, and compute the rest again in the backward pass."""
    for block in blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
