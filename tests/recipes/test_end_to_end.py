"""The nano pipeline as a user runs it: killed, interrupted, gone on with; its numbers are those of one run whole."""

import io
import os
import random
import signal
from contextlib import chdir, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from recipes.cli import main
from tests.recipes.run_folder import (
    descendants,
    files,
    finish,
    kill_outright,
    losses,
    start,
    wait_for,
    wait_for_step,
    weights,
)

STEPS = {"lam": "lam", "label": "labels", "distill": "distill", "finetune": "finetune"}  # recipe -> step
TRAINED = ("lam", "distill", "finetune")
COMMAND = ("recipes.cli", "run", "pipeline.yaml")


@dataclass
class Story:
    """What happened to one pipeline on its way to the end."""

    run: Path
    second_writer: tuple[int, str]
    orphans: list[int]
    before_the_kill: list[str]
    kept_steps: int
    said_when_interrupted: str
    left_when_interrupted: list[int]
    stopped_at: int


def _last_checkpoint(run: Path) -> int:
    return max(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*"))


def _second_writer(workplace: Path) -> tuple[int, str]:
    said = io.StringIO()
    with chdir(workplace), redirect_stderr(said):
        return main(["run", "pipeline.yaml"]), said.getvalue()


@pytest.fixture(scope="module")
def story(single: dict[str, Path], workplace: Path) -> Story:
    """kill -9 in stage 1, the same command, Ctrl-C in stage 2, the same command to the end."""
    run = workplace / "runs" / "pipeline"
    killed = start(workplace, *COMMAND)
    wait_for(run / "pipeline.json", killed)
    second = _second_writer(workplace)
    wait_for_step(run / "lam", random.randint(4, 20), killed)
    orphans = kill_outright(killed)
    before = (run / "lam" / "metrics.jsonl").read_text().splitlines()
    kept = _last_checkpoint(run / "lam")
    assert not (run / "lam" / "done.json").exists(), "it was to be killed in mid-training"

    interrupted = start(workplace, *COMMAND)
    wait_for_step(run / "distill", random.randint(4, 20), interrupted)
    below = descendants(interrupted.pid)
    os.kill(interrupted.pid, signal.SIGINT)
    said = finish(interrupted, code=130)
    left = [pid for pid in below if Path(f"/proc/{pid}").exists()]
    assert not (run / "distill" / "done.json").exists(), "it was to be stopped in mid-training"
    stopped_at = _last_checkpoint(run / "distill")

    finish(start(workplace, *COMMAND))
    return Story(run, second, orphans, before, kept, said, left, stopped_at)


def test_every_step_leaves_a_whole_run_folder(story: Story) -> None:
    for step in STEPS.values():
        there = {path.name for path in (story.run / step).iterdir()}
        assert {"done.json", "recipe.yaml", "versions.json", "log.txt"} <= there
        assert not [name for name in there if "partial" in name]
    for step in TRAINED:
        assert {"metrics.jsonl", "checkpoints", "model"} <= {path.name for path in (story.run / step).iterdir()}
    assert (story.run / "lam" / "health.json").exists()
    assert (story.run / "distill" / "heldout.json").exists()
    assert (story.run / "labels" / "play" / "meta" / "info.json").exists()


def test_a_kill_leaves_no_orphan(story: Story) -> None:
    assert story.orphans == []


def test_after_a_kill_it_goes_on_from_the_last_checkpoint(story: Story) -> None:
    """Lines up to it hold times of their own (speed, seconds): the very same lines are the first process' work."""
    after = (story.run / "lam" / "metrics.jsonl").read_text().splitlines()
    assert 3 <= story.kept_steps <= len(story.before_the_kill)
    assert after[: story.kept_steps] == story.before_the_kill[: story.kept_steps]
    assert after[story.kept_steps : len(story.before_the_kill)] != story.before_the_kill[story.kept_steps :] or (
        story.kept_steps == len(story.before_the_kill)
    )


def test_ctrl_c_saves_and_says_how_to_go_on(story: Story) -> None:
    assert "the same command goes on" in story.said_when_interrupted
    assert story.left_when_interrupted == []
    log = (story.run / "distill" / "log.txt").read_text()
    assert f"stopped after step {story.stopped_at} of" in log


@pytest.mark.parametrize("recipe", TRAINED)
def test_stopped_twice_it_ends_with_the_bits_of_a_run_never_stopped(
    recipe: str, story: Story, single: dict[str, Path]
) -> None:
    run = story.run / STEPS[recipe]
    assert losses(run) == losses(single[recipe])
    mine, theirs = weights(single[recipe]), weights(run)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_second_process_in_the_folder_is_refused(story: Story) -> None:
    code, said = story.second_writer
    assert code == 2
    assert "runs/pipeline" in said
    assert "in use by another process" in said


def test_running_again_does_nothing(story: Story, in_workplace: Path) -> None:
    before = files(story.run)
    assert main(["run", "pipeline.yaml"]) == 0
    after = files(story.run)
    assert after.pop("pipeline.json") >= before.pop("pipeline.json")  # the index of the steps is written again
    assert after == before


def test_a_finished_step_is_not_taken_for_that_of_another_recipe(
    story: Story, in_workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = files(story.run)
    changed = ["--steps.2.set", "{optim.lr: 5.0e-4, data.datasets.0.path: '{run}/labels/play', heldout: null}"]
    assert main(["run", "pipeline.yaml", *changed]) == 2
    said = capfd.readouterr().err
    for word in ("step `distill`", "runs/pipeline/distill was made by a different recipe", "remove the old one"):
        assert word in said
    assert files(story.run) == before


def test_a_step_that_was_trained_and_not_measured_is_measured(story: Story, workplace: Path) -> None:
    """done.json is written by the loop; a kill between it and the health of stage 1 must not lose the latter."""
    (story.run / "lam" / "health.json").unlink()
    before = files(story.run)
    finish(start(workplace, *COMMAND))
    after = files(story.run)
    assert set(after) - set(before) == {"lam/health.json"}
    assert after["lam/model/model.safetensors"] == before["lam/model/model.safetensors"]
    assert after["distill/done.json"] == before["distill/done.json"]
