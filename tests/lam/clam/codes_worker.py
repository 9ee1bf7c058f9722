"""One rank of two that train codes on their shares of a batch; the first writes what it has in the end."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from lam.clam.config import QuantiserConfig
from lam.clam.quantise import VectorQuantiser


def followed(rank: int, ranks: int) -> dict[str, torch.Tensor]:
    """The averages after five batches of 16 samples, every `ranks`th of which is this rank's."""
    quantiser = VectorQuantiser(4, QuantiserConfig(num_codes=8, num_codebooks=2, decay=0.5, dead_below=0.3)).train()
    for name in ("counts", "totals"):
        getattr(quantiser, name).copy_(quantiser.initial_value(name, torch.Generator().manual_seed(0)))
    for step in range(5):
        latents = torch.randn(16, 2, 4, generator=torch.Generator().manual_seed(step))
        ids = torch.arange(16) + 16 * step
        quantiser(latents[rank::ranks].clone().requires_grad_(), ids[rank::ranks])
    return {"counts": quantiser.counts, "totals": quantiser.totals}


if __name__ == "__main__":
    dist.init_process_group("gloo")
    averages = followed(dist.get_rank(), dist.get_world_size())
    save_file(averages, Path(json.loads(sys.argv[1])[0]["out"]) / f"{dist.get_rank()}.safetensors")
    dist.barrier()
    dist.destroy_process_group()
