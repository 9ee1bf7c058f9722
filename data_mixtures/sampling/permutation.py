"""A random order of 0..n - 1 that is computed, not stored: a Feistel network over two digits.

x = left * radix + right, with left below rows and right below radix, about sqrt(n) each. A round adds a hash of one
digit to the other, modulo its size, which can be undone whatever the hash: so all rounds together are a bijection of
[0, rows * radix) (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). The few results in
[n, rows * radix) are sent through again until they fall below n (cycle walking), which keeps it a bijection.
"""

import math

import numpy as np

from data_mixtures.sampling.id_hash import hash_ids, mix

_ROUNDS = 6
_ROUND_STREAM = 16
LARGEST = 1 << 62


class Permutation:
    """A bijection of the integers 0..size - 1, keyed by (seed, key).

    Args:
        size: 1..2^62; all arithmetic is in whole numbers.
        seed: of the run.
        key: of this order among the seed's, the epoch for one.
    """

    def __init__(self, size: int, seed: int, key: int) -> None:
        if not 1 <= size <= LARGEST:
            raise ValueError(f"size is {size}: a permutation needs 1 to 2^62 elements")
        self.size = size
        self._rows = math.isqrt(size - 1) + 1
        self._radix = -(-size // self._rows)
        self._keys = hash_ids(seed, _ROUND_STREAM, key * _ROUNDS + np.arange(_ROUNDS))

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Places int64 [n] in 0..size - 1 -> the elements there, int64 [n]."""
        return self._walk(places, inverse=False)

    def inverse(self, elements: np.ndarray) -> np.ndarray:
        """Elements int64 [n] -> their places, int64 [n]."""
        return self._walk(elements, inverse=True)

    def _walk(self, x: np.ndarray, inverse: bool) -> np.ndarray:
        x = np.asarray(x, dtype=np.int64)
        if x.size and (x.min() < 0 or x.max() >= self.size):
            raise ValueError(f"{x.min()}..{x.max()} is asked of a permutation of 0..{self.size - 1}")
        found = self._rounds(x, inverse)
        outside = np.flatnonzero(found >= self.size)
        while len(outside):
            found[outside] = self._rounds(found[outside], inverse)
            outside = outside[found[outside] >= self.size]
        return found

    def _rounds(self, x: np.ndarray, inverse: bool) -> np.ndarray:
        digits = [*np.divmod(x, self._radix)]
        sizes = (self._rows, self._radix)
        for number in reversed(range(_ROUNDS)) if inverse else range(_ROUNDS):
            changed, size = number % 2, sizes[number % 2]
            # 31 bits of the hash: below 2^63 in all, so that everything is exact in int64
            added = (mix(digits[1 - changed].view(np.uint64) + self._keys[number]) >> np.uint64(33)).view(
                np.int64
            ) % size
            digits[changed] = (digits[changed] + (size - added if inverse else added)) % size
        return digits[0] * self._radix + digits[1]
