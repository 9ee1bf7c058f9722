"""A student small enough to build in milliseconds, with random weights, and a batch for it."""

import torch
from torch import nn

from data_mixtures.batch import Batch
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.statistics.normalisation import Normalisation, Quantiles
from vla.models.pi05.config import GemmaConfig, LatentConfig, Pi05Config, VisionConfig
from vla.models.pi05.model import Pi05, Prefix

TASKS = ["open the drawer", "push the puck to the goal", "press the button"]
SUBTASKS = ["reach the handle", "push the puck", ""]
LATENT = LatentConfig(scene_tokens=2, motion_tokens=3, width=8)
ACTION_DIMS, STATE_DIMS = [0, 1, 2, 6], [0, 1, 2, 7]


def tiny_config(**overrides: object) -> Pi05Config:
    sizes = {
        "vision": VisionConfig(width=16, depth=2, mlp_dim=24, num_heads=2, patch_size=8, image_size=16),
        "vlm": GemmaConfig(width=16, depth=2, mlp_dim=24, num_heads=2, num_kv_heads=1, head_dim=8),
        "expert": GemmaConfig(width=12, depth=2, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=8),
        "vocab_size": 1024,
        "action_dim": ACTION_DIM,
        "horizon": 4,
        "latent": LATENT,
    }
    return Pi05Config(**{**sizes, **overrides})  # pyright: ignore[reportArgumentType]


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Random weights of a size at which every part of the model matters, zero-initialised ones included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter.shape[-1] if parameter.dim() > 1 else 16
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan_in**-0.5)


def tiny_student(seed: int = 0, **overrides: object) -> Pi05:
    module = Pi05(tiny_config(**overrides))
    randomise(module, seed)
    return module.eval()


def prefix_of(config: Pi05Config, lengths: tuple[int, ...] = (5, 3), cameras: int = 2, seed: int = 0) -> Prefix:
    generator = torch.Generator().manual_seed(seed)
    batch, size = len(lengths), config.vision.image_size
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Prefix(
        images=torch.rand(batch, cameras, 3, size, size, generator=generator) * 2 - 1,
        image_mask=torch.ones(batch, cameras, dtype=torch.bool),
        tokens=torch.randint(4, 500, mask.shape, generator=generator) * mask,
        token_mask=mask,
    )


def normalisation() -> Normalisation:
    action_low, action_high = torch.zeros(ACTION_DIM), torch.zeros(ACTION_DIM)
    action_low[ACTION_DIMS], action_high[ACTION_DIMS] = -0.02, 0.04
    action_low[6], action_high[6] = 0.0, 1.0
    state_low, state_high = torch.zeros(STATE_DIM), torch.zeros(STATE_DIM)
    state_low[STATE_DIMS], state_high[STATE_DIMS] = -0.5, 0.5
    return Normalisation(
        state=Quantiles(tuple(state_low.tolist()), tuple(state_high.tolist())),
        action=Quantiles(tuple(action_low.tolist()), tuple(action_high.tolist())),
    )


def tiny_batch(size: int = 3, horizon: int = 4, cameras: int = 1, pixels: int = 16, latents: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(7)
    state_mask = torch.zeros(size, STATE_DIM, dtype=torch.bool)
    state_mask[:, STATE_DIMS] = True
    action_mask = torch.zeros(size, horizon, ACTION_DIM, dtype=torch.bool)
    action_mask[..., ACTION_DIMS] = True
    action_mask[-1, horizon // 2 :] = False  # the last sample's episode ends early
    actions = (torch.rand(size, horizon, ACTION_DIM, generator=generator) * 0.06 - 0.02) * action_mask
    actions[..., 6] = (actions[..., 6] > 0.01).float()
    state = torch.rand(size, STATE_DIM, generator=generator) - 0.5
    return Batch(
        images=torch.randint(0, 256, (size, 1, cameras, 3, pixels, pixels), generator=generator, dtype=torch.uint8),
        camera_mask=torch.ones(size, cameras, dtype=torch.bool),
        state=state * state_mask,
        state_mask=state_mask,
        actions=actions,
        action_mask=action_mask,
        instruction=[TASKS[i % 3] for i in range(size)],
        subtask=[SUBTASKS[i % 3] for i in range(size)],
        sample_ids=torch.arange(100, 100 + size),
        latents=torch.randn(size, LATENT.num_tokens, LATENT.width, generator=generator) if latents else None,
    )
