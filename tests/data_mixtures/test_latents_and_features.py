"""Latents as columns of a new data set, and cached vision features."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.lerobot import latent_columns
from data_mixtures.lerobot.latent_columns import write_latent_columns
from data_mixtures.lerobot.table import LeRobotDataset
from data_mixtures.mixture import Mixture
from data_mixtures.readers.lerobot import LeRobotReader
from data_mixtures.storage.feature_store import FeatureStore

TOKENS, DIM = 6, 5


def latents_of(root: Path, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(LeRobotDataset(root).num_frames, TOKENS, DIM)).astype(dtype)


def files_of(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def config_of(root: Path, **fields: Any) -> MixtureConfig:
    return MixtureConfig([DatasetConfig(str(root))], ["corner"], WindowConfig(2, 16), 32, **fields)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_latents_come_back_with_their_frames(door_root: Path, tmp_path: Path, dtype: type) -> None:
    latents, before = latents_of(door_root, dtype), files_of(door_root)
    labelled = write_latent_columns(door_root, tmp_path / "labelled", "latent", latents, scene_tokens=4)
    mixture = Mixture(config_of(labelled, latents="latent"), seed=0)
    batch = mixture.batch_at([0, 50, 100])
    assert batch.latents is not None
    assert torch.equal(batch.latents, torch.from_numpy(latents[[0, 50, 100]].astype(np.float32)))
    assert torch.equal(batch.images, Mixture(config_of(door_root), seed=0).batch_at([0, 50, 100]).images)
    assert files_of(door_root) == before, "the original is only read"


def test_the_labelled_copy_is_a_lerobot_data_set_with_two_more_features(door_root: Path, tmp_path: Path) -> None:
    labelled = write_latent_columns(door_root, tmp_path / "labelled", "z", latents_of(door_root), scene_tokens=4)
    info = json.loads((labelled / "meta/info.json").read_text())
    assert info["features"]["z.scene"] == {"dtype": "float32", "shape": [4, DIM], "names": ["tokens", "dim"]}
    assert info["features"]["z.motion"]["shape"] == [2, DIM]
    assert len(json.loads((labelled / "meta/stats.json").read_text())["z.motion"]["mean"]) == 2 * DIM
    original, copy = LeRobotDataset(door_root), LeRobotDataset(labelled)
    assert LeRobotReader(labelled).episode(0).subtasks == LeRobotReader(door_root).episode(0).subtasks != []
    np.testing.assert_array_equal(copy.column("action"), original.column("action"))
    video = "videos/observation.images.corner/chunk-000/file-000.mp4"
    assert (labelled / video).samefile(door_root / video), "linked, not copied"
    assert not (labelled / ".cache" / original.fingerprint).exists()


def test_videos_are_copied_where_links_fail(door_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(latent_columns.os, "link", refuse)
    labelled = write_latent_columns(door_root, tmp_path / "labelled", "z", latents_of(door_root), scene_tokens=4)
    copy, original = files_of(labelled), files_of(door_root)
    assert {name: copy[name] for name in copy if "videos" in name} == {
        n: original[n] for n in original if "videos" in n
    }


def test_a_failed_labelling_leaves_no_data_set(
    door_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    target = tmp_path / "labelled"
    with monkeypatch.context() as patch:
        patch.setattr(latent_columns, "_write_metadata", fail)
        with pytest.raises(OSError, match="disk full"):
            write_latent_columns(door_root, target, "z", latents_of(door_root), scene_tokens=4)
    assert not target.exists()
    write_latent_columns(door_root, target, "z", latents_of(door_root), scene_tokens=4)
    assert [path.name for path in tmp_path.iterdir()] == ["labelled"]


def test_impossible_latents_are_refused_by_name(door_root: Path, tmp_path: Path) -> None:
    latents, target = latents_of(door_root), tmp_path / "labelled"
    with pytest.raises(ValueError, match=r"latents is float32 \(10, 6, 5\): expected .* \[188, tokens, dim\]"):
        write_latent_columns(door_root, target, "z", latents[:10], scene_tokens=4)
    with pytest.raises(ValueError, match=r"scene_tokens is 6: expected 1\.\.5"):
        write_latent_columns(door_root, target, "z", latents, scene_tokens=6)
    write_latent_columns(door_root, target, "z", latents, scene_tokens=4)
    with pytest.raises(ValueError, match="exists already"):
        write_latent_columns(door_root, target, "z", latents, scene_tokens=4)
    with pytest.raises(ValueError, match="name 'z' is taken"):
        write_latent_columns(target, tmp_path / "again", "z", latents, scene_tokens=4)


def test_features_are_gathered_at_the_frames_of_the_window(door_root: Path, tmp_path: Path) -> None:
    source = Mixture(config_of(door_root), seed=0).sources[0]
    dataset, store = LeRobotDataset(door_root), FeatureStore(tmp_path, source.dataset.fingerprint)
    assert store.tower is None
    with store.create("tower-1", ["corner"], dataset.num_frames, tokens=3, width=2) as features:
        features[:] = np.arange(dataset.num_frames)[:, None, None, None]
    assert store.tower == "tower-1"
    batch = Mixture(config_of(door_root, vision_features=str(tmp_path)), seed=0).batch_at([0, 18, 25])
    assert batch.vision_features is not None
    assert batch.vision_features.dtype == torch.float16
    assert batch.vision_features.shape == (3, 2, 1, 3, 2)
    # windows of 16 from rows 0, 18 and 25; the first episode ends at row 19
    assert batch.vision_features[:, :, 0, 0, 0].tolist() == [[0, 16], [18, 19], [25, 40]]


def test_features_appear_whole_and_for_the_right_frames_only(door_root: Path, tmp_path: Path) -> None:
    source = Mixture(config_of(door_root), seed=0).sources[0]
    dataset, store = LeRobotDataset(door_root), FeatureStore(tmp_path, source.dataset.fingerprint)
    with (
        pytest.raises(RuntimeError, match="killed"),
        store.create("tower-1", ["corner"], dataset.num_frames, tokens=3, width=2),
    ):
        raise RuntimeError("killed")
    with pytest.raises(ValueError, match="does not exist: compute"):
        store.open(dataset.num_frames, ["corner"])
    with store.create("tower-1", ["wrist"], dataset.num_frames, tokens=3, width=2):
        pass
    with pytest.raises(ValueError, match=r"188 frames of cameras \['wrist'\], the mixture has 188 of \['corner'\]"):
        Mixture(config_of(door_root, vision_features=str(tmp_path)), seed=0)


def test_decoded_frames_are_shared_with_the_labelled_copy(
    door_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Mixture(config_of(door_root), seed=0).batch_at([3]).images
    labelled = write_latent_columns(door_root, tmp_path / "labelled", "latent", latents_of(door_root), scene_tokens=4)
    monkeypatch.setattr("data_mixtures.readers.lerobot.LeRobotReader.frames", None)  # decoding again would fail here
    assert torch.equal(Mixture(config_of(labelled), seed=0).batch_at([3]).images, original)
