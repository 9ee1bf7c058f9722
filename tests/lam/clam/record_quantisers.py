"""Write golden/quantisers.json: what vector-quantize-pytorch (1.32.0, MIT) makes of a few latents.

Run by hand, beside an installation of that package: `python tests/lam/clam/record_quantisers.py`.
"""

import json
from pathlib import Path

import torch
from torch import Tensor
from vector_quantize_pytorch import FSQ, VectorQuantize  # pyright: ignore[reportMissingImports]


def vector(generator: torch.Generator) -> dict[str, object]:
    """Three training steps of one codebook of five codes, then one step that only reads it."""
    codebook = torch.randn(1, 5, 4, generator=generator)
    quantiser = VectorQuantize(dim=4, codebook_size=5, decay=0.9, commitment_weight=0.25, threshold_ema_dead_code=0)
    quantiser._codebook.embed.data.copy_(codebook)
    quantiser._codebook.embed_avg.data.copy_(codebook)
    steps = []
    for training in (True, True, True, False):
        latents = torch.randn(6, 1, 4, generator=generator)
        quantised, codes, loss = quantiser.train(training)(latents)
        after = quantiser._codebook
        step: dict[str, Tensor] = {"latents": latents, "quantised": quantised, "codes": codes, "loss": loss}
        step |= {"counts": after.cluster_size, "totals": after.embed_avg, "codebook": after.embed}
        steps.append({name: value.tolist() for name, value in step.items()})
    return {"codebook": codebook.tolist(), "steps": steps}


def finite_scalar(generator: torch.Generator) -> dict[str, object]:
    """Latents of two codes each."""
    levels = [8, 5, 4, 3]
    latents = torch.randn(12, 1, 4, generator=generator) * 1.5
    quantised, codes = FSQ(levels)(latents)
    tensors: dict[str, Tensor] = {
        "latents": latents.view(6, 1, 8),
        "quantised": quantised.view(6, 1, 8),
        "codes": codes.view(6, 1, 2),
    }
    return {"levels": levels, **{name: value.tolist() for name, value in tensors.items()}}


if __name__ == "__main__":
    source = torch.Generator().manual_seed(0)
    golden = {"vq": vector(source), "fsq": finite_scalar(source)}
    path = Path(__file__).parent / "golden" / "quantisers.json"
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
