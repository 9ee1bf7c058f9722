"""A pipeline's step with `processes: 2` runs through torchrun, dies with the pipeline, and goes on."""

import json
import random
from pathlib import Path

import pytest

from tests.recipes.run_folder import done, finish, kill_outright, losses, start, wait_for_step


def test_a_pipeline_launches_ranks_takes_them_along_and_goes_on(single: dict[str, Path], workplace: Path) -> None:
    step = {"parallel.kind": "ddp", "objective.init_from": str(single["distill"] / "model")}
    path = workplace / "ranks.yaml"
    steps = [{"name": "finetune", "recipe": "finetune.yaml", "processes": 2, "set": step}]
    path.write_text(json.dumps({"stage": "pipeline", "run": "runs/ranks", "steps": steps}))
    run = workplace / "runs" / "ranks" / "finetune"
    killed = start(workplace, "recipes.cli", "run", path.name)
    wait_for_step(run, random.randint(4, 20), killed)
    assert kill_outright(killed) == [], "launcher and ranks outlived the pipeline"
    assert not (run / "done.json").exists()
    finish(start(workplace, "recipes.cli", "run", path.name))
    assert (done(run)["parallel"], done(run)["world_size"]) == ("ddp", 2)
    alone = losses(single["finetune"])
    assert len(losses(run)) == len(alone)
    # Two ranks add float32 in another order, and AdamW turns that into whole steps where a gradient is all but zero:
    # the first steps must agree, later ones drift apart.
    for one, two in zip(alone[:3], losses(run), strict=False):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-6)
