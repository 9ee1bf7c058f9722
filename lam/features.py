"""Runs a frozen vision tower once over every frame of a mixture and stores what it said.

At the published size the tower is a quarter of a training step (teacher.md), and it never changes.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from data_mixtures.config import MixtureConfig
from data_mixtures.quarantine import Quarantine
from data_mixtures.source import Source
from data_mixtures.storage.feature_store import FeatureStore
from lam.teacher import VisionTower


def cache_features(
    config: MixtureConfig,
    tower: VisionTower,
    batch_size: int = 128,
    on_progress: Callable[[int, int], None] | None = None,
    quarantine: Quarantine | None = None,
) -> int:
    """Fill `config.vision_features` for every data set that has none from this tower yet.

    Args:
        config: The mixture; every frame of its data sets is cached, for all of its cameras.
        tower: The tower; features of another tower are replaced.
        batch_size: Images a call of the tower.
        on_progress: Called with (frames done, frames in all) of the data set at hand.
        quarantine: Where episodes are noted whose frames cannot be had; in place of those the tower sees black, and
            training draws no window that needs them.

    Returns:
        How many frames were computed; 0 when all of them were there.
    """
    if config.vision_features is None:
        raise ValueError("vision_features is not set: name the folder the features go to")
    bare = replace(config, vision_features=None, latents=None)
    computed, left_out = 0, quarantine or Quarantine()
    for dataset in config.datasets:
        source = Source(dataset, bare)
        store = FeatureStore(config.vision_features, source.dataset.fingerprint)
        if store.tower == tower.fingerprint:
            continue
        frames = source.index.num_rows
        with store.create(tower.fingerprint, config.cameras, frames, tower.num_tokens, tower.feature_width) as array:
            _fill(array, source, tower, batch_size, on_progress or (lambda done, total: None))
        for defect in source.bad_episodes.values():
            left_out.add(dataset.path, defect)
        computed += frames
    return computed


def _fill(
    array: np.ndarray, source: Source, tower: VisionTower, batch_size: int, on_progress: Callable[[int, int], None]
) -> None:
    frames, cameras = array.shape[:2]
    step = max(1, batch_size // cameras)
    for first in range(0, frames, step):
        rows = np.arange(first, min(first + step, frames))
        images, _ = source.images_or_black(rows)
        features = tower.features(torch.from_numpy(images).flatten(0, 1)).unflatten(0, (len(rows), cameras))
        array[rows] = features.numpy()
        on_progress(int(rows[-1]) + 1, frames)
