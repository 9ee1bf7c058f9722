"""Taking a model's weights over: nothing twice, and little more than the weights at the fullest moment."""

from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves

from tests.vla.models.pi05.students import randomise
from vla.models.pi05.config import GemmaConfig, Pi05Config, VisionConfig
from vla.models.pi05.inference import Sampler
from vla.models.pi05.model import Pi05

# 190 MB of float32: large enough to be told from what torch itself takes meanwhile.
LARGE = Pi05Config(
    vision=VisionConfig(width=64, depth=2, mlp_dim=128, num_heads=2, image_size=28),
    vlm=GemmaConfig(width=512, depth=12, mlp_dim=2048, num_heads=4, head_dim=64),
    expert=GemmaConfig(width=128, depth=12, mlp_dim=256, num_heads=4, head_dim=64),
    vocab_size=512,
)


def status(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM the most since the mark was cleared."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_is_the_weights_and_little_more(dtype: torch.dtype):
    Sampler(Pi05(Pi05Config.nano()), dtype)  # what torch allocates at its first use
    model = Pi05(LARGE)
    randomise(model)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    sampler = Sampler(model, dtype)
    assert status("VmHWM") - before < 0.15 * weights
    assert held(model, sampler) < (1.01 if dtype == torch.float32 else 0.6) * weights


def held(model: Pi05, sampler: Sampler) -> int:
    """Bytes of all tensors of both, each memory once."""
    student = sampler.student
    tensors = [*model.parameters(), *student.modulations]
    for layer in (*student.vision, *student.prefix, *student.expert):
        tensors += [leaf for leaf in tree_leaves(layer) if isinstance(leaf, torch.Tensor)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())
