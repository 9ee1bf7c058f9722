"""The least time hardware could take for a sampling: its products and the weights it must read, and no more."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vla.models.pi05.config import GemmaConfig, Pi05Config

PARTS = ("vision", "prefix", "steps")


@dataclass(frozen=True)
class Limits:
    """What a device can do: flops (multiply-add counts 2) and bytes read, a second; and where the numbers are from."""

    flops: float
    bytes: float
    source: str


@dataclass(frozen=True)
class Work:
    """Of one part of a sampling: floating-point operations, and bytes of weights (of the cache too, for the steps)."""

    flops: float
    bytes: float

    def seconds(self, limits: Limits) -> float:
        """Whichever takes longer, reading and computing at the same time."""
        return max(self.flops / limits.flops, self.bytes / limits.bytes)


# bfloat16 products and reading, as large ones reach them in practice; below what the data sheet promises.
_STATED = {"H200": Limits(790e12, 4.3e12, "stated for an H200 in bfloat16")}


def work(config: Pi05Config, cameras: int, text_tokens: int, batch: int, bytes_a_weight: int) -> dict[str, Work]:
    """What each part must do for `batch` rows of so many cameras and tokens that are there, by `PARTS`.

    The last layer of the prefix counts for its keys and values only, as nothing reads more of it.
    """
    vision, vlm, expert = config.vision, config.vlm, config.expert
    tokens, horizon = vision.num_tokens, config.horizon
    tower = vision.depth * (4 * vision.width**2 + 2 * vision.width * vision.mlp_dim)
    ends = 3 * vision.patch_size**2 * vision.width + vision.width * vlm.width
    seen = 2.0 * (tower + ends) + 4.0 * tokens * vision.width * vision.depth
    queries = config.latent.num_tokens if config.latent and config.keep_latent_tokens else 0
    prefix = cameras * tokens + text_tokens + queries
    read = (vlm.depth - 1) * _products(vlm) + _keys_and_values(vlm)
    looked = (vlm.depth - 1) * 4.0 * prefix * vlm.num_heads * vlm.head_dim
    stepped = expert.depth * _products(expert)
    denoised = 2.0 * stepped + expert.depth * 4.0 * (prefix + horizon) * expert.num_heads * expert.head_dim
    cache = expert.depth * 2 * batch * prefix * vlm.num_kv_heads * vlm.head_dim
    return {
        "vision": Work(batch * cameras * tokens * seen, bytes_a_weight * (tower + ends)),
        "prefix": Work(batch * prefix * (2.0 * read + looked), bytes_a_weight * read),
        "steps": Work(
            config.num_steps * batch * horizon * denoised, config.num_steps * bytes_a_weight * (stepped + cache)
        ),
    }


def _products(gemma: GemmaConfig) -> int:
    attention = 2 * gemma.width * gemma.num_heads * gemma.head_dim
    return attention + _keys_and_values(gemma) + 3 * gemma.width * gemma.mlp_dim


def _keys_and_values(gemma: GemmaConfig) -> int:
    return 2 * gemma.width * gemma.num_kv_heads * gemma.head_dim


def device_limits(device: torch.device, dtype: torch.dtype) -> Limits:
    """Those stated for the device if it is a known one, else measured."""
    if device.type == "cuda" and dtype == torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        for known, limits in _STATED.items():
            if known in name:
                return limits
    return measured_limits(device, dtype, 8192 if device.type == "cuda" else 1024)


def measured_limits(device: torch.device, dtype: torch.dtype, size: int) -> Limits:
    """The best of several products of two square matrices, and of several sums over a large tensor."""
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    large = torch.zeros(64 * size * size // (8 if device.type == "cuda" else 1), device=device)
    product = _best(lambda: one @ other, device)
    reading = _best(large.sum, device)
    return Limits(2.0 * size**3 / product, large.nbytes / reading, f"measured, {size} x {size} products")


def _best(function: Callable[[], Tensor], device: torch.device, repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
