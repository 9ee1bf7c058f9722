"""CUDA graphs of a whole sampling: one a shape, recorded when the shape first comes, few kept."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vla.models.pi05.packing import PackedPrefix

Sample = Callable[[PackedPrefix, Tensor], Tensor]
Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Recording:
    """A sampling at one shape: what `replay` reads (`prefix` and `noise`), and what it leaves in `actions`."""

    prefix: PackedPrefix
    noise: Tensor
    actions: Tensor
    replay: Callable[[], None]

    def run(self, prefix: PackedPrefix, noise: Tensor) -> Tensor:
        """Actions [B, S, A] for new inputs of the recorded shape."""
        for ours, theirs in zip(_inputs(self.prefix, self.noise), _inputs(prefix, noise), strict=True):
            ours.copy_(theirs)
        self.replay()
        return self.actions.clone()  # the next replay, or another graph of the pool, writes over it


def capture(function: Callable[[], Any], device: torch.device, pool: object = None) -> tuple[torch.cuda.CUDAGraph, Any]:
    """A graph of one call, and what the call returned: its tensors hold new values after each replay."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(2):  # libraries set themselves up, and what is compiled compiles, outside the recording
            function()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):  # pyright: ignore[reportArgumentType]
        returned = function()
    return graph, returned


def record_cuda(sample: Sample, prefix: PackedPrefix, noise: Tensor, pool: object) -> Recording:
    """Record `sample` on copies of these inputs; `pool` is memory that graphs share, for only one runs at a time."""
    own_prefix, own_noise = own_copies(prefix, noise)
    graph, actions = capture(lambda: sample(own_prefix, own_noise), noise.device, pool)
    return Recording(own_prefix, own_noise, actions, graph.replay)


class GraphCache:
    """Samples by replaying the recording of the inputs' shape. Not for use by several threads at once.

    Args:
        sample: Of fixed-shape inputs (`packing.pad_to_bucket`); reads nothing else that changes.
        record: Makes a recording; it runs `sample` at once.
        most: Recordings kept; the one not used for longest goes first.
    """

    def __init__(self, sample: Sample, record: Callable[[Sample, PackedPrefix, Tensor], Recording], most: int) -> None:
        self.sample, self.record, self.most = sample, record, most
        self._recordings: OrderedDict[Shape, Recording] = OrderedDict()

    def __call__(self, prefix: PackedPrefix, noise: Tensor) -> Tensor:
        """Actions [B, S, A]."""
        shape = shape_of(prefix)
        recording = self._recordings.pop(shape, None)
        if recording is None:
            while len(self._recordings) >= self.most:
                self._recordings.popitem(last=False)
            recording = self.record(self.sample, prefix, noise)
        self._recordings[shape] = recording
        return recording.run(prefix, noise)

    @property
    def shapes(self) -> list[Shape]:
        """Of the recordings kept, the one used last at the end."""
        return list(self._recordings)


def shape_of(prefix: PackedPrefix) -> Shape:
    """(rows, cameras, tokens of text, pixels of a side): all that tells one recording from another."""
    rows, cameras = prefix.image_valid.shape
    return rows, cameras, prefix.tokens.shape[1], prefix.images.shape[-1]


def own_copies(prefix: PackedPrefix, noise: Tensor) -> tuple[PackedPrefix, Tensor]:
    """The tensors a recording reads, with the values of its first inputs."""
    images, tokens, image_valid, text_valid, noise = (part.clone() for part in _inputs(prefix, noise))
    return PackedPrefix(images, None, tokens, image_valid, text_valid, full=False), noise


def _inputs(prefix: PackedPrefix, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    assert prefix.place is None, "a recording takes an image a slot: pad_to_bucket"
    return prefix.images, prefix.tokens, prefix.image_valid, prefix.text_valid, noise
