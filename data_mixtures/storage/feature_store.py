"""Cached outputs of a frozen vision tower: it runs once per frame, and training gathers what it said.

`<folder>/<data set's fingerprint>/` holds features.npy, float16 [num_frames, cameras, tokens, width], and meta.json
naming the tower it came from. Both appear at once, by renaming the folder.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data_mixtures.storage.array_store import open_array


class FeatureStore:
    """The features of one data set under one tower.

    Args:
        folder: what `MixtureConfig.vision_features` names; one folder serves all data sets of a mixture.
        dataset_fingerprint: `Dataset.fingerprint`.
    """

    def __init__(self, folder: Path | str, dataset_fingerprint: str) -> None:
        self.path = Path(folder) / dataset_fingerprint

    @property
    def tower(self) -> str | None:
        """The fingerprint of the tower the features came from; None while there are no features."""
        return self._meta()["tower"] if self.path.exists() else None

    @contextmanager
    def create(
        self, tower: str, cameras: Sequence[str], num_frames: int, tokens: int, width: int
    ) -> Iterator[np.ndarray]:
        """Yield the float16 array [num_frames, cameras, tokens, width] to fill; kept only if the block succeeds.

        Args:
            tower: a string that changes whenever the tower or its preprocessing does.
            cameras: camera names in the order of the second axis: the mixture's own list, missing ones included.
            num_frames: `Index.num_rows`.
            tokens: vision tokens a frame.
            width: values a token.
        """
        aside = self.path.with_name(f".{self.path.name}.partial")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        shape = (num_frames, len(cameras), tokens, width)
        array = np.lib.format.open_memmap(aside / "features.npy", mode="w+", dtype=np.float16, shape=shape)
        yield array
        array.flush()
        (aside / "meta.json").write_text(json.dumps({"tower": tower, "cameras": list(cameras), "shape": shape}))
        shutil.rmtree(self.path, ignore_errors=True)  # features of an earlier tower
        os.replace(aside, self.path)

    def open(self, num_frames: int, cameras: Sequence[str]) -> np.ndarray:
        """The features as a read-only memory map, after checking that they are of these frames and cameras."""
        if not self.path.exists():
            raise ValueError(f"vision_features: {self.path} does not exist: compute this data set's features first")
        meta = self._meta()
        if meta["cameras"] != list(cameras) or meta["shape"][0] != num_frames:
            raise ValueError(
                f"vision_features: {self.path} holds {meta['shape'][0]} frames of cameras {meta['cameras']}, the "
                f"mixture has {num_frames} of {list(cameras)}: delete the folder and compute the features again"
            )
        return open_array(self.path / "features.npy")

    def _meta(self) -> dict[str, Any]:
        return json.loads((self.path / "meta.json").read_text())
