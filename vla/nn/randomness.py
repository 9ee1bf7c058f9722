"""Random draws that are functions of (seed, sample id) alone.

A draw keyed by the sample, not by the process or the position in a batch, is what makes 1 x 8 accumulated equal
8 x 1, two ranks equal one, and a resumed run equal to one never stopped.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_MASK = (1 << 63) - 1


def _key(seed: int, stream: int, sample_id: int) -> int:
    # splitmix64 over the three words; Python integers keep it exact on every platform.
    x = (seed * 0x9E3779B97F4A7C15 + stream * 0xBF58476D1CE4E5B9 + sample_id * 0x94D049BB133111EB) & ((1 << 64) - 1)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & ((1 << 64) - 1)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & ((1 << 64) - 1)
    return (x ^ (x >> 31)) & _MASK


def batch_seed(sample_ids: Tensor, seed: int, stream: int) -> int:
    """A seed for what is drawn once a batch: a function of (seed, stream, the first sample's id)."""
    return _key(seed, stream, int(sample_ids[0]))


@contextmanager
def drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """Inside the block torch's own draws on `device` (dropout's) follow from `seed`; after it they go on as before.

    Not `torch.manual_seed`: without CUDA that keeps a stack trace of every call, and a millisecond.
    """
    on_cuda = device.type == "cuda"
    generator = torch.cuda.default_generators[device.index or 0] if on_cuda else torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)


def normal_like_ids(sample_ids: Tensor, shape: Sequence[int], seed: int, stream: int) -> Tensor:
    """Standard normal draws [B, *shape], float32 on the ids' device; row i depends on (seed, stream, sample_ids[i])."""
    rows = [
        torch.randn(tuple(shape), generator=torch.Generator().manual_seed(_key(seed, stream, int(i))))
        for i in sample_ids.tolist()
    ]
    return torch.stack(rows).to(sample_ids.device)


def uniform_like_ids(sample_ids: Tensor, shape: Sequence[int], seed: int, stream: int) -> Tensor:
    """Uniform [0, 1) draws [B, *shape], float32 on the ids' device; row i depends on (seed, stream, sample_ids[i])."""
    rows = [
        torch.rand(tuple(shape), generator=torch.Generator().manual_seed(_key(seed, stream, int(i))))
        for i in sample_ids.tolist()
    ]
    return torch.stack(rows).to(sample_ids.device)


def keep_by_ids(sample_ids: Tensor, width: int, rate: float, stream: int) -> Tensor:
    """Dropout's mask, bool [B, width]: False in a share `rate`; element (b, i) depends on (stream, sample_ids[b], i).

    Hashed where the ids are: unlike `uniform_like_ids` no number is drawn on the CPU and moved, for this is asked for
    once a layer.
    """
    place = torch.arange(width, device=sample_ids.device)
    x = _mixed(_mixed(sample_ids + _key(0, stream, 0))[:, None] + place)
    return (x & 0xFFFFFF) >= round(rate * (1 << 24))


def _mixed(x: Tensor) -> Tensor:
    # Two rounds of multiply and fold (the finaliser of murmur3, on the lower 62 bits): int64 products wrap around.
    for factor in (0x2545F4914F6CDD1D, 0x1B03738712FAD5C9):
        x = (x ^ ((x >> 31) & 0x7FFFFFFF)) * factor
    return x ^ ((x >> 32) & 0x7FFFFFFF)
