"""The stateless samplers: a sample is a function of (seed, sample id), so their whole state is the next id.

Any rank, worker or resumed run draws the same sample for an id; nothing is stored but the id to go on from.
`Sampler` draws with replacement by weight, `EpochSampler` every window once an epoch.
"""

from collections.abc import Sequence

import numpy as np

from data_mixtures.sampling.id_hash import uniform
from data_mixtures.sampling.permutation import LARGEST, Permutation

_DATASET_STREAM, _FRAME_STREAM = 1, 2
_EXACT = 1 << 53  # whole numbers up to here are exact in float64


class Sampler:
    """Draws (data set, window) with replacement: the data set by weight, then uniformly over its windows.

    A window of n is drawn with a probability within 2^-53 of 1 / n (1e-7 of it at 10^9 windows).
    """

    def __init__(self, weights: Sequence[float], num_windows: Sequence[int], seed: int) -> None:
        _check_counts(num_windows, _EXACT)
        self.seed = seed
        self._num_windows = np.asarray(num_windows, dtype=np.int64)
        self._bounds = np.cumsum(np.asarray(weights, dtype=np.float64) / np.sum(weights))[:-1]

    def draw(self, sample_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sample ids int64 [n] -> data set int64 [n], and window int64 [n] in [0, num_windows[data set])."""
        dataset = np.searchsorted(self._bounds, uniform(self.seed, _DATASET_STREAM, sample_ids), side="right")
        window = uniform(self.seed, _FRAME_STREAM, sample_ids) * self._num_windows[dataset]
        return dataset, window.astype(np.int64)


class EpochSampler:
    """Draws every window of every data set once an epoch, in an order of its own each epoch.

    Ids 0..epoch_size - 1 are the first epoch, the next epoch_size ids the second. The data sets' weights have no
    part in it: a data set's share is its share of the windows.

    Attributes:
        epoch_size: ids an epoch, which is the windows of all data sets.
    """

    def __init__(self, num_windows: Sequence[int], seed: int) -> None:
        _check_counts(num_windows, LARGEST)
        self.seed = seed
        self._first = np.cumsum([0, *num_windows], dtype=np.int64)
        self.epoch_size = int(self._first[-1])
        self._last = (0, Permutation(self.epoch_size, seed, key=0))

    def draw(self, sample_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sample ids int64 [n] -> data set int64 [n], and window int64 [n] in [0, num_windows[data set])."""
        epochs, places = np.divmod(np.asarray(sample_ids, dtype=np.int64), self.epoch_size)
        windows = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():  # a batch lies in one epoch, or at the border of two
            members = epochs == epoch
            windows[members] = self._order_of(epoch)(places[members])
        dataset = np.searchsorted(self._first, windows, side="right") - 1
        return dataset, windows - self._first[dataset]

    def _order_of(self, epoch: int) -> Permutation:
        known, order = self._last  # read and written whole: several threads may draw
        if epoch != known:
            order = Permutation(self.epoch_size, self.seed, key=epoch)
            self._last = (epoch, order)
        return order


def _check_counts(num_windows: Sequence[int], largest: int) -> None:
    if not num_windows or min(num_windows) < 1 or sum(map(int, num_windows)) > largest:
        raise ValueError(
            f"num_windows is {list(num_windows)}: every data set needs at least one window, and all together at most "
            f"2^{largest.bit_length() - 1}"
        )
