"""Discrete latent actions: vector and finite scalar quantisation, and a code beside continuous numbers.

Every quantiser is called with latents [B, N, z] and the batch's sample ids [B], and gives

    quantised  [B, N, z]          what the forward model and the policy see; its gradient is the latents' own
    codes      int64 [B, N, G]    G codes a latent, codebook by codebook; code g is below `code_sizes[g]`
    loss       [B]                what the quantiser itself asks of each sample's latents

Our own rather than vector-quantize-pytorch (its numbers are a test): that one draws weights and replacements from the
global generator, which neither parallel ranks nor a resumed run could repeat, and brings four packages for 100 lines.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lam.clam.config import QuantiserConfig
from vla.nn.randomness import uniform_like_ids

_REPLACEMENTS = 301
_SMOOTHING = 1e-5

Quantised = tuple[Tensor, Tensor, Tensor]


class VectorQuantiser(nn.Module):
    """Codes learned by moving averages (VQ-VAE, van den Oord 2017, appendix A.1; LAPO, section 4.1).

    While the latents are trained, each forward pass moves every code towards the mean of those that chose it, after it
    was used; so with `loop.accumulate` above 1 codes move once a micro-batch. Code k is `totals[k] / counts[k]`.

    Args:
        latent_dim: z, a multiple of the number of codes.
        config: `num_codebooks` x `codes_per_codebook` codes make up a latent.

    Attributes:
        counts: [K, num_codes], moving average of how often each code of K codebooks is chosen in a batch.
        totals: [K, num_codes, D], moving average of the sum of the latents that chose it.
    """

    counts: Tensor
    totals: Tensor

    def __init__(self, latent_dim: int, config: QuantiserConfig) -> None:
        super().__init__()
        num_parts = config.num_codebooks * config.codes_per_codebook
        _require_parts(latent_dim, num_parts, "num_codebooks x codes_per_codebook")
        self.config = config
        self.code_sizes = (config.num_codes,) * num_parts
        shape = (config.num_codebooks, config.num_codes)
        self.register_buffer("counts", torch.empty(shape))
        self.register_buffer("totals", torch.empty(*shape, latent_dim // num_parts))

    def initial_value(self, name: str, generator: torch.Generator) -> Tensor:
        """Of an average: codes uniform in +-5 / num_codes, as LAPO has them, and each weighs as one latent of a batch.

        So the first batches move them at once. LAPO's code counts from zero instead, and its first update throws every
        code about 1 / (1 - decay) times as far out.
        """
        weight = 1 - self.config.decay
        if name == "counts":
            return torch.full(self.counts.shape, weight)
        bound = 5 / self.config.num_codes
        return torch.empty(self.totals.shape).uniform_(-bound, bound, generator=generator) * weight

    def codebook(self) -> Tensor:
        """The codes, [K, num_codes, D]; Laplace smoothing keeps one that nothing chooses finite."""
        total = self.counts.sum(-1, keepdim=True)
        share = (self.counts + _SMOOTHING) / (total + self.config.num_codes * _SMOOTHING)
        return self.totals / (share * total)[..., None]

    def forward(self, latents: Tensor, sample_ids: Tensor) -> Quantised:
        """See the top of this file; the loss is the commitment's, weighted."""
        parts = self._parts(latents.float())
        chosen, codes = _nearest(parts, self.codebook())
        if self.training and latents.requires_grad:  # frozen latents, as a decoder is trained on, keep their codes
            self._follow(parts.detach(), sample_ids)
        quantised = self._whole(chosen, latents)
        loss = self.config.commitment * (latents - quantised).square().mean(dim=(1, 2))
        codes = codes.unflatten(1, (*latents.shape[:2], -1)).permute(1, 2, 0, 3).flatten(2)
        return quantised + (latents - latents.detach()), codes, loss  # straight through, and the very code

    def _parts(self, latents: Tensor) -> Tensor:
        """[B, N, z] as [K, B x N x codes_per_codebook, D]."""
        count = self.config.num_codebooks
        return latents.unflatten(-1, (count, self.config.codes_per_codebook, -1)).movedim(2, 0).flatten(1, 3)

    def _whole(self, parts: Tensor, like: Tensor) -> Tensor:
        """The reverse of `_parts`."""
        split = parts.unflatten(1, (*like.shape[:2], self.config.codes_per_codebook))
        return split.movedim(0, 2).flatten(2).to(like.dtype)

    @torch.no_grad()
    def _follow(self, parts: Tensor, sample_ids: Tensor) -> None:
        parts, sample_ids = _of_all_ranks(parts, sample_ids)
        if not bool(parts.isfinite().all()):  # the loop skips such a step; the averages would never be finite again
            return
        # A product with one-hot rows, not index_add: that one adds in any order on a GPU.
        _, codes = _nearest(parts, self.codebook())
        choices = nn.functional.one_hot(codes, self.config.num_codes).to(parts.dtype)
        self.counts.lerp_(choices.sum(1), 1 - self.config.decay)
        self.totals.lerp_(choices.transpose(1, 2) @ parts, 1 - self.config.decay)
        self._replace_dead(parts, sample_ids)

    def _replace_dead(self, parts: Tensor, sample_ids: Tensor) -> None:
        """Put codes that are hardly chosen onto latents of this batch, which ones being a function of its ids."""
        floor = self.config.dead_below * self.counts.mean(-1, keepdim=True)
        dead = self.counts < floor
        if not bool(dead.any()):
            return
        rows = parts.shape[1] // len(sample_ids)
        order = uniform_like_ids(sample_ids, (rows,), seed=0, stream=_REPLACEMENTS).flatten().argsort(stable=True)
        turn = (dead.long().cumsum(-1) - 1).clamp(min=0) % len(order)
        fresh = torch.stack([part[order[places]] for part, places in zip(parts, turn, strict=True)])
        self.counts.copy_(torch.where(dead, floor, self.counts))
        self.totals.copy_(torch.where(dead[..., None], fresh * floor[..., None], self.totals))


class FiniteScalarQuantiser(nn.Module):
    """Each number of a latent rounded to one of a few levels in [-1, 1] (FSQ, Mentzer 2023); nothing is learned here.

    Args:
        latent_dim: z, a multiple of `len(levels)`.
        levels: Of the numbers, repeated over the latent: every `len(levels)` of them are one code.
    """

    def __init__(self, latent_dim: int, levels: tuple[int, ...]) -> None:
        super().__init__()
        if latent_dim % len(levels):
            fix = f"give a multiple of the {len(levels)} lam.quantiser.levels"
            raise ValueError(f"lam.latent_dim is {latent_dim}: {fix}")
        self.levels = levels
        self.code_sizes = (math.prod(levels),) * (latent_dim // len(levels))

    def forward(self, latents: Tensor, sample_ids: Tensor) -> Quantised:
        """See the top of this file; the loss is zero."""
        levels = torch.tensor(self.levels, device=latents.device)
        bounded = self._bounded(latents.float().unflatten(-1, (-1, len(self.levels))), levels)
        steps = bounded.round().detach() + (bounded - bounded.detach())
        half = levels // 2
        places = torch.tensor([math.prod(self.levels[:i]) for i in range(len(self.levels))], device=latents.device)
        codes = ((steps.detach().long() + half) * places).sum(-1)
        return (steps / half).flatten(-2).to(latents.dtype), codes, latents.new_zeros(len(latents))

    @staticmethod
    def _bounded(latents: Tensor, levels: Tensor) -> Tensor:
        """Within half a step of the outer levels; an even number of levels reaches one step further down than up."""
        reach = (levels - 1) * 1.001 / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        return (latents + (offset / reach).atanh()).tanh() * reach - offset


class HybridQuantiser(nn.Module):
    """A latent's first numbers quantised by codes, its last `rest_dim` left continuous (an open question of section 8).

    Args:
        latent_dim: z, more than `rest_dim`.
        config: Of the codes and the rest.
    """

    def __init__(self, latent_dim: int, config: QuantiserConfig) -> None:
        super().__init__()
        if config.rest_dim >= latent_dim:
            raise ValueError(f"lam.quantiser.rest_dim is {config.rest_dim}: give less than lam.latent_dim={latent_dim}")
        self.rest_dim = config.rest_dim
        self.quantiser = VectorQuantiser(latent_dim - config.rest_dim, config)
        self.code_sizes = self.quantiser.code_sizes

    def forward(self, latents: Tensor, sample_ids: Tensor) -> Quantised:
        """See the top of this file; the loss is the code's."""
        code, rest = latents[..., : -self.rest_dim], latents[..., -self.rest_dim :]
        quantised, codes, loss = self.quantiser(code, sample_ids)
        return torch.cat([quantised, rest], dim=-1), codes, loss


def quantiser(latent_dim: int, config: QuantiserConfig) -> VectorQuantiser | FiniteScalarQuantiser | HybridQuantiser:
    """The quantiser a recipe asks for, of latents of `latent_dim` numbers.

    Raises:
        ValueError: The latent cannot be cut into codes that way.
    """
    if config.kind == "vq":
        return VectorQuantiser(latent_dim, config)
    if config.kind == "fsq":
        return FiniteScalarQuantiser(latent_dim, config.levels)
    return HybridQuantiser(latent_dim, config)


def _require_parts(latent_dim: int, num_parts: int, names: str) -> None:
    if latent_dim % num_parts:
        raise ValueError(f"lam.latent_dim={latent_dim} is quantised: give a multiple of {names}, {num_parts}")


def _nearest(parts: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest codes [K, R, D] and their numbers [K, R] for parts [K, R, D], the first of equals."""
    codes = torch.cdist(parts.detach(), codebook, compute_mode="donot_use_mm_for_euclid_dist").argmin(-1)
    return codebook.gather(1, codes[..., None].expand(*codes.shape, codebook.shape[-1])), codes


def _of_all_ranks(parts: Tensor, sample_ids: Tensor) -> tuple[Tensor, Tensor]:
    """All ranks' parts and ids, by id, so that every rank's averages see one batch in one order."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return parts, sample_ids
    by_sample = parts.unflatten(1, (len(sample_ids), -1)).movedim(1, 0).contiguous()
    everyone = [torch.empty_like(by_sample) for _ in range(dist.get_world_size())]
    ids = [torch.empty_like(sample_ids) for _ in everyone]
    dist.all_gather(everyone, by_sample)
    dist.all_gather(ids, sample_ids.contiguous())
    order = torch.cat(ids).argsort()
    return torch.cat(everyone)[order].movedim(0, 1).flatten(1, 2), torch.cat(ids)[order]
