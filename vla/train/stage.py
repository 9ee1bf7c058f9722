"""What the loop knows of a stage: a closed list of methods, and no names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from data_mixtures.batch import Batch

Metrics = dict[str, Tensor]


class Stage(Protocol):
    """One training objective over one module.

    Every random draw inside `loss` is a function of (seed, batch.sample_ids) (see vla/nn/randomness.py), and the
    loss is a plain mean over samples of per-sample losses, so accumulation and world size do not change it.
    """

    def settings(self) -> dict[str, object]:
        """What makes another objective of it, {recipe field: plain value}: a run that resumes must have the same."""
        ...

    def build(self) -> nn.Module:
        """The module; the loop calls this under `torch.device("meta")`.

        Parameters the objective never reaches are frozen here (requires_grad False), so that DDP and FSDP see only
        what learns.
        """
        ...

    def init_parameter(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """The full starting value of one parameter or persistent buffer, float32 on CPU; a function of its arguments.

        Warm starts and published weights are read here too, one tensor at a time, so the peak is one tensor.
        """
        ...

    def init_buffers(self, module: nn.Module) -> None:
        """Recompute non-persistent buffers (rotary tables, positions) after `to_empty` left them undefined."""
        ...

    def parallelize(self, module: nn.Module, mesh: DeviceMesh | None) -> list[nn.Module]:
        """The module's repeated blocks, in order: the units of sharding and of activation checkpointing."""
        ...

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        """Scalar loss and detached scalar metrics (means over the batch). Calls `module(...)` exactly once."""
        ...

    def save_assets(self, folder: Path) -> None:
        """Write everything beside the weights that the artefact needs (config, tokenizer, normalisation)."""
        ...


class Evaluator(Protocol):
    """An evaluation during training."""

    def run(self, module: nn.Module) -> Iterator[tuple[str, float]]:
        """Yield (metric name, value) pairs; the module is in eval mode and no gradient is kept."""
        ...
