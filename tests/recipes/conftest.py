"""A folder with a small data set and the nano recipes, and the nano pipeline's stages run in this process."""

import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_mixtures.lerobot.writer import LeRobotWriter
from recipes.loading import load_recipe

NANO = Path(__file__).with_name("nano")
STAGES = {"lam": "lam", "label": "labels", "distill": "distill", "finetune": "finetune"}  # recipe -> run folder
TASKS = ("push the square", "pull the square")
LENGTHS = (22, 23, 24, 25, 26, 27)
SIZE = 32  # pixels


def _episode(number: int, length: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A bright square that the first two actions push about; uint8 [T, H, W, 3] and columns [T, 4]."""
    rng = np.random.default_rng(number)
    actions = rng.uniform(-1, 1, (length, 4)).astype(np.float32)
    frames = np.full((length, SIZE, SIZE, 3), 60 + 20 * (number % 3), dtype=np.uint8)
    place = np.array([12.0, 12.0])
    states = np.zeros((length, 4), dtype=np.float32)
    for step in range(length):
        states[step] = [*place / SIZE, 0.1, step % 2]
        top, left = place.round().astype(int)
        frames[step, top : top + 8, left : left + 8] = 230
        place = np.clip(place + 2 * actions[step, :2], 0, SIZE - 8)
    return frames, {"observation.state": states, "action": actions}


def write_data(root: Path) -> None:
    """6 episodes of 22 to 27 frames, 2 tasks, 2 sub-tasks an episode."""
    with LeRobotWriter(
        root, 10, "metaworld_sawyer", {"corner": (SIZE, SIZE)}, {"observation.state": 4, "action": 4}
    ) as writer:
        for number, length in enumerate(LENGTHS):
            frames, columns = _episode(number, length)
            spans = [(0, "reach the square"), (10, f"{TASKS[number % 2].split()[0]} it")]
            writer.add_episode({"corner": frames}, columns, TASKS[number % 2], spans)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to run the nano recipes in: `data` and the YAML files."""
    folder = tmp_path_factory.mktemp("nano")
    write_data(folder / "data")
    for path in NANO.glob("*.yaml"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def run_stage(workplace: Path) -> Callable[..., Path]:
    """Run one nano recipe in this process, `run_stage("lam", "runs/x", {"loop.steps": 3})`; returns the run folder."""

    def run(recipe: str, folder: str, overrides: dict[str, Any] | None = None) -> Path:
        with chdir(workplace):
            loaded = load_recipe(f"{recipe}.yaml", {"run": folder} | (overrides or {}))
            loaded.check(made=set())
            loaded.execute()
        return workplace / folder

    return run


@pytest.fixture(scope="session")
def single(workplace: Path, run_stage: Callable[..., Path]) -> dict[str, Path]:
    """The four recipes of the nano pipeline, never stopped, in this process: recipe -> run folder."""
    torch.set_num_threads(1)  # as the pipeline's steps have
    return {name: run_stage(name, f"runs/{folder}") for name, folder in STAGES.items()}


@pytest.fixture
def in_workplace(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in the workplace, where the recipes' paths are relative to."""
    monkeypatch.chdir(workplace)
    return workplace
