"""kill -9 at any step, run the same command again: the same numbers to the last bit."""

import random
import signal
from pathlib import Path

import pytest
import torch
from launch import finish, launch, lines, start
from safetensors.torch import load_file
from tiny_stage import TinyEvaluator, TinyMixture, TinyStage

from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.loop import train

LOOP = {"steps": 12, "batch_size": 8, "log_every": 1, "save_every": 2, "ema": 0.8, "eval_every": 5}
OPTIM = {"lr": 1e-2, "warmup_steps": 2}


def job(run: Path, kind: str = "single", **more: object) -> dict:
    parallel = {"kind": "deepspeed", "zero_stage": 3} if kind == "deepspeed" else {"kind": kind}
    return {"run": str(run), "loop": LOOP, "optim": OPTIM, "parallel": parallel} | more


def assert_same_to_the_bit(whole: Path, resumed: Path) -> None:
    assert lines(resumed) == lines(whole)
    a, b = (load_file(run / "model" / "model.safetensors") for run in (whole, resumed))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_killed_twice_a_single_process_ends_with_the_same_bits(tmp_path: Path) -> None:
    launch([job(tmp_path / "whole")])
    first = random.randint(3, 7)
    for step in (first, first + 4):
        launch([job(tmp_path / "run", kill_at=step)], code=-signal.SIGKILL)
        assert not (tmp_path / "run" / "done.json").exists()
    launch([job(tmp_path / "run")])
    assert_same_to_the_bit(tmp_path / "whole", tmp_path / "run")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two ranks: never stopped in `whole`; killed, then resumed, in `run`; killed and left in `left`."""
    folder = tmp_path_factory.mktemp("ranks")
    kinds = ("ddp", "fsdp", "deepspeed")
    launch([job(folder / "whole" / kind, kind) for kind in kinds], ranks=2)
    for kind in kinds:
        killed = job(folder / "run" / kind, kind, kill_at=random.randint(5, 9))
        launch([killed], ranks=2, code=-signal.SIGKILL)
    launch([job(folder / "run" / kind, kind) for kind in kinds], ranks=2)
    launch([job(folder / "left", "fsdp", kill_at=9)], ranks=2, code=-signal.SIGKILL)
    return folder


@pytest.mark.parametrize("kind", ["ddp", "fsdp", "deepspeed"])
def test_killed_two_ranks_end_with_the_same_bits(kind: str, two_ranks: Path) -> None:
    assert_same_to_the_bit(two_ranks / "whole" / kind, two_ranks / "run" / kind)


def test_a_checkpoint_of_two_ranks_goes_on_in_one_process(two_ranks: Path) -> None:
    run, mixture = two_ranks / "left", TinyMixture()
    done = sorted((run / "checkpoints").glob("step-*"))[-1]
    at = int(done.name.removeprefix("step-"))
    assert at >= 2
    train(TinyStage(), mixture, LoopConfig(**LOOP), OptimConfig(**OPTIM), ParallelConfig(), run, [TinyEvaluator()])
    assert mixture.asked[: 12 - at] == [list(range(8 * step, 8 * step + 8)) for step in range(at, 12)]
    for mine, theirs in zip(lines(run), lines(two_ranks / "whole" / "fsdp"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)


def test_a_checkpoint_of_deepspeed_does_not_pretend_to_fit(two_ranks: Path) -> None:
    run = two_ranks / "whole" / "deepspeed"
    (run / "done.json").unlink()
    with pytest.raises(ValueError, match=r"parallel.kind is .* written with 'deepspeed ZeRO-3 on 2 ranks'"):
        train(TinyStage(), TinyMixture(), LoopConfig(**LOOP), OptimConfig(**OPTIM), ParallelConfig(), run)


def test_ctrl_c_ends_two_ranks_with_130_and_a_checkpoint(two_ranks: Path, tmp_path: Path) -> None:
    processes = start([job(tmp_path / "run", "fsdp", interrupt_at=6)], ranks=2)
    assert "run the same command again" in finish(processes, code=130)
    assert len(lines(tmp_path / "run")) < 12
    launch([job(tmp_path / "run", "fsdp")], ranks=2)
    assert_same_to_the_bit(two_ranks / "whole" / "fsdp", tmp_path / "run")
