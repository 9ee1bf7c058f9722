"""Drawing the student's latents to the teacher's: squared error plus a divergence of their distributions.

LatBot, stage 2: `L_a = |Z^ - Z|^2 + KL(p(Z^) || p(Z))`, Z^ the student's. The paper leaves p open; both readings below
are per token, so neither the batch nor the ranks it is split over enter.
"""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Divergence = Literal["softmax", "gaussian"]
_SMALLEST_VARIANCE = 1e-6


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Per sample, the mean squared difference of latents [B, L, D]: [B]."""
    return (student - teacher).square().mean((1, 2))


def divergence(student: Tensor, teacher: Tensor, kind: Divergence) -> Tensor:
    """Per sample, KL(student || teacher) of latents [B, L, D], a mean over tokens: [B], in nats.

    `softmax`: each token's features as logits of a distribution over the feature axis, temperature 1.
    `gaussian`: each token's features as draws of a normal distribution, compared by their mean and variance.
    """
    per_token = _softmax_kl(student, teacher) if kind == "softmax" else _gaussian_kl(student, teacher)
    return per_token.mean(1)


def _softmax_kl(student: Tensor, teacher: Tensor) -> Tensor:
    log_student, log_teacher = F.log_softmax(student, dim=-1), F.log_softmax(teacher, dim=-1)
    return (log_student.exp() * (log_student - log_teacher)).sum(-1)


def _gaussian_kl(student: Tensor, teacher: Tensor) -> Tensor:
    mean_s, mean_t = student.mean(-1), teacher.mean(-1)
    var_s, var_t = (x.var(-1, correction=0).clamp(min=_SMALLEST_VARIANCE) for x in (student, teacher))
    return 0.5 * ((var_t / var_s).log() + (var_s + (mean_s - mean_t).square()) / var_t - 1)


def explained_variance(student: Tensor, teacher: Tensor) -> Tensor:
    """Share of the teacher's variance over the samples that the student explains: scalar, 1 is perfect, 0 the mean."""
    residual = (student - teacher).square().sum()
    spread = (teacher - teacher.mean(0)).square().sum()
    return 1 - residual / spread.clamp(min=1e-12)
