"""Small π0.5s of any sizes and the answers they give, written as another implementation's recorded case."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tests.vla.models.pi05.students import randomise
from vla.models.pi05.config import GemmaConfig, Pi05Config, VisionConfig
from vla.models.pi05.model import NoisyActions, Pi05, Prefix
from vla.models.pi05.sample import sample_actions

PALIGEMMA = "paligemma_with_expert.paligemma."
HEAD = PALIGEMMA + "lm_head.weight"
EMBED = PALIGEMMA + "model.language_model.embed_tokens.weight"
DEAD_HEAD = "paligemma_with_expert.gemma_expert.lm_head.weight"

# Nothing here is as in the case that ships: widths, depths, heads, patches, chunk, numbers of an action.
OTHER = Pi05Config(
    vision=VisionConfig(width=24, depth=3, mlp_dim=40, num_heads=3, patch_size=8, image_size=24),
    vlm=GemmaConfig(width=40, depth=2, mlp_dim=72, num_heads=3, num_kv_heads=1, head_dim=12),
    expert=GemmaConfig(width=28, depth=2, mlp_dim=44, num_heads=3, num_kv_heads=1, head_dim=12),
    vocab_size=97,
    action_dim=7,
    horizon=5,
)


def student(config: Pi05Config = OTHER, seed: int = 0) -> Pi05:
    model = Pi05(config)
    randomise(model, seed)
    return model


def published(model: Pi05) -> dict[str, torch.Tensor]:
    """The state as openpi's conversion writes it, dead head included."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return {**state, DEAD_HEAD: torch.ones(model.config.vocab_size, model.config.expert.width)}


def record(model: Pi05, cameras: int = 2, batch: int = 3, text: int = 6, seed: int = 1) -> dict[str, Any]:
    """A case with everything; the last sample has no second camera, and texts are of several lengths."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    side, chunk = config.vision.image_size, (batch, config.horizon, config.action_dim)
    images = torch.rand(cameras, batch, 3, side, side, generator=generator) * 2 - 1
    seen = torch.ones(cameras, batch, dtype=torch.bool)
    seen[-1, -1] = False
    masks = torch.arange(text) < torch.arange(text, text - batch, -1)[:, None]
    tokens = torch.randint(2, config.vocab_size, (batch, text), generator=generator) * masks
    actions, noise, sample_noise = (torch.randn(*chunk, generator=generator) for _ in range(3))
    time = torch.rand(batch, generator=generator)
    prefix = Prefix(images.transpose(0, 1), seen.T, tokens, masks)

    t = time[:, None, None]
    velocity = model(prefix, noisy=NoisyActions(t * noise + (1 - t) * actions, time))["velocity"]
    losses = (velocity - (noise - actions)) ** 2
    losses.mean().backward()
    norms = {name.replace(HEAD, EMBED): p.grad.norm().item() for name, p in model.named_parameters()
             if p.grad is not None}  # fmt: skip
    with torch.no_grad():
        embedded, valid = model.embed_prefix(prefix, queries=False)
        sampled = sample_actions(model, prefix, sample_noise)
    tensors = {
        "images": images, "img_masks": seen, "tokens": tokens, "masks": masks, "actions": actions, "noise": noise,
        "time": time, "sample_noise": sample_noise, "losses": losses, "loss": losses.mean(),
        "sampled_actions": sampled, "prefix_embs": embedded, "prefix_pad_masks": valid,
    }  # fmt: skip
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    return {**arrays, "grad_names": np.array(list(norms)), "grad_norms": np.array(list(norms.values()))}


def write(folder: Path, state: dict[str, torch.Tensor], case: dict[str, Any]) -> list[str]:
    """Write both files; returns the arguments of `vla`."""
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "w.safetensors")
    np.savez(folder / "c.npz", **case)
    return ["parity", "--weights", str(folder / "w.safetensors"), "--case", str(folder / "c.npz")]
