"""The recipe's training fields: parsed by draccus, and refused with the field, the value and the fix."""

from dataclasses import dataclass, field, replace

import draccus
import pytest
import torch
from tiny_stage import Network

from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.optim import decayed_names, learning_rate


@dataclass(frozen=True)
class Recipe:
    loop: LoopConfig
    optim: OptimConfig
    parallel: ParallelConfig = field(default_factory=ParallelConfig)


def test_draccus_parses_them() -> None:
    arguments = {
        "loop.steps": "10",
        "loop.batch_size": "4",
        "loop.ema": "0.99",
        "loop.dtype": "bfloat16",
        "optim.lr": "1e-4",
        "parallel.kind": "deepspeed",
        "parallel.zero_stage": "3",
    }
    recipe = draccus.parse(Recipe, args=[f"--{name}={value}" for name, value in arguments.items()])
    assert recipe.loop == LoopConfig(steps=10, batch_size=4, ema=0.99, dtype="bfloat16")
    assert recipe.optim == OptimConfig(lr=1e-4)
    assert recipe.parallel.name == "deepspeed-3"


def test_a_batch_that_does_not_divide_names_the_nearest_that_does() -> None:
    with pytest.raises(ValueError, match=r"loop.batch_size is 10: .*accumulate \(4\).* the nearest that is: 8"):
        LoopConfig(steps=1, batch_size=10, accumulate=4)
    with pytest.raises(ValueError, match=r"loop.batch_size is 8: .* x ranks \(3\) = 6"):
        LoopConfig(steps=1, batch_size=8, accumulate=2).check_batch(world_size=3)


@pytest.mark.parametrize(
    ("wrong", "field_name"),
    [
        ({"steps": 0}, "loop.steps"),
        ({"ema": 1.0}, "loop.ema"),
        ({"save_every": -1}, "loop.save_every"),
        ({"threads": 0}, "loop.threads"),
    ],
)
def test_impossible_loops_are_refused(wrong: dict, field_name: str) -> None:
    possible = LoopConfig(steps=1, batch_size=1)
    with pytest.raises(ValueError, match=field_name):
        replace(possible, **wrong)


def test_impossible_optimisers_are_refused() -> None:
    with pytest.raises(ValueError, match="optim.lr is -1"):
        OptimConfig(lr=-1.0)
    with pytest.raises(ValueError, match="optim.final_lr"):
        OptimConfig(lr=1e-4, final_lr=1e-3)


def test_learning_rate() -> None:
    config = OptimConfig(lr=1.0, warmup_steps=4, final_lr=0.2)
    found = [learning_rate(config, step, 12) for step in (1, 4, 8, 12)]
    assert found == pytest.approx([0.25, 1.0, 0.6, 0.2])
    assert learning_rate(OptimConfig(lr=1.0, schedule="constant"), 12, 12) == 1.0


def test_norms_biases_and_embeddings_do_not_decay() -> None:
    with torch.device("meta"):
        decayed = decayed_names(Network(), OptimConfig(lr=1.0))
    assert {"tower.weight", "velocity.weight", "blocks.0.qkv.weight"} <= decayed
    assert not any("norm" in name or "bias" in name or "words" in name for name in decayed)
