"""Random numbers as functions of (seed, stream, id): the same on every rank, in every worker, in every run.

`uniform` is for numpy, `uniform_tensor` gives the same numbers on the device the ids are on.
"""

import numpy as np
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MASK = 0xFFFFFFFFFFFFFFFF
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # of splitmix64 (Steele, Lea and Flood, 2014)


def hash_ids(seed: int, stream: int, ids: np.ndarray) -> np.ndarray:
    """splitmix64 of (seed, stream, id): uint64 [n], independent across seeds and streams."""
    key = mix(np.array([seed & _MASK], dtype=np.uint64) * _GOLDEN + np.uint64(stream))
    return mix(np.asarray(ids).astype(np.uint64) * _GOLDEN + key)


def uniform(seed: int, stream: int, ids: np.ndarray) -> np.ndarray:
    """Uniform draws in [0, 1), float64 [n]: the hash's top 53 bits."""
    return (hash_ids(seed, stream, ids) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def uniform_tensor(seed: int, streams: Tensor, ids: Tensor) -> Tensor:
    """`uniform` for every pair: streams int64 [k] and ids int64 [n], on one device -> float64 [n, k] there."""
    keys = _mix_tensor(streams + _signed(seed * int(_GOLDEN)))
    hashes = _mix_tensor(ids[:, None] * _signed(int(_GOLDEN)) + keys)
    return _shifted(hashes, 11).double() * 2.0**-53


def mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's bijection of uint64 [n]: every bit of the result depends on every bit of x."""
    for shift, factor in _STEPS:
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def _mix_tensor(x: Tensor) -> Tensor:
    for shift, factor in _STEPS:
        x = (x ^ _shifted(x, shift)) * _signed(factor)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """A shift to the right that fills with zeros, as of an unsigned number: torch has int64 only."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    """The int64 with the same low 64 bits; its sums and products wrap to the same bits."""
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x
