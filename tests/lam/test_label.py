"""Caching features and writing latents, on a small data set written for the purpose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data_mixtures.batch import Batch
from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.lerobot.writer import LeRobotWriter
from data_mixtures.mixture import Mixture
from lam.features import cache_features
from lam.label import label
from lam.latbot.config import nano
from lam.latbot.teacher import LatBotTeacher, LatBotTower
from lam.pca import PcaTeacher


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of a drifting 32 px picture."""
    root = tmp_path_factory.mktemp("data") / "drift"
    rng = np.random.default_rng(0)
    with LeRobotWriter(
        root, 10, "metaworld_sawyer", {"corner": (32, 32)}, {"observation.state": 4, "action": 4}
    ) as writer:
        for length in (9, 11, 10):
            picture = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
            frames = np.stack([np.roll(picture, 2 * step, axis=1) for step in range(length)])
            names = ("observation.state", "action")
            numbers = {name: rng.uniform(-1, 1, (length, 4)).astype(np.float32) for name in names}
            writer.add_episode({"corner": frames}, numbers, "drift along", [], {})
    return root


def mixture_config(root: Path, **changes) -> MixtureConfig:
    window = WindowConfig(nano().num_frames, nano().horizon)
    return MixtureConfig([DatasetConfig(str(root))], ["corner"], window, 32, **changes)


def latents_of(root: Path) -> Tensor:
    """The latent columns of all 30 windows."""
    latents = Mixture(mixture_config(root, latents="latent"), 0).batch_at(range(30)).latents
    assert latents is not None
    return latents


@pytest.fixture
def teacher(make_stage, make_model) -> LatBotTeacher:
    stage = make_stage()
    return LatBotTeacher(stage, make_model(stage))


def test_cached_features_are_what_the_model_computes(root, teacher, tmp_path):
    tower = LatBotTower(teacher.stage)
    config = mixture_config(root, vision_features=str(tmp_path / "features"))
    with pytest.raises(ValueError, match="vision_features"):
        Mixture(config, 0)
    seen = []
    assert cache_features(config, tower, batch_size=7, on_progress=lambda *at: seen.append(at)) == 30
    assert seen[-1] == (30, 30)
    assert cache_features(config, tower) == 0  # nothing is computed twice
    batch = Mixture(config, 0).batch_at(range(30))
    bare = Mixture(mixture_config(root), 0).batch_at(range(30))
    assert batch.vision_features is not None
    assert torch.equal(batch.vision_features, teacher.model.encoder.vision_features(bare.images))
    torch.testing.assert_close(teacher.encode(batch), teacher.encode(bare))


def test_another_tower_replaces_the_features(root, make_stage, tmp_path):
    config = mixture_config(root, vision_features=str(tmp_path / "features"))
    one = make_stage()
    other = make_stage(replace(nano(), vision=replace(nano().vision, seed=1)))
    assert LatBotTower(one).fingerprint == LatBotTower(make_stage(seed=3)).fingerprint
    assert cache_features(config, LatBotTower(one)) == 30
    assert cache_features(config, LatBotTower(other)) == 30


def test_label_writes_what_the_teacher_says(root, teacher, tmp_path):
    target = label(teacher, root, tmp_path / "labelled", cameras=["corner"], image_size=32, batch_size=8)
    latents = latents_of(target)
    expected = teacher.encode(Mixture(mixture_config(root), 0).batch_at(range(30)))
    assert latents.shape == (30, 8, 16)
    torch.testing.assert_close(latents, expected.half().float(), rtol=1e-2, atol=1e-2)
    assert label(teacher, root, target, cameras=["corner"], image_size=32) == target  # done: nothing to do
    with pytest.raises(ValueError, match="of this teacher"):
        label(teacher, root, target, cameras=["corner"], image_size=32, name="other")


class Killed(Exception):
    pass


class Dying(LatBotTeacher):
    """A teacher that is killed at its n-th batch."""

    def __init__(self, teacher: LatBotTeacher, batches: int) -> None:
        super().__init__(teacher.stage, teacher.model)
        self.left = batches

    def encode(self, batch: Batch) -> Tensor:
        if self.left == 0:
            raise Killed
        self.left -= 1
        return super().encode(batch)


def test_killed_labelling_goes_on_and_ends_the_same(root, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("lam.label._SAVE_EVERY", 2)
    options = {"cameras": ["corner"], "image_size": 32, "batch_size": 4}
    with pytest.raises(Killed):
        label(Dying(teacher, 5), root, tmp_path / "killed", **options)
    assert not (tmp_path / "killed").exists()
    rest = Dying(teacher, 100)
    label(rest, root, tmp_path / "killed", **options)
    assert 100 - rest.left == 4  # 30 windows are 8 batches, of which 4 were noted
    label(teacher, root, tmp_path / "whole", **options)
    assert torch.equal(latents_of(tmp_path / "killed"), latents_of(tmp_path / "whole"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed", "whole"]


def test_pca_teacher_labels_through_the_same_writer(root, tmp_path):
    mixture = Mixture(mixture_config(root), 0)
    teacher = PcaTeacher.fit(mixture, num_latents=8, scene_tokens=4, latent_dim=16, num_windows=30)
    target = label(teacher, root, tmp_path / "pca", cameras=["corner"], image_size=32)
    latents = latents_of(target)
    assert latents.shape == (30, 8, 16)
    teacher.save(tmp_path / "teacher")
    again = PcaTeacher.load(tmp_path / "teacher")
    assert again.fingerprint == teacher.fingerprint
    torch.testing.assert_close(again.encode(mixture.batch_at(range(30))), latents, rtol=1e-2, atol=2e-2)
    # Unit variance over all, and a window that stands still is the same point for every picture.
    assert latents.square().mean().sqrt() == pytest.approx(1.0, rel=0.2)
    still = mixture.batch_at([8, 19])  # last frames of two episodes: the window cannot move
    ends = teacher.encode(still)
    torch.testing.assert_close(ends[0], ends[1])


def test_pca_explains_the_change(root):
    """The tokens are a rotation of the leading components: distances between latents are those between changes."""
    mixture = Mixture(mixture_config(root), 0)
    teacher = PcaTeacher.fit(mixture, num_latents=8, scene_tokens=4, latent_dim=16, num_windows=30)
    batch = mixture.batch_at(range(30))
    change = (batch.images[:, -1, 0].float() - batch.images[:, 0, 0].float()).flatten(1)
    latents = teacher.encode(batch).flatten(1)
    one, other = torch.cdist(change, change).flatten(), torch.cdist(latents, latents).flatten()
    assert torch.corrcoef(torch.stack([one, other]))[0, 1] > 0.999
