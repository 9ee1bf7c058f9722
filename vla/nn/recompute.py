"""Keep less for the backward pass where computing it again is cheap: element-wise results beside matrix products."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Elements from which on the memory is worth the bookkeeping, a fifth of a millisecond a call on a CPU.
WORTH = 1 << 20


def recomputed(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(*inputs)`, to the bit, of which the backward pass keeps the inputs alone.

    A matrix product at the function's end is not made again: the recomputation stops at its inputs. The function may
    call modules, adapted or sharded ones too, but must not draw random numbers.
    """
    kept = torch.is_grad_enabled() and any(x.requires_grad for x in inputs) and inputs[0].numel() >= WORTH
    if not kept:
        return function(*inputs)
    output = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    assert isinstance(output, Tensor)
    return output
