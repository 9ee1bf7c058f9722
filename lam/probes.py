"""Numbers about a cloud of latents: spread, effective rank, and what a linear map reads from it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_RIDGE_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


def relative_variance(latents: Float[Tensor, "n d"]) -> float:
    """Share of the latents' mean square that is variance over samples: 0 when every sample has the same latent."""
    x = latents.double()
    return float(x.var(dim=0, correction=0).sum() / x.square().mean(dim=0).sum().clamp(min=1e-12))


def effective_rank(latents: Float[Tensor, "n d"]) -> float:
    """exp(entropy) of the normalised eigenvalues of the covariance (Roy & Vetterli 2007), between 1 and d."""
    centred = latents.double() - latents.double().mean(dim=0)
    energy = torch.linalg.svdvals(centred).square()
    share = energy / energy.sum().clamp(min=1e-12)
    return float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum()))


def ridge_r2(x: Float[Tensor, "n d"], y: Float[Tensor, "n k"]) -> float:
    """R^2 of a linear probe from x to y on samples it was not fitted on, in [-inf, 1].

    Every fourth sample is held out for the score, every fourth of the rest chooses the ridge strength. Where there
    are fewer samples than values in x the score is a lower bound of what x holds. Dimensions of y that do not move
    are left out; R^2 is over their pooled variance, each scaled to one.
    """
    x, y = x.double(), y.double()
    y = y[:, y.std(dim=0) > 1e-6]
    if y.shape[1] == 0:
        raise ValueError("the probe's targets do not move at all: give windows with actions that differ")
    place = torch.arange(len(x))
    test, choose = place % 4 == 3, place % 16 == 0
    fit = ~test & ~choose
    x, y = _standardised(x, fit), _standardised(y, fit)
    scores = [_r2(x[choose], y[choose], weights) for weights in _ridges(x[fit], y[fit], _RIDGE_STRENGTHS)]
    best = _RIDGE_STRENGTHS[int(torch.tensor(scores).argmax())]
    return _r2(x[test], y[test], *_ridges(x[~test], y[~test], (best,)))


def _standardised(x: Tensor, rows: Tensor) -> Tensor:
    return (x - x[rows].mean(dim=0)) / x[rows].std(dim=0).clamp(min=1e-8)


def _ridges(x: Tensor, y: Tensor, strengths: Sequence[float]) -> list[Tensor]:
    """Weights [d, k] for each strength, as a share of the number of samples; one decomposition serves all."""
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    projected = u.T @ y
    return [vt.T @ ((s / (s.square() + strength * len(x)))[:, None] * projected) for strength in strengths]


def _r2(x: Tensor, y: Tensor, weights: Tensor) -> float:
    return float(1 - (x @ weights - y).square().sum() / (y - y.mean(dim=0)).square().sum().clamp(min=1e-12))
