"""Next-token prediction: the loss on text, and how often the likeliest token is the right one."""

from torch import Tensor
from torch.nn import functional as F


def next_token_loss(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Per sample, the mean cross-entropy over its label tokens: [B], in nats; 0 for a sample without any.

    Args:
        logits: float [B, M, vocab].
        labels: int64 [B, M].
        mask: bool [B, M], True where a label counts.
    """
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return (losses * mask).sum(1) / mask.sum(1).clamp(min=1)


def token_accuracy(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Share of label tokens (arguments as for `next_token_loss`) that score highest: scalar; 0 where there are none."""
    return ((logits.argmax(-1) == labels) & mask).sum() / mask.sum().clamp(min=1)
