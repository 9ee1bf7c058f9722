"""The exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


def local(tensor: Tensor) -> Tensor:
    """The memory this rank holds of a possibly sharded tensor. Asked for anew each time: FSDP2 moves it once."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Ema:
    """Float32 averages of the trainable weights, sharded as they are: average = decay * average + (1 - decay) * weight.

    It starts at the starting weights and moves only with real updates, never on a skipped step.
    """

    @torch.no_grad()
    def __init__(self, weights: dict[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.averages = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, weights: dict[str, Tensor]) -> None:
        """Move towards the weights an update has just made."""
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            [local(average) for average in self.averages.values()],
            [local(weights[name].detach()) for name in self.averages],
            1 - self.decay,
        )

    @contextmanager
    def swapped(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """The weights hold the averages inside the block, and their own values again after it."""
        self._exchange(weights)
        try:
            yield
        finally:
            self._exchange(weights)

    @torch.no_grad()
    def _exchange(self, weights: dict[str, Tensor]) -> None:
        for name, average in self.averages.items():
            weight, mean = local(weights[name].detach()), local(average)
            held = weight.clone()
            weight.copy_(mean)
            mean.copy_(held)
