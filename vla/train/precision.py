"""The one precision rule: float32 weights, and a forward pass under autocast when bfloat16 is asked for."""

from typing import Literal

import torch


def forward_precision(dtype: Literal["float32", "bfloat16"], device: torch.device, sharded: bool) -> torch.autocast:
    """The context a loss is computed in.

    Autocast, also under FSDP2, whose own mixed precision would gather half the bytes but cast the norms' weights too:
    this way every kind of parallelism does the same arithmetic, with norms and softmax in float32.
    Sharded weights are freed after each block, so their casts must not be cached.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16", cache_enabled=not sharded)
