"""A run whose data are in the wrong units says so, by data set and dimension, and trains on what it was given."""

from pathlib import Path

import numpy as np
import pytest

from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.lerobot.writer import LeRobotWriter
from recipes.checks import open_mixture
from recipes.loading import load_recipe


def _write(root: Path, unit: float) -> MixtureConfig:
    """Two episodes of a wandering hand, positions in metres times `unit`."""
    rng = np.random.default_rng(0)
    features = {"observation.state": 4, "action": 4}
    with LeRobotWriter(root, 10, "metaworld_sawyer", {"corner": (16, 16)}, features) as writer:
        for _ in range(2):
            action = rng.uniform(-1, 1, (40, 4)).astype(np.float32)
            state = np.zeros((40, 4), dtype=np.float32)
            state[1:, :3] = 0.03 * action[:-1, :3].cumsum(0)
            state[:, 2] += 0.3
            state[:, :3] *= unit
            frames = rng.integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)
            writer.add_episode({"corner": frames}, {"observation.state": state, "action": action}, "wander")
    return MixtureConfig([DatasetConfig(str(root))], ["corner"], WindowConfig(1, 8), 16)


def test_millimetres_are_suspected_once_a_dimension(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert open_mixture(_write(tmp_path / "mm", 1000), 0, tmp_path / "run").num_frames == 80
    said = capfd.readouterr().err
    assert said.count("suspected") >= 1
    assert f"{tmp_path}/mm: left arm position z (m)" in said


def test_stage_1_says_it_once(in_workplace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path / "mm", 1000)
    changes = {"run": str(tmp_path / "run"), "data.datasets.0.path": str(tmp_path / "mm"), "loop.steps": 1}
    recipe = load_recipe("lam.yaml", changes | {"heldout": None})
    recipe.check(made=set())
    recipe.execute()
    assert (tmp_path / "run" / "features").is_dir(), "the mixture was not opened a second time"
    assert capfd.readouterr().err.count(f"{tmp_path}/mm: left arm position z (m)") == 1


def test_metres_are_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_mixture(_write(tmp_path / "m", 1.0), 0, tmp_path / "run")
    assert "suspected" not in capfd.readouterr().err
    assert not (tmp_path / "run").exists(), "nothing was left out, so there is nothing to write"
