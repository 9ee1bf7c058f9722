"""The memory of one device at the fullest moment of a training step."""

from dataclasses import dataclass

from vla.train.config import LoopConfig, ParallelConfig
from vla.train.footprint.placement import Held, Placement, Replicated, Sharded, Sizes
from vla.train.footprint.rehearsal import Rehearsal
from vla.train.footprint.zero import CutState, CutWeights

ACTIVATIONS = "activations"


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the fullest moment of a step, by what they are for."""

    parts: Held

    @property
    def total(self) -> int:
        """All together."""
        return sum(self.parts.values())


def is_sharded(parallel: ParallelConfig) -> bool:
    """Whether weights are cut over the ranks, and freed after use."""
    return parallel.kind == "fsdp" or (parallel.kind == "deepspeed" and parallel.zero_stage == 3)


def placement(sizes: Sizes, loop: LoopConfig, parallel: ParallelConfig, world: int) -> Placement:
    """How `parallel` places a module on `world` devices."""
    ema = loop.ema is not None
    if parallel.kind == "fsdp":
        return Sharded(sizes, world, loop.accumulate, ema)
    if parallel.kind == "deepspeed" and parallel.zero_stage == 3:
        return CutWeights(sizes, world, ema)
    if parallel.kind == "deepspeed":
        return CutState(sizes, parallel.zero_stage, world, loop.accumulate, ema)
    return Replicated(sizes, loop.accumulate, ema, buckets=parallel.kind == "ddp")


def fullest(rehearsal: Rehearsal, loop: LoopConfig, parallel: ParallelConfig, world: int) -> Memory:
    """The fullest moment of the step that was rehearsed, placed as `parallel` says.

    Args:
        rehearsal: Of one micro-batch with this loop, `sharded` as `is_sharded` says.
        loop: Accumulation and EMA are read from it.
        parallel: How it is placed.
        world: On how many devices.
    """
    placed = placement(Sizes.of(rehearsal.module, rehearsal.blocks), loop, parallel, world)
    live = rehearsal.batch_bytes
    best: Held = {}
    highest = -1
    for event in rehearsal.events:
        if event.what == "bytes":
            live += event.value
        else:
            placed.react(event)
        total = live + sum(placed.held.values())
        if total > highest:
            highest, best = total, {**placed.held, ACTIVATIONS: live}
    for held in placed.after():
        total = live + sum(held.values())
        if total > highest:
            highest, best = total, {**held, ACTIVATIONS: live}
    return Memory(best)
