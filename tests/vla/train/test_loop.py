"""One process: what the loop leaves behind, and the equivalences of its switches."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from launch import lines
from safetensors.torch import load_file
from tiny_stage import Network, TinyEvaluator, TinyMixture, TinyStage

from data_mixtures.batch import Batch
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.export import load_weights
from vla.train.interrupt import Interrupted
from vla.train.loop import NonFiniteError, train

LOOP = LoopConfig(steps=4, batch_size=8, log_every=1, save_every=0)
OPTIM = OptimConfig(lr=1e-2, schedule="constant", weight_decay=0.1)


def run(folder: Path, loop: LoopConfig = LOOP, mixture: TinyMixture | None = None, optim: OptimConfig = OPTIM) -> list:
    """Train; the losses."""
    train(TinyStage(), mixture or TinyMixture(), loop, optim, ParallelConfig(), folder)
    return [line["loss"] for line in lines(folder)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def checkpoints(folder: Path) -> list[str]:
    return sorted(f.name for f in (folder / "checkpoints").iterdir())


def test_it_learns_and_leaves_the_run_folder(tmp_path: Path) -> None:
    loop = replace(LOOP, steps=60, log_every=20, batch_size=16)
    losses = run(tmp_path / "run", loop, optim=replace(OPTIM, warmup_steps=5, schedule="cosine"))
    found = lines(tmp_path / "run")
    assert [line["step"] for line in found] == [1, 20, 40, 60]
    assert found[0].keys() == {"step", "loss", "flow", "text", "lr", "grad_norm"}
    assert found[0]["loss"] == pytest.approx(found[0]["flow"] + found[0]["text"])
    assert losses[-1] < 0.85 * losses[0]
    done = json.loads((tmp_path / "run" / "done.json").read_text())
    assert done["parallel"] == "single"
    assert done["skipped_steps"] == 0
    assert 0 <= done["data_wait_share"] <= 1
    assert done["peak_memory_bytes"] > 10**7
    assert (tmp_path / "run" / "model" / "config.json").exists()


def test_a_done_run_returns_at_once(tmp_path: Path) -> None:
    run(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    mixture = TinyMixture()
    run(tmp_path, mixture=mixture)
    assert mixture.asked == []
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_1_x_8_accumulated_is_8_x_1(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    parts = run(tmp_path / "parts", replace(LOOP, accumulate=8))
    assert parts == pytest.approx(whole, rel=1e-5)
    norms = [[line["grad_norm"] for line in lines(tmp_path / name)] for name in ("whole", "parts")]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_activation_checkpointing_changes_no_bit_and_no_name(tmp_path: Path) -> None:
    assert run(tmp_path / "a") == run(tmp_path / "b", replace(LOOP, activation_checkpointing=True))
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_bfloat16_is_close_but_not_the_same(tmp_path: Path) -> None:
    full, half = run(tmp_path / "a"), run(tmp_path / "b", replace(LOOP, dtype="bfloat16"))
    assert half == pytest.approx(full, rel=2e-2)
    assert half != full
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path / "b").values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # the compiler's own
def test_compiled_blocks_give_the_same_losses(tmp_path: Path) -> None:
    loop = replace(LOOP, compile=True, activation_checkpointing=True)
    assert run(tmp_path / "b", loop) == pytest.approx(run(tmp_path / "a"), rel=1e-5)


def test_ema_is_what_a_hand_computes(tmp_path: Path) -> None:
    decay = 0.8
    run(tmp_path / "ema", replace(LOOP, steps=3, ema=decay))
    trained = []
    for steps in (1, 2, 3):
        run(tmp_path / str(steps), replace(LOOP, steps=steps))
        trained.append(weights(tmp_path / str(steps)))
    run(tmp_path / "0", replace(LOOP, steps=1), optim=replace(OPTIM, lr=1e-30))  # moves nothing: the starting weights
    expected = weights(tmp_path / "0")
    for after in trained:
        expected = {name: decay * expected[name] + (1 - decay) * after[name] for name in expected}
    found = weights(tmp_path / "ema")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    assert not torch.equal(found["velocity.weight"], trained[-1]["velocity.weight"])


def test_evaluation_sees_the_averages_and_disturbs_nothing(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", replace(LOOP, ema=0.5))
    loop = replace(LOOP, ema=0.5, eval_every=2, log_every=4)
    train(TinyStage(), TinyMixture(), loop, OPTIM, ParallelConfig(), tmp_path / "run", [TinyEvaluator()])
    found = lines(tmp_path / "run")
    assert [(line["step"], "eval/loss" in line) for line in found] == [(1, False), (2, True), (4, True)]
    assert [line["loss"] for line in found] == [plain[0], plain[1], plain[3]]
    module = Network()
    load_weights(module, tmp_path / "run" / "model")
    TinyStage().init_buffers(module)
    with torch.no_grad():
        assert found[-1]["eval/loss"] == dict(TinyEvaluator().run(module.eval()))["loss"]


def test_exported_weights_load_onto_meta_with_ties(tmp_path: Path) -> None:
    run(tmp_path)
    saved = weights(tmp_path)
    assert "head.weight" not in saved
    assert {"tower.weight", "scale", "words.weight"} <= saved.keys()
    with torch.device("meta"):
        module = Network()
    load_weights(module, tmp_path / "model")
    assert module.head.weight is module.words.weight
    assert all(torch.equal(tensor, saved[name]) for name, tensor in module.named_parameters())
    with pytest.raises(ValueError, match="no weights at"):
        load_weights(module, tmp_path)
    with pytest.raises(ValueError, match=r"lacks \['up.weight'\]"):
        load_weights(torch.nn.ModuleDict({"up": torch.nn.Linear(2, 2, bias=False)}), tmp_path / "model")


def test_frozen_weights_stay_and_are_exported(tmp_path: Path) -> None:
    run(tmp_path / "1", replace(LOOP, steps=1))
    run(tmp_path / "4")
    one, four = weights(tmp_path / "1"), weights(tmp_path / "4")
    assert torch.equal(one["tower.weight"], four["tower.weight"])
    assert not torch.equal(one["velocity.weight"], four["velocity.weight"])


def test_a_non_finite_step_is_skipped_and_counted(tmp_path: Path) -> None:
    loop = replace(LOOP, ema=0.9, save_every=2, log_every=100)
    run(tmp_path, loop, TinyMixture(bad=(9,)))  # id 9 is in step 2
    found = {line["step"]: line for line in lines(tmp_path)}
    assert found.keys() == {1, 2, 4}  # a bad step is logged whatever log_every says
    assert found[2]["loss"] is None
    assert found[4]["loss"] is not None
    assert json.loads((tmp_path / "done.json").read_text())["skipped_steps"] == 1
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path).values())


def test_a_skipped_step_leaves_weights_and_moments_alone(tmp_path: Path) -> None:
    """Steps 1, (2 skipped), 3 end where a run over the same two batches of ids ends."""

    class Closed(TinyMixture):
        def batch(self, sample_ids: Sequence[int]) -> Batch:
            return super().batch([i if i < 8 else i + 8 for i in sample_ids])

    run(tmp_path / "skipped", replace(LOOP, steps=3), TinyMixture(bad=tuple(range(8, 16))))
    run(tmp_path / "closed", replace(LOOP, steps=2), Closed())
    a, b = weights(tmp_path / "skipped"), weights(tmp_path / "closed")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_several_bad_steps_stop_the_run_and_name_the_samples(tmp_path: Path) -> None:
    loop = replace(LOOP, steps=20, max_bad_steps=3, save_every=1)
    mixture = TinyMixture(bad=(3, *range(40, 1000)))  # step 1 alone, then from step 6 on
    with pytest.raises(NonFiniteError, match="6 to 8, over sample ids 40 to 63") as stopped:
        run(tmp_path, loop, mixture)
    assert stopped.value.sample_ids == list(range(40, 64))
    assert not (tmp_path / "done.json").exists()
    with pytest.raises(NonFiniteError, match="6 to 8"):  # and again, from the checkpoint in the middle of them
        run(tmp_path, loop, mixture)
    losses = run(tmp_path, loop)  # the samples mended, the same run ends
    assert len(losses) == 20
    assert json.loads((tmp_path / "done.json").read_text())["skipped_steps"] == 3


def test_no_checkpoint_holds_a_nan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(self: TinyStage, module: torch.nn.Module) -> None:
        module.get_buffer("scale").fill_(float("inf"))

    monkeypatch.setattr(TinyStage, "init_buffers", poisoned)
    with pytest.raises(NonFiniteError, match="nothing was written"):
        run(tmp_path, replace(LOOP, save_every=1, max_bad_steps=3))
    assert not list((tmp_path / "checkpoints").glob("step-*"))


def test_keep_last(tmp_path: Path) -> None:
    run(tmp_path, replace(LOOP, steps=7, save_every=2, keep_last=2))
    assert checkpoints(tmp_path) == ["step-00000004", "step-00000006"]


class Interrupting(TinyMixture):
    """Ctrl-C while the batch with this sample id is made."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def batch(self, sample_ids: Sequence[int]) -> Batch:
        if self.at in sample_ids:
            os.kill(os.getpid(), signal.SIGINT)
        return super().batch(sample_ids)


def test_interrupted_it_saves_says_how_to_go_on_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = replace(LOOP, steps=12, ema=0.9, save_every=5)
    expected = run(tmp_path / "whole", loop)
    with pytest.raises(Interrupted) as stopped:
        run(tmp_path / "run", loop, Interrupting(at=8 * 6))
    assert stopped.value.code == 130
    assert "run the same command again" in " ".join(capsys.readouterr().err.split())
    at = int(checkpoints(tmp_path / "run")[-1].removeprefix("step-"))
    assert 4 <= at <= 8  # the loader works a few batches ahead
    mixture = TinyMixture()
    assert run(tmp_path / "run", loop, mixture) == expected
    assert mixture.asked[0] == list(range(8 * at, 8 * at + 8))
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_half_written_checkpoint_is_never_picked_up(tmp_path: Path) -> None:
    loop = replace(LOOP, steps=8, save_every=2, keep_last=9)
    expected = run(tmp_path, loop)
    (tmp_path / "done.json").unlink()
    last = tmp_path / "checkpoints" / "step-00000008"
    last.rename(last.with_name(".step-00000008.partial"))  # killed before the rename
    (tmp_path / "checkpoints" / "step-00000006" / "progress.json").unlink()  # and one copied without its end
    mixture = TinyMixture()
    assert run(tmp_path, loop, mixture) == expected
    assert mixture.asked[0][0] == 8 * 4
    assert checkpoints(tmp_path)[-1] == "step-00000008"


def test_a_line_cut_in_half_by_a_kill_is_dropped(tmp_path: Path) -> None:
    loop = replace(LOOP, save_every=2)
    expected = run(tmp_path, loop)
    (tmp_path / "done.json").unlink()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    assert run(tmp_path, loop) == expected


def test_a_resumed_run_may_not_change_what_its_samples_depend_on(tmp_path: Path) -> None:
    loop = replace(LOOP, save_every=2)
    run(tmp_path, loop)
    (tmp_path / "done.json").unlink()
    with pytest.raises(ValueError, match=r"loop.batch_size is 16, but .* was written with 8"):
        run(tmp_path, replace(loop, batch_size=16))


def test_every_starting_weight_is_a_function_of_seed_and_name(tmp_path: Path) -> None:
    still = replace(OPTIM, lr=1e-30)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(tmp_path / name, replace(LOOP, steps=1, seed=seed), optim=still)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["words.weight"], c["words.weight"])
    assert not torch.equal(a["blocks.0.qkv.weight"], a["blocks.1.qkv.weight"])


def test_several_processes_need_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"parallel.kind is 'fsdp' .*`torchrun"):
        train(TinyStage(), TinyMixture(), LOOP, OPTIM, ParallelConfig("fsdp"), tmp_path)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"'single' but 2 processes"):
        run(tmp_path)


@pytest.mark.gpu
def test_on_a_gpu_in_bfloat16(tmp_path: Path) -> None:
    losses = run(tmp_path, replace(LOOP, steps=40, dtype="bfloat16", ema=0.9, activation_checkpointing=True))
    assert losses[-1] < losses[0]
