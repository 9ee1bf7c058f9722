"""Stage 3's ways of training, through the loop: under every kind of parallelism, stopped and resumed, and exported."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "vla" / "train"))
from launch import launch, lines  # noqa: E402  # pyright: ignore[reportMissingImports]

from tests.recipes import stages_worker  # noqa: E402
from tests.vla.models.pi05.students import tiny_config  # noqa: E402
from vla.models.pi05.model import Pi05  # noqa: E402
from vla.train.export import load_weights  # noqa: E402
from vla.train.initialise import starting_value  # noqa: E402
from vla.train.lora import is_adapter  # noqa: E402

WORKER = Path(__file__).with_name("stages_worker.py")
LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.1, "vision": ["mlp"]}
MODES: dict[str, dict[str, Any]] = {
    "frozen_vlm": {"train": "frozen_vlm", "frozen_dtype": "bfloat16", "flow_samples": 2},
    "lora": {"train": "lora", "lora": LORA, "frozen_dtype": "bfloat16", "loss": "latbot"},
    "insulated": {"insulate": True, "text_weight": 0.5, "fast_weight": 0.5},
    "insulated lora": {"insulate": True, "train": "lora", "lora": LORA, "fast_weight": 0.5},
}
KINDS = {"torch": ("ddp", "fsdp"), "deepspeed": ("deepspeed-2", "deepspeed-3")}


def job(folder: Path, mode: str, kind: str = "single", **loop: Any) -> dict[str, Any]:
    name, _, zero_stage = kind.partition("-")
    parallel = {"kind": name} | ({"zero_stage": int(zero_stage)} if zero_stage else {})
    dtype = "bfloat16" if MODES[mode].get("frozen_dtype") else "float32"
    fields = {"steps": 2, "batch_size": 4, "log_every": 1, "save_every": 0, "ema": 0.5, "dtype": dtype}
    fields["activation_checkpointing"] = kind != "single"  # must change nothing either, so both are tested at once
    run = str(folder / mode / kind)
    return {"run": run, "stage": "finetune", "objective": MODES[mode], "loop": fields | loop, "parallel": parallel}


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    for mode in MODES:
        stages_worker.run(job(folder, mode))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("group", KINDS)
def test_two_ranks_train_as_one(group: str, single: Path, tmp_path: Path) -> None:
    launch([job(tmp_path, mode, kind) for kind in KINDS[group] for mode in MODES], ranks=2, worker=WORKER)
    for kind in KINDS[group]:
        for mode in MODES:
            found, alone = tmp_path / mode / kind, single / mode / "single"
            assert json.loads((found / "done.json").read_text())["parallel"] == kind
            tolerance = 5e-3 if MODES[mode].get("frozen_dtype") else 1e-4
            for mine, theirs in zip(lines(alone), lines(found), strict=True):
                for value in ("loss", "grad_norm"):
                    assert theirs[value] == pytest.approx(mine[value], rel=tolerance), (kind, mode, value)
            a, b = (load_file(run / "model" / "model.safetensors") for run in (alone, found))
            assert {name: value.dtype for name, value in a.items()} == {name: value.dtype for name, value in b.items()}
            assert all(torch.allclose(a[name], b[name], rtol=1e-2, atol=3e-3) for name in a), (kind, mode)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_left_has_the_published_names_and_loads(mode: str, single: Path) -> None:
    folder = single / mode / "single" / "model"
    with torch.device("meta"):
        module = Pi05(tiny_config())
    load_weights(module, folder)
    assert load_file(folder / "model.safetensors").keys() == module.state_dict().keys()
    assert (folder / "fast").is_dir() == bool(MODES[mode].get("fast_weight"))


@pytest.mark.parametrize("mode", ["lora", "insulated lora"])
def test_resumed_is_never_stopped_to_the_bit(mode: str, tmp_path: Path) -> None:
    stages_worker.run(job(tmp_path / "whole", mode, steps=4, save_every=2))
    whole, resumed = (tmp_path / name / mode / "single" for name in ("whole", "resumed"))
    shutil.copytree(whole / "checkpoints" / "step-00000002", resumed / "checkpoints" / "step-00000002")
    kept = (whole / "metrics.jsonl").read_text().splitlines(keepends=True)[:2]
    (resumed / "metrics.jsonl").write_text("".join(kept))
    stages_worker.run(job(tmp_path / "resumed", mode, steps=4, save_every=2))
    assert lines(resumed) == lines(whole)
    a, b = (load_file(run / "model" / "model.safetensors") for run in (whole, resumed))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_only_what_learns_has_moved(tmp_path: Path) -> None:
    """Frozen weights leave as they came; adapted ones have a change of the adapters' rank.

    The heads and the adapters' second halves start at zero, so that the first gradient of the expert's comes late.
    """
    stages_worker.run(job(tmp_path, "insulated lora", steps=5, ema=None))
    start, _ = stages_worker.stage_of("finetune", MODES["insulated lora"])
    left = load_file(tmp_path / "insulated lora" / "single" / "model" / "model.safetensors")
    module = start.build()
    adapted = {name.split(".lora_")[0] + ".weight" for name, _ in module.named_parameters() if is_adapter(name)}
    whole = {name for name, p in module.named_parameters() if p.requires_grad and not is_adapter(name)}
    for name, parameter in module.named_parameters():
        if is_adapter(name) or name in whole:
            continue
        plain = name.replace(".base_layer.", ".")
        change = left[plain] - starting_value(start, name, parameter.shape, 0)
        if plain in adapted:
            assert 1 <= int(torch.linalg.matrix_rank(change, rtol=1e-3)) <= LORA["rank"], plain
        else:
            assert not change.any(), plain
