"""GPUs by name: what `vla plan` takes for granted about them."""

import difflib
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: As people write it.
        memory_gib: What CUDA reports of it, a little below what is printed on the box.
        bfloat16_tflops: Peak of dense matrix products in bfloat16 with float32 sums.
        float32_tflops: Peak in float32 (without TF32, which training here does not use).
    """

    name: str
    memory_gib: float
    bfloat16_tflops: float
    float32_tflops: float

    def tflops(self, dtype: Literal["float32", "bfloat16"]) -> float:
        """Peak in this dtype, in TFLOP/s."""
        return self.bfloat16_tflops if dtype == "bfloat16" else self.float32_tflops


# From the makers' data sheets, SXM versions where there are several.
GPUS = {
    "b200": Gpu("B200", 178.3, 2250, 75),
    "h200": Gpu("H200", 139.8, 989, 67),
    "h100": Gpu("H100 80 GB", 79.1, 989, 67),
    "a100-80": Gpu("A100 80 GB", 79.1, 312, 19.5),
    "a100-40": Gpu("A100 40 GB", 39.4, 312, 19.5),
    "l40s": Gpu("L40S", 44.4, 362, 91.6),
    "a6000": Gpu("RTX A6000", 47.4, 155, 38.7),
    "rtx5090": Gpu("RTX 5090", 31.3, 210, 105),
    "rtx4090": Gpu("RTX 4090", 23.5, 165, 82.6),
    "rtx3090": Gpu("RTX 3090", 23.6, 71, 35.6),
}


def find_gpu(name: str) -> Gpu:
    """The GPU of this name; ValueError with the known ones for another."""
    if name not in GPUS:
        close = difflib.get_close_matches(name, GPUS, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise ValueError(
            f"--gpu {name} is not one of {', '.join(GPUS)}.{meant} Any other: --gpu-memory-gib 48 --gpu-tflops 300"
        )
    return GPUS[name]
