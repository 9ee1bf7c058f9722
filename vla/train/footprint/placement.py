"""What each kind of parallelism holds on one device, and what it adds and drops while a micro-batch runs.

What learns is float32, and so are its gradients, moments and averages (see vla/train/precision.py); what is frozen may
be held in less. The events are those of the update's last micro-batch, in which gradients are exchanged.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import nn

from vla.train.footprint.events import Event

Held = dict[str, int]
WEIGHTS, GRADIENTS, OPTIMISER, EMA, GATHERED = "weights", "gradients", "optimiser", "EMA", "gathered"


class Weight(NamedTuple):
    """A parameter: its bytes, its first dimension (along which it is sharded), whether it learns, and its unit."""

    nbytes: int
    first_dim: int
    learns: bool
    unit: int


@dataclass(frozen=True)
class Sizes:
    """The parameters as a placement sees them.

    Attributes:
        weights: All of them, in the order of `named_parameters`; a unit is a block's index.
        root: The unit of those in no block.
        buffers: Bytes of the module's buffers.
    """

    weights: tuple[Weight, ...]
    root: int
    buffers: int

    @classmethod
    def of(cls, module: nn.Module, blocks: list[nn.Module]) -> "Sizes":
        """Of a module on meta and its blocks."""
        owner = {id(p): index for index, block in enumerate(blocks) for p in block.parameters()}
        weights = tuple(
            Weight(p.nbytes, p.shape[0] if p.ndim else 1, p.requires_grad, owner.get(id(p), len(blocks)))
            for p in module.parameters()
        )
        return cls(weights, len(blocks), sum(buffer.nbytes for buffer in module.buffers()))

    def whole(self, learning: bool = False, unit: int | None = None) -> int:
        """Bytes of all parameters, or of those that learn, or of one unit's."""
        return sum(w.nbytes for w in self._chosen(learning, unit))

    def shard(self, world: int, learning: bool = False, unit: int | None = None) -> int:
        """Bytes of the largest rank's shards of them, cut along the first dimension; no other rank's are larger."""
        return sum(math.ceil(w.first_dim / world) * (w.nbytes // w.first_dim) for w in self._chosen(learning, unit))

    def _chosen(self, learning: bool, unit: int | None) -> Iterator[Weight]:
        for weight in self.weights:
            if weight.first_dim and (weight.learns or not learning) and unit in (None, weight.unit):
                yield weight


class Placement(Protocol):
    """One kind of parallelism during a micro-batch.

    Attributes:
        held: Bytes of every kind it holds now; changes with each event.
    """

    held: Held

    def react(self, event: Event) -> None:
        """Take in what happens next."""
        ...

    def after(self) -> list[Held]:
        """What it holds at the moments of the update that follows."""
        ...


def _adam(trainable: int, ema: bool) -> Held:
    return {OPTIMISER: 2 * trainable, EMA: trainable if ema else 0}


class Replicated:
    """`single` and `ddp`: everything whole.

    Gradients come one by one, or stay from earlier micro-batches. DDP also has buckets of their size from the start:
    gradients of an only micro-batch move into them as they are made, those of earlier ones in the last's backward pass.
    """

    def __init__(self, sizes: Sizes, accumulate: int, ema: bool, buckets: bool) -> None:
        self._sizes = sizes
        learning = sizes.whole(learning=True)
        earlier = learning if accumulate > 1 else 0
        self._change = int(accumulate == 1) - int(buckets)
        self.held: Held = {
            WEIGHTS: sizes.whole() + sizes.buffers,
            GRADIENTS: earlier + (learning if buckets else 0),
            **_adam(learning, ema),
        }

    def react(self, event: Event) -> None:
        """A gradient made stays where there was none, and leaves where a bucket takes it."""
        if event.what == "gradient":
            self.held[GRADIENTS] += self._change * self._sizes.weights[event.value].nbytes

    def after(self) -> list[Held]:
        """The fused update works in place."""
        return [self.held]


class Sharded:
    """`fsdp`: FSDP2 with each block and the rest of the module as its units.

    A gather takes twice the unit: the buffer the ranks write into, and the weights cut out of it. The buffer lives
    until the next unit's is full (forward) or is the next unit's already (backward, which gathers one ahead). A unit's
    gradients are whole until its backward pass ends, when they are copied into what the ranks reduce.
    """

    def __init__(self, sizes: Sizes, world: int, accumulate: int, ema: bool) -> None:
        self._sizes, self._world = sizes, world
        self._accumulated = accumulate > 1
        learning = sizes.shard(world, learning=True)
        self.held: Held = {
            WEIGHTS: sizes.shard(world) + sizes.buffers,
            # Micro-batches before the last exchange nothing, and keep their gradients whole.
            GRADIENTS: sizes.whole(learning=True) if accumulate > 1 else 0,
            **_adam(learning, ema),
            GATHERED: 0,
        }
        self._order: list[int] = []
        self._buffer: int | None = None
        self._whole: set[int] = set()
        self._reducing = 0
        self._reduced: set[int] = set()
        self._gather(sizes.root)

    def _unit(self, unit: int) -> int:
        return self._world * self._sizes.shard(self._world, unit=unit)

    def _take_buffer(self, unit: int | None) -> None:
        """Replace the gather buffer that is held."""
        if self._buffer is not None:
            self.held[GATHERED] -= self._unit(self._buffer)
        self._buffer = unit
        if unit is not None:
            self.held[GATHERED] += self._unit(unit)

    def _gather(self, unit: int) -> None:
        self._take_buffer(unit)
        self._whole.add(unit)
        self.held[GATHERED] += self._unit(unit)

    def _free(self, unit: int) -> None:
        if unit in self._whole:
            self._whole.remove(unit)
            self.held[GATHERED] -= self._unit(unit)

    def react(self, event: Event) -> None:
        """Gather, free and reduce as the blocks are entered and left."""
        if event.what == "forward":
            self._order.append(event.value)
            self._gather(event.value)
        elif event.what == "forward_end":
            self._free(event.value)
        elif event.what == "backward":
            self._enter_backward(event.value)
        elif event.what == "backward_end":
            self._reduce(event.value)
        elif event.what == "gradient" and not self._accumulated:
            self.held[GRADIENTS] += self._sizes.weights[event.value].nbytes

    def _enter_backward(self, unit: int) -> None:
        if self._buffer == unit:
            self._whole.add(unit)  # gathered ahead: the weights are cut out, then the buffer is dropped
            self.held[GATHERED] += self._unit(unit)
        elif unit not in self._whole:
            self._gather(unit)
        position = self._order.index(unit)
        self._take_buffer(self._order[position - 1] if position else None)

    def _reduce(self, unit: int) -> None:
        """The end of a unit's backward pass: its weights are freed, its gradients reduced to this rank's shards."""
        self._free(unit)
        shard = self._sizes.shard(self._world, learning=True, unit=unit)
        self.held[GATHERED] += self._world * shard - self._reducing
        self._reducing = self._world * shard
        self._reduced.add(unit)
        self.held[GRADIENTS] += shard - self._sizes.whole(learning=True, unit=unit)

    def after(self) -> list[Held]:
        """Units whose backward pass has no end of its own (nothing before them learns) are reduced last."""
        moments = []
        for unit in [*self._order[::-1], self._sizes.root]:
            if unit not in self._reduced:
                self._reduce(unit)
                moments.append(dict(self.held))
        return moments
