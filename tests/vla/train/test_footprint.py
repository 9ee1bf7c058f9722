"""Parameters, FLOPs and memory reckoned before a step is run, on stages small enough to reckon by hand."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from data_mixtures.batch import Batch
from tests.vla.train.tiny_stage import TinyMixture, TinyStage
from vla.train.config import LoopConfig, ParallelConfig
from vla.train.footprint.events import Event
from vla.train.footprint.memory import ACTIVATIONS, fullest
from vla.train.footprint.parts import Part, parts
from vla.train.footprint.placement import (
    EMA,
    GATHERED,
    GRADIENTS,
    OPTIMISER,
    WEIGHTS,
    Replicated,
    Sharded,
    Sizes,
    Weight,
)
from vla.train.footprint.rehearsal import Rehearsal, rehearse, resized
from vla.train.footprint.zero import BUCKET, CutState, CutWeights

WIDTH, DEPTH, TOKENS = 64, 3, 32
LOOP = LoopConfig(steps=1, batch_size=4)


class Layer(nn.Module):
    """Two matrices with a ReLU between."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH, bias=False), nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.way_in = nn.Linear(46, WIDTH, bias=False)
        self.layers = nn.ModuleList(Layer() for _ in range(DEPTH))

    def forward(self, state: Tensor) -> Tensor:
        x = self.way_in(state)[:, None].expand(-1, TOKENS, -1)
        for layer in self.layers:
            x = layer(x)
        return x


class StackStage(TinyStage):
    """Layers without anything else, so that their numbers can be reckoned by hand."""

    def build(self) -> nn.Module:
        return Stack()

    def parallelize(self, module: nn.Module, mesh: DeviceMesh | None) -> list[nn.Module]:
        assert isinstance(module, Stack)
        return list(module.layers)

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return module(batch.state).sum(), {}


def rehearsal_of(stage: TinyStage, loop: LoopConfig = LOOP, samples: int = 4, sharded: bool = False) -> Rehearsal:
    return rehearse(stage, TinyMixture().batch(range(samples)), loop, sharded, "cpu")


def live(rehearsal: Rehearsal) -> Iterator[int]:
    total = 0
    for event in rehearsal.events:
        total += event.value if event.what == "bytes" else 0
        yield total


# one layer's two products, for each of 4 x TOKENS rows
LAYER = 2 * 4 * TOKENS * WIDTH * 2 * WIDTH * 2
WAY_IN = 2 * 4 * 46 * WIDTH


def test_flops_by_hand():
    flops = rehearsal_of(StackStage()).flops
    assert flops.forward == DEPTH * LAYER + WAY_IN
    assert flops.backward == 2 * DEPTH * LAYER + WAY_IN  # the state has no gradient
    assert flops.recomputed == 0


def test_flops_computed_again_stop_where_nothing_more_is_needed():
    """The second matrix's output is not kept by anything: of each layer the first one alone runs again."""
    plain = rehearsal_of(StackStage()).flops
    flops = rehearsal_of(StackStage(), replace(LOOP, activation_checkpointing=True)).flops
    assert flops.recomputed == DEPTH * LAYER // 2
    assert (flops.forward, flops.backward) == (plain.forward, plain.backward)
    assert flops.total == plain.total + flops.recomputed


def test_activations_by_hand():
    """At the forward pass's end: each layer's input and the ReLU's output, or the inputs alone; and the last output.

    The first layer's input is one row for all tokens, which the product spells out.
    """
    rows = 4 * 4 * TOKENS * WIDTH  # bytes of [4, TOKENS, WIDTH]
    for again, kept in ((False, DEPTH * 3 * rows), (True, (DEPTH - 1) * rows + 4 * 4 * WIDTH)):
        rehearsal = rehearsal_of(StackStage(), replace(LOOP, activation_checkpointing=again))
        (end,) = (i for i, event in enumerate(rehearsal.events) if event == Event("forward_end", DEPTH - 1))
        assert list(live(rehearsal))[end] == kept + rows, again


def test_everything_is_given_back():
    for loop in (LOOP, replace(LOOP, dtype="bfloat16", activation_checkpointing=True)):
        assert list(live(rehearsal_of(TinyStage(), loop)))[-1] == 0


def test_every_gradient_is_made_once_and_blocks_run_in_order():
    rehearsal = rehearsal_of(TinyStage())
    parameters = list(rehearsal.module.parameters())
    made = [event.value for event in rehearsal.events if event.what == "gradient"]
    assert sorted(made) == [i for i, p in enumerate(parameters) if p.requires_grad]
    marks = [event for event in rehearsal.events if event.what not in ("bytes", "gradient")]
    assert [tuple(mark) for mark in marks] == [
        *(("forward", 0), ("forward_end", 0), ("forward", 1), ("forward_end", 1)),
        *(("backward", 1), ("backward_end", 1), ("backward", 0), ("backward_end", 0)),
    ]


def test_nothing_of_the_module_is_allocated():
    """A module of 4 TB is rehearsed."""

    class Huge(StackStage):
        def build(self) -> nn.Module:
            module = Stack()
            module.way_in = nn.Linear(46, WIDTH, bias=False)
            module.register_parameter("huge", nn.Parameter(torch.empty(1 << 20, 1 << 20)))
            return module

    assert Sizes.of(*_built(Huge())).whole() > 4e12
    assert rehearsal_of(Huge()).flops.forward == DEPTH * LAYER + WAY_IN


def _built(stage: TinyStage) -> tuple[nn.Module, list[nn.Module]]:
    rehearsal = rehearsal_of(stage)
    return rehearsal.module, rehearsal.blocks


@pytest.mark.parametrize("again", [False, True])
def test_a_micro_batch_is_reckoned_from_two_others(again: bool):
    loop = replace(LOOP, activation_checkpointing=again)
    two, four, seven = (rehearsal_of(TinyStage(), loop, samples) for samples in (2, 4, 7))
    reckoned = resized(two, 2, four, 4, 7)
    assert reckoned is not None
    assert reckoned.flops == seven.flops
    for kind in ("single", "ddp", "fsdp"):
        parallel = ParallelConfig(kind)
        assert fullest(reckoned, loop, parallel, 2) == fullest(seven, loop, parallel, 2)


def test_rehearsals_that_differ_are_not_mixed():
    plain, again = (rehearsal_of(TinyStage(), replace(LOOP, activation_checkpointing=on)) for on in (False, True))
    assert resized(plain, 2, again, 4, 8) is None


def test_parts_hold_one_stack_each_and_small_ones_are_together():
    tower, language = nn.Module(), nn.Module()
    above, below = nn.ModuleList([Layer(), Layer()]), nn.ModuleList([Layer()]).requires_grad_(False)
    tower.stem, tower.layers, language.layers = nn.Linear(8, 8, bias=False), above, below
    module = nn.Module()
    module.tower, module.language = tower, language
    module.scale, module.shift = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2), requires_grad=False)
    layer = 4 * WIDTH * WIDTH
    assert parts(module, [*above, *below]) == [
        Part("tower", 2 * layer + 64, 2 * layer + 64),
        Part("language", layer, 0),
        Part("scale, shift", 5, 3),
    ]


# Two blocks of one matrix each, and a frozen one in no block: 40, 24 and 16 bytes; odd rows, which 2 ranks must pad.
SIZES = Sizes((Weight(40, 5, True, 0), Weight(24, 3, True, 1), Weight(16, 4, False, 2)), root=2, buffers=8)


def test_alone_gradients_come_one_by_one():
    placed = Replicated(SIZES, accumulate=1, ema=True, buckets=False)
    assert placed.held == {WEIGHTS: 88, GRADIENTS: 0, OPTIMISER: 128, EMA: 64}
    placed.react(Event("gradient", 1))
    assert placed.held[GRADIENTS] == 24


def test_alone_earlier_micro_batches_leave_all_gradients():
    placed = Replicated(SIZES, accumulate=2, ema=False, buckets=False)
    placed.react(Event("gradient", 1))
    assert placed.held == {WEIGHTS: 88, GRADIENTS: 64, OPTIMISER: 128, EMA: 0}


def test_ddp_holds_buckets_and_the_gradients_of_earlier_micro_batches_beside_them():
    once, twice = (Replicated(SIZES, accumulate, ema=False, buckets=True) for accumulate in (1, 2))
    assert (once.held[GRADIENTS], twice.held[GRADIENTS]) == (64, 128)
    for placed in (once, twice):
        placed.react(Event("gradient", 0))
    assert (once.held[GRADIENTS], twice.held[GRADIENTS]) == (64, 88)


def test_fsdp_holds_shards_and_what_is_gathered():
    placed = Sharded(SIZES, world=2, accumulate=1, ema=True)
    shards = 24 + 16 + 8  # 3 of 5 rows, 2 of 3, 2 of 4
    assert placed.held == {WEIGHTS: shards + 8, GRADIENTS: 0, OPTIMISER: 80, EMA: 40, GATHERED: 2 * 16}
    placed.react(Event("forward", 0))
    assert placed.held[GATHERED] == 16 + 2 * 48, "the root's weights, the block's padded weights and their buffer"
    placed.react(Event("forward_end", 0))
    placed.react(Event("forward", 1))
    assert placed.held[GATHERED] == 16 + 2 * 32
    placed.react(Event("forward_end", 1))
    placed.react(Event("backward", 1))
    assert placed.held[GATHERED] == 16 + 32 + 48, "block 0 is on its way"
    placed.react(Event("gradient", 1))
    assert placed.held[GRADIENTS] == 24
    placed.react(Event("backward_end", 1))
    assert placed.held[GRADIENTS] == 16, "this rank's rows"
    assert placed.held[GATHERED] == 16 + 48 + 32, "block 0 on its way, and the gradients that are being reduced"


def test_fsdp_keeps_whole_gradients_until_the_last_micro_batch():
    placed = Sharded(SIZES, world=2, accumulate=2, ema=False)
    assert placed.held[GRADIENTS] == 64
    for what in ("forward", "forward_end", "backward"):
        placed.react(Event(what, 1))
    placed.react(Event("gradient", 1))
    placed.react(Event("backward_end", 1))
    assert placed.held[GRADIENTS] == 64 - 24 + 16


def test_zero_stages():
    one, two = (CutState(SIZES, stage, world=2, accumulate=1, ema=True) for stage in (1, 2))
    assert one.held == {WEIGHTS: 88, GRADIENTS: 0, OPTIMISER: 3 * 32, EMA: 64, GATHERED: 0}
    for placed in (one, two):
        placed.react(Event("gradient", 0))
        assert placed.held[GATHERED] == BUCKET
    assert (one.held[GRADIENTS], two.held[GRADIENTS]) == (40, 0)
    three = CutWeights(SIZES, world=2, ema=True)
    assert three.held == {WEIGHTS: 40 + 32 + 8, GRADIENTS: 32, OPTIMISER: 64, EMA: 32, GATHERED: BUCKET + 2 * 80}


def test_the_fullest_moment_is_a_moment_of_the_step():
    """Alone, weights, moments, and either all activations or all gradients: never more than their sum."""
    rehearsal = rehearsal_of(StackStage())
    memory = fullest(rehearsal, LOOP, ParallelConfig(), 1)
    weights = 4 * sum(p.numel() for p in rehearsal.module.parameters())
    assert memory.parts[WEIGHTS] == weights
    assert memory.parts[OPTIMISER] == 2 * weights
    assert memory.total == sum(memory.parts.values())
    most = max(live(rehearsal)) + rehearsal.batch_bytes
    assert memory.parts[ACTIVATIONS] + memory.parts[GRADIENTS] <= most + weights
    assert memory.total >= 3 * weights + most


def test_tied_parameters_count_once():
    rehearsal = rehearsal_of(TinyStage())
    module = TinyStage().build()
    assert sum(part.total for part in parts(rehearsal.module, rehearsal.blocks)) == sum(
        p.numel() for p in module.parameters()
    )


def test_the_package_names_its_files():
    folder = Path(__file__).parents[3] / "vla" / "train" / "footprint"
    words = (folder / "__init__.py").read_text()
    assert all(path.name in words for path in folder.glob("*.py") if path.stem != "__init__")
