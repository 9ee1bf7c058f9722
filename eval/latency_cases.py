"""What the latency benchmark runs: models in the published proportions, and what they are shown."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vla.models.pi05.config import GemmaConfig, Pi05Config, VisionConfig
from vla.models.pi05.model import Pi05

SLOTS = 3  # for cameras, as the published model has them


@dataclass(frozen=True)
class Case:
    """What is seen: so many of the three slots have a camera, so many of the padded text tokens are there."""

    batch: int
    cameras: int
    text_tokens: int

    def words(self, config: Pi05Config) -> str:
        """In a table."""
        drops = self.cameras < SLOTS or self.text_tokens < config.max_text_tokens
        rest = "" if drops else ", nothing to drop"
        cameras = f"{self.cameras} of {SLOTS} cameras, {self.text_tokens} of {config.max_text_tokens} tokens"
        return f"{cameras}{rest}, batch {self.batch}"


def reduced(depth: int, width: int) -> Pi05Config:
    """The published model's proportions at another depth and VLM width; (18, 2048) is the published model.

    Raises:
        ValueError: A width that does not give whole heads.
    """
    if width % 128 or depth < 2:
        raise ValueError(f"--width {width} --depth {depth}: a width is a multiple of 128, a depth at least 2")
    tower, head_dim = width * 9 // 16, width // 8
    vision = VisionConfig(tower, round(depth * 1.5), round(tower * 4304 / 1152), tower // 72)
    return Pi05Config(
        vision=vision,
        vlm=GemmaConfig(width=width, depth=depth, mlp_dim=8 * width, head_dim=head_dim),
        expert=GemmaConfig(width=width // 2, depth=depth, mlp_dim=2 * width, head_dim=head_dim),
        vocab_size=257_152 if (depth, width) == (18, 2048) else 1024,
    )


def write_random_weights(config: Pi05Config, path: Path, dtype: torch.dtype) -> None:
    """A file of weights under the published names, of a size at which every part of the model matters."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        model = Pi05(config)
    state = {}
    for name, parameter in model.named_parameters():
        fan_in = parameter.shape[1:].numel() if parameter.dim() > 1 else 16
        state[name] = (torch.randn(parameter.shape, generator=generator) * fan_in**-0.5).to(dtype)
    save_file(state, path)


def case_inputs(config: Pi05Config, case: Case) -> dict[str, Tensor]:
    """Random inputs in the layout of `vla parity`'s cases: images [3, B, 3, R, R] and so on, padded as peers pad."""
    generator = torch.Generator().manual_seed(1)
    side, length = config.vision.image_size, config.max_text_tokens
    images = torch.rand(SLOTS, case.batch, 3, side, side, generator=generator) * 2 - 1
    there = (torch.arange(SLOTS) < case.cameras)[:, None].expand(SLOTS, case.batch)
    images[~there] = -1
    masks = (torch.arange(length) < case.text_tokens).expand(case.batch, length)
    tokens = torch.randint(4, min(config.vocab_size, 250_000), (case.batch, length), generator=generator) * masks
    noise = torch.randn(case.batch, config.horizon, config.action_dim, generator=generator)
    return {"images": images, "img_masks": there, "tokens": tokens, "masks": masks, "sample_noise": noise}
