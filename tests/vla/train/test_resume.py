"""kill -9 at any step, run the same command again: the same numbers to the last bit."""

import random
import signal
from pathlib import Path

import pytest
import torch
from launch import launch, lines
from safetensors.torch import load_file
from tiny_stage import TinyEvaluator, TinyMixture, TinyStage

from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.loop import train

LOOP = {"steps": 12, "batch_size": 8, "log_every": 1, "save_every": 2, "ema": 0.8, "eval_every": 5}
OPTIM = {"lr": 1e-2, "warmup_steps": 2}

pytestmark = pytest.mark.timeout(900)  # two processes beside the other tests, on a machine that may be busy


def job(run: Path, kind: str = "single", **more: object) -> dict:
    parallel = {"kind": "deepspeed", "zero_stage": 3} if kind == "deepspeed" else {"kind": kind}
    return {"run": str(run), "loop": LOOP, "optim": OPTIM, "parallel": parallel} | more


def here(run: Path) -> TinyMixture:
    """Train in this process; the mixture tells what was asked of it."""
    mixture = TinyMixture()
    loop, optim = LoopConfig(**LOOP), OptimConfig(**OPTIM)
    train(TinyStage(), mixture, loop, optim, ParallelConfig(), run, [TinyEvaluator()])
    return mixture


def assert_same_to_the_bit(whole: Path, resumed: Path) -> None:
    assert lines(resumed) == lines(whole)
    a, b = (load_file(run / "model" / "model.safetensors") for run in (whole, resumed))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_killed_twice_a_single_process_ends_with_the_same_bits(tmp_path: Path) -> None:
    here(tmp_path / "whole")
    first = random.randint(3, 7)
    for step in (first, first + 4):
        launch([job(tmp_path / "run", kill_at=step)], code=-signal.SIGKILL)
        assert not (tmp_path / "run" / "done.json").exists()
    here(tmp_path / "run")
    assert_same_to_the_bit(tmp_path / "whole", tmp_path / "run")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two ranks: never stopped in `whole`; stopped, then resumed, in `run`; killed and left in `left`.

    A launch ends with the run that is stopped: starting processes is what takes the time here.
    """
    folder = tmp_path_factory.mktemp("ranks")
    whole, run, killed = folder / "whole", folder / "run", -signal.SIGKILL
    kinds = ("ddp", "fsdp", "deepspeed")
    step = random.randint(4, 9)
    launch([*(job(whole / kind, kind) for kind in kinds), job(run / "ddp", "ddp", kill_at=step)], ranks=2, code=killed)
    launch([job(run / "ddp", "ddp"), job(run / "fsdp", "fsdp", kill_at=step)], ranks=2, code=killed)
    said = launch(
        [job(run / "fsdp", "fsdp"), job(run / "deepspeed", "deepspeed", interrupt_at=step)], ranks=2, code=130
    )
    assert "run the same command again" in said
    assert len(lines(run / "deepspeed")) < LOOP["steps"]
    launch([job(run / "deepspeed", "deepspeed"), job(folder / "left", "fsdp", kill_at=9)], ranks=2, code=killed)
    return folder


@pytest.mark.parametrize("kind", ["ddp", "fsdp", "deepspeed"])
def test_stopped_two_ranks_end_with_the_same_bits(kind: str, two_ranks: Path) -> None:
    assert_same_to_the_bit(two_ranks / "whole" / kind, two_ranks / "run" / kind)


def test_a_checkpoint_of_two_ranks_goes_on_in_one_process(two_ranks: Path) -> None:
    run = two_ranks / "left"
    done = sorted((run / "checkpoints").glob("step-*"))[-1]
    at = int(done.name.removeprefix("step-"))
    assert at >= 2
    mixture = here(run)
    assert mixture.asked[: 12 - at] == [list(range(8 * step, 8 * step + 8)) for step in range(at, 12)]
    for mine, theirs in zip(lines(run), lines(two_ranks / "whole" / "fsdp"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)


def test_a_checkpoint_of_deepspeed_does_not_pretend_to_fit(two_ranks: Path) -> None:
    run = two_ranks / "whole" / "deepspeed"
    (run / "done.json").unlink()
    with pytest.raises(ValueError, match=r"parallel.kind is .* written with 'deepspeed ZeRO-3 on 2 ranks'"):
        here(run)
