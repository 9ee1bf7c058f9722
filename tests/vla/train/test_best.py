"""The weights of the lowest evaluation are the ones a run leaves, whenever it was."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.vla.train.tiny_stage import TinyMixture, TinyStage
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.loop import train

LOOP = LoopConfig(steps=8, batch_size=4, save_every=3, eval_every=2, keep_best="score")
OPTIM = OptimConfig(lr=1e-2)


class Scores:
    """Gives these numbers, one an evaluation."""

    def __init__(self, values: Sequence[float], name: str = "score") -> None:
        self.values, self.name = list(values), name

    def run(self, module: nn.Module) -> Iterator[tuple[str, float]]:
        yield self.name, self.values.pop(0)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def run(folder: Path, loop: LoopConfig, scores: Scores, mixture: TinyMixture | None = None) -> Path:
    train(TinyStage(), mixture or TinyMixture(), loop, OPTIM, ParallelConfig(), folder, [scores])
    return folder


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_the_lowest_evaluation_is_what_a_run_leaves(tmp_path: Path) -> None:
    best = run(tmp_path / "best", LOOP, Scores([0.3, 0.1, float("nan"), 0.2]))
    assert json.loads((best / "best.json").read_text()) == {"name": "score", "step": 4, "value": 0.1}
    assert not (best / "best").exists()
    schedule = replace(OPTIM, decay_steps=8)
    train(TinyStage(), TinyMixture(), LoopConfig(steps=4, batch_size=4), schedule, ParallelConfig(), tmp_path / "four")
    last = run(tmp_path / "last", replace(LOOP, keep_best=None), Scores([0.3, 0.1, 0.4, 0.2]))
    assert equal(weights(best), weights(tmp_path / "four"))
    assert not equal(weights(best), weights(last))


class Stops(TinyMixture):
    """Fails at a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def batch(self, sample_ids: Sequence[int]):  # noqa: ANN201
        if sample_ids[0] >= 4 * self.step:
            raise KeyboardInterrupt
        return super().batch(sample_ids)


def test_an_evaluation_after_the_last_checkpoint_is_met_again(tmp_path: Path) -> None:
    # Saved at 3; the lowest so far, at 4, is lost with the steps after 3, and what was kept of it does not count.
    whole = run(tmp_path / "whole", LOOP, Scores([0.3, 0.1, 0.4, 0.2]))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", LOOP, Scores([0.3, 0.1]), Stops(4))
    again = run(tmp_path / "stopped", LOOP, Scores([0.1, 0.4, 0.2]))
    assert equal(weights(whole), weights(again))
    assert json.loads((again / "best.json").read_text())["step"] == 4


def test_an_evaluation_before_the_last_checkpoint_is_remembered(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", LOOP, Scores([0.1, 0.3, 0.4, 0.2]))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", LOOP, Scores([0.1, 0.3]), Stops(5))
    again = run(tmp_path / "stopped", LOOP, Scores([0.3, 0.4, 0.2]))
    assert equal(weights(whole), weights(again))
    assert json.loads((again / "best.json").read_text())["step"] == 2


def test_what_nothing_evaluates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep_best is 'score', which nothing here evaluates: choose from loss"):
        run(tmp_path, LOOP, Scores([0.1] * 4, name="loss"))


def test_a_number_that_is_never_finite_keeps_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="never a finite number"):
        run(tmp_path, LOOP, Scores([float("nan")] * 4))
    assert not (tmp_path / "model").exists()


def test_keeping_the_best_needs_evaluations() -> None:
    with pytest.raises(ValueError, match="loop.keep_best is 'score': give loop.eval_every"):
        LoopConfig(steps=8, batch_size=4, keep_best="score")


@pytest.mark.parametrize("save_every", [0, 4])
def test_a_run_killed_before_its_last_write_ends_as_it_would_have(tmp_path: Path, save_every: int) -> None:
    loop = replace(LOOP, save_every=save_every)
    whole = run(tmp_path / "whole", loop, Scores([0.3, 0.1, 0.4, 0.2]))
    killed = run(tmp_path / "killed", loop, Scores([0.3, 0.1, 0.4, 0.2]))
    (killed / "done.json").unlink()
    again = run(tmp_path / "killed", loop, Scores([0.3, 0.1, 0.4, 0.2]))
    assert (again / "done.json").exists()
    assert equal(weights(whole), weights(again))
