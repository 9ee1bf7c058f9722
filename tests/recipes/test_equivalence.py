"""Recipe fields that may not change what is learned, and one that must, on the real stages at nano size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.recipes.run_folder import losses, weights
from vla.train.ema import Ema

STEPS = 4
TRAINED = ("lam", "distill", "finetune")
RunStage = Callable[[str, str, dict[str, Any] | None], Path]


@pytest.fixture(scope="module")
def short(single: dict[str, Path], run_stage: RunStage) -> Callable[..., Path]:
    """Train a stage for a few steps with more fields set; the same fields give the same run folder."""

    def train(stage: str, **fields: Any) -> Path:
        run = "-".join(["runs/short", stage, *(f"{name}={value}" for name, value in fields.items())])
        measured = {} if stage == "finetune" else {"heldout": None}
        changed = {f"loop.{name}": value for name, value in fields.items()}
        return run_stage(stage, run, {"loop.steps": STEPS, "loop.save_every": 0} | measured | changed)

    return train


@pytest.mark.parametrize("stage", TRAINED)
def test_two_half_batches_accumulated_are_one_batch(stage: str, short: Callable[..., Path]) -> None:
    whole, halves = losses(short(stage)), losses(short(stage, accumulate=2))
    assert len(whole) == STEPS
    for one, two in zip(whole, halves, strict=True):
        for values in (one, two):
            values.pop("explained_variance", None)  # a ratio over the micro-batch, not a mean over samples
        # The mean of two halves' sums rounds differently: float32's tolerance, grown by a few updates.
        assert two == pytest.approx(one, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("stage", TRAINED)
def test_activation_checkpointing_changes_no_bit(stage: str, short: Callable[..., Path]) -> None:
    plain, recomputed = short(stage), short(stage, activation_checkpointing=True)
    assert losses(recomputed) == losses(plain)
    mine, theirs = weights(plain), weights(recomputed)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("stage", TRAINED)
def test_bfloat16_is_close_and_not_the_same(stage: str, short: Callable[..., Path]) -> None:
    exact, rounded = losses(short(stage)), losses(short(stage, dtype="bfloat16"))
    assert [row["loss"] for row in rounded] != [row["loss"] for row in exact]
    for mine, theirs in zip(exact, rounded, strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=0.03)


@pytest.mark.parametrize("stage", TRAINED)
def test_the_average_is_what_is_exported(
    stage: str, short: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's own weights after every update, averaged here by hand, are the model it leaves."""
    seen: list[dict[str, torch.Tensor]] = []
    decay, update = 0.5, Ema.update

    def watched(self: Ema, now: dict[str, torch.Tensor]) -> None:
        if not seen:
            seen.append({name: tensor.detach().clone() for name, tensor in self.averages.items()})
        seen.append({name: tensor.detach().clone() for name, tensor in now.items()})
        update(self, now)

    monkeypatch.setattr(Ema, "update", watched)
    averaged = short(stage, ema=decay)
    assert losses(averaged) == losses(short(stage)), "averaging must not disturb training"
    assert len(seen) == 1 + STEPS
    by_hand = seen[0]
    for step in seen[1:]:
        by_hand = {name: decay * by_hand[name] + (1 - decay) * step[name] for name in by_hand}
    exported, last = weights(averaged), weights(short(stage))
    for name, value in by_hand.items():
        torch.testing.assert_close(exported[name], value, rtol=1e-5, atol=1e-7)
    assert any(not torch.equal(exported[name], last[name]) for name in by_hand)
    assert all(torch.equal(exported[name], last[name]) for name in exported.keys() - by_hand.keys())
