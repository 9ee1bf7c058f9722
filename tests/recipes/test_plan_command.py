"""`vla plan` before there is any data: what it prints, when it says no, and what it offers then."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from recipes.cli import main
from recipes.gpus import GPUS, Gpu, find_gpu
from recipes.loading import load_recipe
from recipes.planning import GIB, OVERHEAD, Planner, changed
from recipes.stand_in import StandInMixture
from tests.vla.models.pi05.students import normalisation
from vla.models.pi05.config import Pi05Config
from vla.models.pi05.model import Pi05, Prefix
from vla.models.pi05.sample import sample_actions
from vla.models.pi05.stage import ActionConfig, ActionStage
from vla.train.config import LoopConfig
from vla.train.footprint.parts import parts
from vla.train.footprint.rehearsal import rehearse

RECIPES = Path(__file__).parents[2] / "recipes"
FINETUNE = str(Path(__file__).with_name("nano") / "finetune.yaml")
SMALL = ["--gpu-tflops", "100"]


def plan(*arguments: str) -> int:
    return main(["plan", *arguments])


@pytest.fixture(scope="module")
def published() -> tuple[torch.nn.Module, list[torch.nn.Module]]:
    stage = published_stage(cameras=2)
    with torch.device("meta"):
        module = stage.build()
    return module, stage.parallelize(module, None)


def published_stage(cameras: int) -> ActionStage:
    return ActionStage(ActionConfig(model=Pi05Config()), normalisation(), ["a", "b", "c"][:cameras], ["do it"])


def test_a_plan_reads_as_a_table(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # no data, no weights
    assert plan(FINETUNE, "--gpu", "l40s", "--mfu", "0.5", "--loop.steps", "1000") == 0
    out = capsys.readouterr().out
    assert "1 x L40S, single, float32; an update sees 8 samples: 1 GPU x 1 micro-batch of 8" in out
    assert re.search(r"vision_tower +\d\d,\d\d\d +\d\d,\d\d\d +100.0 %", out)
    assert re.search(r"forward +[\d.]+ MFLOP +\d\d\.\d %", out)
    assert "fits on L40S" in out
    assert "1 x 0.5 x 91.6 TFLOP/s" in out
    assert re.search(r"all updates +0\.\d*[1-9]\d* seconds +1,000 of them, 8,000 samples", out)
    assert "every sample has all 1 camera (corner)" in out
    assert list(tmp_path.iterdir()) == []


def test_the_numbers_add_up():
    recipe = load_recipe(FINETUNE)
    found = Planner(GPUS["h200"], 0.4).plan(recipe, 1)
    assert found.samples_per_s == pytest.approx(0.4 * 67e12 / sum(found.flops))
    assert found.days == pytest.approx(40 * 8 / found.samples_per_s / 86_400)
    assert sum(part.total for part in found.parts) == sum(p.numel() for p in built(recipe).parameters())
    assert found.memory.parts[OVERHEAD] >= 0.6 * GIB
    twice = Planner(GPUS["h200"], 0.4).plan(changed(recipe, {"parallel.kind": "ddp"}), 2)
    assert twice.micro_batch == 4
    assert twice.samples_per_s == pytest.approx(2 * found.samples_per_s)


def built(recipe) -> torch.nn.Module:
    stage, _ = recipe.stand_in()
    with torch.device("meta"):
        return stage.build()


def test_what_does_not_fit_is_refused_with_what_would(capsys: pytest.CaptureFixture):
    """2 MiB are missing: activation checkpointing saves them, and so do more micro-batches."""
    recipe = load_recipe(FINETUNE, {"loop.batch_size": 32})
    needs = Planner(GPUS["h200"], 0.4).plan(recipe, 1).memory.total / GIB
    gpu = ["--gpu-memory-gib", f"{needs - 2 / 1024:.5f}", *SMALL]
    code = plan(FINETUNE, "--loop.batch_size=32", *gpu)
    captured = capsys.readouterr()
    assert code == 1
    assert "does not fit on a GPU of" in captured.out
    assert "stopped: does not fit: a GPU needs" in captured.err
    offered = captured.out.split("what would fit")[1]
    blocks = [yaml.safe_load(text) for text in re.findall(r"seconds\n((?: {5}\S.*\n?)+)", offered)]
    assert {"loop": {"accumulate": 2}} in blocks
    assert {"loop": {"activation_checkpointing": True}} in blocks
    for block in blocks:  # the lines do what they say
        lines = [f"--{top}.{name}={value}" for top, fields in block.items() for name, value in fields.items()]
        assert (
            plan(FINETUNE, "--loop.batch_size", "32", *lines, "--gpus", "1", "--gpu-memory-gib", f"{needs:.5f}", *SMALL)
            == 0
        )


def test_what_cannot_fit_at_any_micro_batch_is_not_tried():
    """Weights and moments alone are too much for one GPU, and a quarter of them is not."""
    recipe = load_recipe(FINETUNE, {"loop.batch_size": 64})
    whole = Planner(GPUS["h200"], 0.4)._least(recipe, 1)
    tight = Planner(Gpu("tight", (whole - 1) / GIB, 1, 1), 0.4)
    assert tight._first_that_fits(recipe, 1, {}) is None
    assert not tight._rehearsals
    sharded = changed(recipe, {"parallel.kind": "fsdp"})
    state = whole - 0.6 * GIB
    assert tight._least(sharded, 4) == pytest.approx(1.6 * GIB + state / 4, abs=0.02 * state)


def test_nothing_fits(capsys: pytest.CaptureFixture):
    assert plan(FINETUNE, "--gpu-memory-gib", "0.5", *SMALL) == 1
    assert "Nothing that was tried fits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((FINETUNE, "--gpu", "rtx4900"), "Did you mean rtx4090?"),
        ((FINETUNE, "--gpu-memory-gib", "24"), "needs both --gpu-memory-gib and --gpu-tflops"),
        ((FINETUNE, "--gpu", "h100", "--gpu-memory-gib", "24", "--gpu-tflops", "9"), "leave out --gpu-memory-gib"),
        ((FINETUNE, "--mfu", "40"), "--mfu 40"),
        ((FINETUNE, "--gpus", "0"), "--gpus 0: give 1 or more"),
        ((FINETUNE, "--gpus", "2"), "add `--parallel.kind fsdp`"),
        ((FINETUNE, "--gpus", "3", "--parallel.kind", "ddp"), "divisible by loop.accumulate (1) x ranks (3)"),
        ((str(RECIPES / "demo" / "pipeline.yaml"),), "which trains nothing: plan a training recipe"),
    ],
)
def test_what_makes_no_sense_is_said(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture):
    assert plan(*arguments) == 2
    assert words in re.sub(r"\s+", " ", capsys.readouterr().err)


def test_every_named_gpu_is_plausible():
    for name, gpu in GPUS.items():
        assert find_gpu(name) is gpu
        assert 10 < gpu.memory_gib < 300
        assert gpu.float32_tflops < gpu.bfloat16_tflops


@pytest.mark.slow
def test_every_shipped_training_recipe_makes_its_stage_without_files():
    for path in RECIPES.glob("*/*.yaml"):
        tree = yaml.safe_load(path.read_text())
        if tree.get("stage") in ("lam", "distill", "finetune"):
            stage, mixture = load_recipe(path).stand_in()
            assert isinstance(mixture, StandInMixture)
            assert len(mixture.batch(range(2))) == 2
            with torch.device("meta"):
                assert any(p.requires_grad for p in stage.build().parameters()), path


def test_published_parameters(published: tuple[torch.nn.Module, list[torch.nn.Module]]):
    """Spec: SigLIP, projector, embedding, VLM layers, expert with its adaRMS; 109 M of them get no gradient."""
    module, blocks = published
    counts = {part.name: part.total for part in parts(module, blocks)}
    assert sum(counts.values()) == 3_353_433_872
    assert counts["vision_tower"] == 412_442_352
    assert counts["language_model"] == 1_981_884_416
    assert counts["lm_head"] == 526_647_296
    assert counts["gemma_expert"] == 311_427_072 + 116_505_600
    learning = sum(part.trainable for part in parts(module, blocks))
    assert 3_353_433_872 - learning == 109_056_000


@pytest.mark.slow
@pytest.mark.parametrize(("cameras", "terra", "again"), [(2, 10.1, 13.5), (3, 14.0, 18.7)])
def test_published_training_flops(cameras: int, terra: float, again: float):
    """Spec: TFLOP a sample at 200 text tokens, without and with recomputation.

    It counts all of the VLM's last layer, whose output nothing reads and which is not computed here, and a whole
    forward pass for recomputation, which torch stops at the last product of each block that anything needs.
    """
    config = Pi05Config()
    tokens = cameras * config.vision.num_tokens + config.max_text_tokens
    last_layer = 3 * 2 * tokens * (109_056_000 - config.vlm.width * 2)
    mixture = StandInMixture(load_recipe(RECIPES / "latbot" / "3_libero.yaml").data, action_dim=config.action_dim)
    mixture = changed(mixture, {"config.cameras": ["a", "b", "c"][:cameras], "config.window.horizon": config.horizon})
    loop = LoopConfig(steps=1, batch_size=1, dtype="bfloat16", activation_checkpointing=True)
    flops = rehearse(published_stage(cameras), mixture.batch(range(1)), loop, sharded=False).flops
    assert (flops.forward + flops.backward + last_layer) / 1e12 == pytest.approx(terra, rel=0.01)
    assert flops.recomputed < flops.forward
    assert (flops.total + last_layer) / 1e12 == pytest.approx(again, rel=0.12)


@pytest.mark.slow
@pytest.mark.parametrize(("cameras", "terra"), [(2, 3.71), (3, 5.02)])
def test_published_inference_flops(cameras: int, terra: float):
    """Spec: TFLOP a chunk, ten Euler steps, 200 text tokens; again with all of the last layer."""
    config = Pi05Config()
    with FakeTensorMode(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # torch's counter knows no CPU attention
        model = Pi05(config)
        ones = torch.ones(1, 200, dtype=torch.bool)
        images, present = torch.empty(1, cameras, 3, 224, 224), torch.ones(1, cameras, dtype=torch.bool)
        prefix = Prefix(images, present, ones.long(), ones)
        with FlopCounterMode(display=False) as counter:
            sample_actions(model, prefix, torch.empty(1, config.horizon, config.action_dim))
    last_layer = 2 * (cameras * 256 + 200) * 109_056_000
    assert (counter.get_total_flops() + last_layer) / 1e12 == pytest.approx(terra, rel=0.02)
