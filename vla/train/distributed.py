"""Who takes part: rank, number of ranks, device, and the few things ranks must agree on."""

import os
import sys
from dataclasses import dataclass
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from vla.train.config import ParallelConfig


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees it."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True on the one rank that writes the run folder's small files."""
        return self.rank == 0

    def mean(self, values: list[float]) -> list[float]:
        """Each value's mean over the ranks, the same on every rank; NaN where any rank has one."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return (total / self.size).tolist()

    def maximum(self, value: float) -> float:
        """The largest over the ranks, the same on every rank."""
        if self.size == 1:
            return value
        highest = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
        return highest.item()

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()


def check_launcher(parallel: ParallelConfig, ranks: int | None) -> None:
    """Raise ValueError unless `parallel` is possible in `ranks` launched processes, or (None) without a launcher."""
    if parallel.kind == "single" and ranks is not None and ranks > 1:
        raise ValueError(
            f"parallel.kind is 'single' but {ranks} processes were launched, and each would "
            "train its own copy: set parallel.kind to ddp, fsdp or deepspeed, or launch without torchrun"
        )
    if parallel.kind != "single" and ranks is None:
        raise ValueError(
            f"parallel.kind is {parallel.kind!r} but this process was not started by a launcher: run "
            f"`torchrun --nproc-per-node 2 --no-python vla run <recipe>` (in a pipeline: `processes: 2`), "
            "or set parallel.kind to single"
        )


def join(parallel: ParallelConfig) -> World:
    """Join the process group the launcher describes, or stand alone.

    The group outlives the call: several stages may train one after another in the same processes, and a group cannot
    be made twice over one launcher's store. A launched program ends with `leave`.

    Raises:
        ValueError: The recipe asks for several processes and there is no launcher, or the reverse.
    """
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    check_launcher(parallel, int(os.environ["WORLD_SIZE"]) if launched else None)
    if parallel.kind == "single":
        return World(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), dist.get_world_size(), device)


def leave(code: int = 0) -> NoReturn:
    """End a launched process: wait for the others, destroy the group, flush, exit at once.

    Leaving through the interpreter's own shutdown instead sometimes aborts ("terminate called without an active
    exception"), more often after a distributed checkpoint, which would turn a finished run into a failed one.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def finite_everywhere(world: World, tensors: list[Tensor]) -> bool:
    """True if no rank holds a NaN or an infinity in its share of `tensors`."""
    mine = all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point())
    return world.maximum(0.0 if mine else 1.0) == 0.0
