"""Quantile normalisation: its inverse, its guards, what it never looks at."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.lerobot.table import LeRobotDataset
from data_mixtures.mixture import Mixture
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.statistics.normalisation import Normalisation, Quantiles


def mixture_of(root: Path, labelled_share: float = 1.0) -> Mixture:
    return Mixture(
        MixtureConfig([DatasetConfig(str(root), labelled_share=labelled_share)], ["corner"], WindowConfig(), 32), seed=0
    )


def test_quantiles_map_to_minus_one_and_one(door_root: Path) -> None:
    normalisation = mixture_of(door_root).normalisation()
    raw = LeRobotDataset(door_root).column("action").astype(np.float64) * 0.03
    low, high = np.quantile(raw, (0.01, 0.99), axis=0)
    np.testing.assert_allclose(normalisation.action.q01[:3], low[:3], atol=1e-6)
    action = torch.zeros(2, ACTION_DIM)
    action[0, :3], action[1, :3] = torch.from_numpy(low[:3]), torch.from_numpy(high[:3])
    action[:, 6] = torch.tensor([0.0, 0.7])
    normalised = normalisation.normalise_action(action)
    torch.testing.assert_close(normalised[:, 0], torch.tensor([-1.0, 1.0]), atol=1e-4, rtol=0)
    assert normalised[:, 6].tolist() == action[:, 6].tolist(), "grippers stay 0 to 1"


def test_unnormalise_is_the_inverse_also_outside_the_quantiles(door_root: Path) -> None:
    normalisation = mixture_of(door_root).normalisation()
    batch = mixture_of(door_root).batch(range(64))
    actions = batch.actions * 3  # far outside: nothing is clipped
    actions[..., 6] = batch.actions[..., 6]
    there = normalisation.normalise_action(actions)
    assert there.abs().max() > 2
    torch.testing.assert_close(normalisation.unnormalise_action(there), actions, atol=1e-6, rtol=1e-5)


def test_a_dimension_that_never_moves_maps_to_zero_and_back_to_its_constant() -> None:
    values = np.tile(np.array([0.25, 0.0], dtype=np.float32), (50, 1))
    values[:, 1] = np.linspace(0, 1, 50)
    quantiles = Quantiles.of(values, np.ones_like(values, dtype=bool))
    assert quantiles.q01[0] == quantiles.q99[0] == 0.25
    normalised = quantiles.normalise(torch.tensor([[0.25, 0.5], [9.0, 0.5]]), keep=())
    assert normalised[:, 0].tolist() == [0.0, 0.0]
    assert torch.isfinite(normalised).all()
    assert quantiles.unnormalise(normalised, keep=())[:, 0].tolist() == [0.25, 0.25]


def test_dimensions_no_robot_has_stay_zero(door_root: Path) -> None:
    mixture = mixture_of(door_root)
    batch, normalisation = mixture.batch(range(8)), mixture.normalisation()
    assert not normalisation.normalise_action(batch.actions)[~batch.action_mask & (batch.actions == 0)].any()
    masked = normalisation.normalise_state(batch.state, torch.zeros_like(batch.state_mask))
    assert not masked.any()
    assert normalisation.normalise_state(batch.state, batch.state_mask).any()


def test_only_labelled_episodes_count_and_no_video_is_read(door_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_mixtures.readers.lerobot.LeRobotReader.frames", None)
    mixture, dataset = mixture_of(door_root, labelled_share=0.25), LeRobotDataset(door_root)
    rows = np.concatenate([np.arange(*dataset.episodes.span(e)) for e in mixture.sources[0].labelled])
    assert len(mixture.sources[0].labelled) == 2
    expected = np.quantile(dataset.column("observation.state")[rows], 0.99, axis=0)
    np.testing.assert_allclose(np.array(mixture.normalisation().state.q99)[[0, 1, 2]], expected[:3], rtol=1e-6)
    unlabelled = mixture_of(door_root, labelled_share=0).normalisation()
    assert set(unlabelled.action.q01 + unlabelled.state.q99) == {0.0}


def test_it_travels_as_json(door_root: Path, tmp_path: Path) -> None:
    normalisation = mixture_of(door_root).normalisation()
    normalisation.save(tmp_path)
    assert Normalisation.load(tmp_path) == normalisation
    assert [path.name for path in tmp_path.iterdir()] == ["normalisation.json"]
    with pytest.raises(ValueError, match="normalisation.json does not exist"):
        Normalisation.load(tmp_path / "other")
    short = Normalisation(Quantiles((0.0,), (1.0,)), Quantiles((0.0,) * ACTION_DIM, (1.0,) * ACTION_DIM))
    short.save(tmp_path)
    with pytest.raises(ValueError, match=rf"state\.q01 has 1 dimensions, expected {STATE_DIM}"):
        Normalisation.load(tmp_path)
