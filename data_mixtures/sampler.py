"""The stateless sampler: a sample is a function of (seed, sample id), so its whole state is the next id.

Any rank, worker or resumed run draws the same sample for an id; nothing is stored but the id to go on from.
"""

from collections.abc import Sequence

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_DATASET_STREAM, _FRAME_STREAM = 1, 2


def hash_ids(seed: int, stream: int, ids: np.ndarray) -> np.ndarray:
    """splitmix64 of (seed, stream, id): uint64 [n], independent across seeds and streams."""
    key = _mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64) * _GOLDEN + np.uint64(stream))
    return _mix(np.asarray(ids).astype(np.uint64) * _GOLDEN + key)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(seed: int, stream: int, ids: np.ndarray) -> np.ndarray:
    """Uniform draws in [0, 1), float64 [n]: the hash's top 53 bits."""
    return (hash_ids(seed, stream, ids) >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Sampler:
    """Draws (data set, window) with replacement: the data set by weight, then uniformly over its windows."""

    def __init__(self, weights: Sequence[float], num_windows: Sequence[int], seed: int) -> None:
        self.seed = seed
        self._num_windows = np.asarray(num_windows, dtype=np.int64)
        self._bounds = np.cumsum(np.asarray(weights, dtype=np.float64) / np.sum(weights))[:-1]

    def draw(self, sample_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sample ids int64 [n] -> data set int64 [n], and window int64 [n] in [0, num_windows[data set])."""
        dataset = np.searchsorted(self._bounds, uniform(self.seed, _DATASET_STREAM, sample_ids), side="right")
        window = uniform(self.seed, _FRAME_STREAM, sample_ids) * self._num_windows[dataset]
        return dataset, window.astype(np.int64)
