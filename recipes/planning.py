"""What a training recipe will need and how long it will take, before anything is rented; and what would fit instead."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Protocol

from recipes.gpus import Gpu
from recipes.stand_in import StandInMixture
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.engine import build_on_meta
from vla.train.footprint.memory import ACTIVATIONS, Memory, fullest, is_sharded, placement
from vla.train.footprint.parts import Part, parts
from vla.train.footprint.placement import GATHERED, GRADIENTS, Sizes
from vla.train.footprint.rehearsal import Rehearsal, rehearse, resized
from vla.train.stage import Stage

GIB = 2**30
# Taken for granted, not computed: CUDA's context and libraries, NCCL's buffers where there are several GPUs, and the
# share of what comes and goes that the allocator loses to rounding and holes.
CONTEXT_GIB, NCCL_GIB, FRAGMENTATION = 0.6, 1.0, 0.05
OVERHEAD = "overhead"
_MOST_ALTERNATIVES, _MOST_GPUS = 4, 64

Changes = dict[str, Any]


class TrainingRecipe(Protocol):
    """What a recipe must say of itself to be planned."""

    loop: LoopConfig
    optim: OptimConfig
    parallel: ParallelConfig

    def stand_in(self) -> tuple[Stage, StandInMixture]:
        """The stage, and a stand-in for its data, without any file."""
        ...

    def smaller(self) -> list[Changes]:
        """Changes under which less is trained, the smallest first."""
        ...


@dataclass(frozen=True)
class Plan:
    """What one recipe needs on `num_gpus` of `gpu`.

    Attributes:
        parts: Parameters, part by part.
        micro_batch: Samples a GPU sees at once.
        flops: Of one sample: forward, backward and recomputed.
        memory: Of one GPU at its fullest, with the overhead.
        samples_per_s: Over all GPUs.
        changes: What was changed in the recipe.
    """

    recipe: Any
    gpu: Gpu
    num_gpus: int
    parts: list[Part]
    micro_batch: int
    flops: tuple[float, float, float]
    memory: Memory
    samples_per_s: float
    changes: Changes = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether one GPU has the memory."""
        return self.memory.total <= self.gpu.memory_gib * GIB

    @property
    def days(self) -> float:
        """Of training, at that pace."""
        loop = self.recipe.loop
        return loop.steps * loop.batch_size / self.samples_per_s / 86_400


class Planner:
    """Plans a recipe, and variants of it, on one kind of GPU.

    Args:
        gpu: Which.
        utilisation: Share of its peak that a step reaches, recomputed products counted.
    """

    def __init__(self, gpu: Gpu, utilisation: float) -> None:
        self.gpu, self.utilisation = gpu, utilisation
        self._rehearsals: dict[str, dict[int, Rehearsal]] = {}
        self._sizes: dict[str, Sizes] = {}

    def plan(self, recipe: Any, num_gpus: int, changes: Changes | None = None, exact: bool = True) -> Plan:
        """The recipe on so many GPUs.

        Args:
            recipe: A training recipe.
            num_gpus: Its ranks.
            changes: Made to it first.
            exact: False: a micro-batch may be reckoned from two others.

        Raises:
            ValueError: The changes or the number of GPUs make no sense for it.
        """
        recipe = changed(recipe, changes or {})
        recipe.loop.check_batch(num_gpus)
        micro_batch = recipe.loop.batch_size // (recipe.loop.accumulate * num_gpus)
        rehearsal = self._rehearsal(recipe, micro_batch, exact)
        memory = with_overhead(fullest(rehearsal, recipe.loop, recipe.parallel, num_gpus), num_gpus)
        forward, backward, recomputed = (count / micro_batch for count in rehearsal.flops)
        pace = 1e12 * self.gpu.tflops(recipe.loop.dtype) * self.utilisation / (forward + backward + recomputed)
        return Plan(
            recipe,
            self.gpu,
            num_gpus,
            parts(rehearsal.module, rehearsal.blocks),
            micro_batch,
            (forward, backward, recomputed),
            memory,
            pace * num_gpus,
            changes or {},
        )

    def _rehearsal(self, recipe: Any, micro_batch: int, exact: bool) -> Rehearsal:
        loop = replace(recipe.loop, batch_size=micro_batch, accumulate=1)
        sharded = is_sharded(recipe.parallel)
        key = repr((replace(recipe, loop=replace(loop, batch_size=1), parallel=ParallelConfig()), sharded))
        known = self._rehearsals.setdefault(key, {})
        if not exact and len(known) == 1 and micro_batch not in known:
            first = next(iter(known))
            other = max(1, first // 2) if first > 1 else 2
            known[other] = _rehearsed(recipe, loop, other, sharded)
        if not exact and len(known) > 1 and micro_batch not in known:
            first, second = sorted(known)[:2]
            if reckoned := resized(known[first], first, known[second], second, micro_batch):
                return reckoned
        if micro_batch not in known:
            known[micro_batch] = _rehearsed(recipe, loop, micro_batch, sharded)
        return known[micro_batch]

    def _least(self, recipe: Any, num_gpus: int) -> int:
        """Bytes that are held on a GPU whatever the micro-batch."""
        key = repr(replace(recipe, loop=LoopConfig(1, 1), parallel=ParallelConfig()))
        if key not in self._sizes:
            with _quiet():
                self._sizes[key] = Sizes.of(*build_on_meta(recipe.stand_in()[0], LoopConfig(1, 1), mesh=None))
        held = placement(self._sizes[key], replace(recipe.loop, accumulate=1), recipe.parallel, num_gpus).held
        return with_overhead(Memory({k: size for k, size in held.items() if k != GATHERED}), num_gpus).total

    def alternatives(self, recipe: Any, num_gpus: int) -> list[Plan]:
        """Variants that fit, the smallest change first; at most a few."""
        found: list[Plan] = []
        for changes, gpus in _variants(recipe, num_gpus):
            plan = self._first_that_fits(recipe, gpus, changes)
            if plan is not None and plan.changes not in [other.changes for other in found]:
                found.append(plan)
            if len(found) == _MOST_ALTERNATIVES:
                break
        return found

    def _first_that_fits(self, recipe: Any, num_gpus: int, changes: Changes) -> Plan | None:
        """With the fewest micro-batches under which it fits, if there are any."""
        if self._least(changed(recipe, changes), num_gpus) > self.gpu.memory_gib * GIB:
            return None
        for accumulate in _accumulations(recipe.loop, num_gpus):
            more = {} if accumulate == recipe.loop.accumulate else {"loop.accumulate": accumulate}
            try:
                plan = self.plan(recipe, num_gpus, changes | more, exact=False)
            except ValueError:
                continue
            if plan.fits:
                return plan
        return None


def _rehearsed(recipe: Any, loop: LoopConfig, size: int, sharded: bool) -> Rehearsal:
    with _quiet():
        stage, mixture = recipe.stand_in()
        return rehearse(stage, mixture.batch(range(size)), replace(loop, batch_size=size), sharded)


@contextmanager
def _quiet() -> Iterator[None]:
    """Stages warn of texts as long as the stand-in's."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def with_overhead(memory: Memory, num_gpus: int) -> Memory:
    """The memory with what is not computed."""
    moving = sum(memory.parts.get(name, 0) for name in (GRADIENTS, GATHERED, ACTIVATIONS))
    fixed = CONTEXT_GIB + (NCCL_GIB if num_gpus > 1 else 0)
    return Memory({**memory.parts, OVERHEAD: int(fixed * GIB + FRAGMENTATION * moving)})


def _variants(recipe: TrainingRecipe, num_gpus: int) -> Iterator[tuple[Changes, int]]:
    """(changes, GPUs), the smallest change first."""
    yield {}, num_gpus
    plain: Changes = {} if recipe.loop.activation_checkpointing else {"loop.activation_checkpointing": True}
    if plain:
        yield plain, num_gpus
    if recipe.loop.dtype == "float32":
        plain = {**plain, "loop.dtype": "bfloat16"}
        yield plain, num_gpus
    fsdp: Changes = {} if recipe.parallel.kind == "fsdp" else {"parallel.kind": "fsdp"}
    if fsdp and num_gpus > 1:
        yield plain | fsdp, num_gpus
    for less in recipe.smaller():
        yield plain | less, num_gpus
    more = 2 * num_gpus
    while more <= _MOST_GPUS:
        yield plain | fsdp, more
        more *= 2


def _accumulations(loop: LoopConfig, num_gpus: int) -> list[int]:
    """Numbers of micro-batches an update can have, from the recipe's own up."""
    shares = loop.batch_size // num_gpus
    whole = [n for n in range(loop.accumulate, shares + 1) if shares % n == 0]
    return whole if loop.batch_size % num_gpus == 0 else []


def changed(value: Any, changes: Changes) -> Any:
    """A copy of nested dataclasses with the fields of these dotted names replaced."""
    for name, new in changes.items():
        first, _, rest = name.partition(".")
        assert is_dataclass(value)
        assert first in {f.name for f in fields(value)}, name
        inner = changed(getattr(value, first), {rest: new}) if rest else new
        value = replace(value, **{first: inner})  # pyright: ignore[reportArgumentType]
    return value
