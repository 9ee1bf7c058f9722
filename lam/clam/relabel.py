"""Relabelling: the latent actions a trained inverse model sees in trajectories without action labels (section 3.2)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from data_mixtures.transitions import Transitions, Windows
from lam.clam.model import LatentActionModel, Latents


@torch.inference_mode()
def relabelled(model: LatentActionModel, windows: Windows, chunk_size: int) -> Tensor:
    """The latents of every window's next `chunk_size` transitions: float32 [windows, chunk_size, z].

    Each is that of the window which ends with its transition. Past an episode's end the last one is repeated; such
    steps are masked where the latents are learned.

    Args:
        model: In eval mode.
        windows: With the model's context and one future frame.
        chunk_size: Transitions.
    """
    each = torch.cat([latents.passed_on[:, -1].cpu() for latents in _seen(model, windows)])
    last = (windows.end - 1 - windows.frame).clamp(min=0)
    steps = torch.minimum(torch.arange(chunk_size), last[:, None])
    return each[torch.arange(len(each))[:, None] + steps].clone()


@torch.inference_mode()
def coded(model: LatentActionModel, windows: Windows) -> Tensor:
    """The codes of every window's transition: int64 [windows, 1, G]; the model's latents are discrete."""
    codes = [latents.codes for latents in _seen(model, windows)]
    return torch.cat([of[:, -1:].cpu() for of in codes if of is not None]).clone()


def _seen(model: LatentActionModel, windows: Windows) -> Iterator[Latents]:
    device = model.standard.mean.device
    for batch in Transitions(windows, seed=0).in_order(windows.at_once):
        batch = batch.to(device)  # noqa: PLW2901
        assert batch.states is not None
        yield model.infer(model.frames(batch.states, batch.images), batch.sample_ids)
