"""Each of the three stages, under every kind of parallelism on two processes, trains as one process does."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vla" / "train"))
from launch import launch, lines  # noqa: E402  # pyright: ignore[reportMissingImports]

STAGES = ("lam", "distill", "finetune")
TORCH, DEEPSPEED = ("ddp", "fsdp"), ("deepspeed-1", "deepspeed-2", "deepspeed-3")
LOOP = {"steps": 2, "batch_size": 4, "log_every": 1, "save_every": 0}
WORKER = Path(__file__).with_name("stages_worker.py")

pytestmark = pytest.mark.timeout(900)  # two processes beside the other tests, on a machine that may be busy


def job(folder: Path, stage: str, kind: str) -> dict:
    name, _, zero_stage = kind.partition("-")
    parallel = {"kind": name} | ({"zero_stage": int(zero_stage)} if zero_stage else {})
    # Activation checkpointing must change nothing either, so the two are tested at once.
    loop = LOOP | {"activation_checkpointing": kind != "single"}
    return {"run": str(folder / stage / kind), "stage": stage, "loop": loop, "parallel": parallel}


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    launch([job(folder, stage, "single") for stage in STAGES], worker=WORKER)
    return folder


@pytest.fixture(scope="module", params=[TORCH, DEEPSPEED], ids=["torch", "deepspeed"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[str, ...], Path]:
    """Kinds of parallelism that share one launch of two processes, and their runs."""
    folder = tmp_path_factory.mktemp("pair")
    launch([job(folder, stage, kind) for kind in request.param for stage in STAGES], ranks=2, worker=WORKER)
    return request.param, folder


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_train_as_one(stage: str, single: Path, pair: tuple[tuple[str, ...], Path]) -> None:
    kinds, folder = pair
    expected = lines(single / stage / "single")
    for kind in kinds:
        found = folder / stage / kind
        assert json.loads((found / "done.json").read_text())["parallel"] == kind
        for mine, theirs in zip(expected, lines(found), strict=True):
            for value in ("loss", "grad_norm"):  # not every metric is a mean over samples; an explained variance is not
                assert theirs[value] == pytest.approx(mine[value], rel=1e-4), (kind, value)
