"""openpi's public PyTorch pi0.5 at the sizes of any weights, for its own interpreter (VLA_OPENPI_PYTHON).

openpi knows its sizes by name, augments while it trains and resizes to 224 px; here its lookups are replaced while a
model is built and images go in as they are. It reshapes to 8 heads, so weights must have 8.
"""

# pyright: reportMissingImports=false

import logging
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from openpi.models_pytorch import gemma_pytorch, pi0_pytorch
from peer_weights import PeerWeights, peer_gemma, require_eight_heads, set_sizes
from torch import Tensor

from vla.models.pi05.config import Pi05Config


def sized(config: Pi05Config) -> Any:
    """A context in which openpi builds every pi0.5 at these sizes."""
    gemmas = {"gemma_2b": config.vlm, "gemma_300m": config.expert}
    paligemma, gemma = gemma_pytorch.PaliGemmaForConditionalGeneration, gemma_pytorch.GemmaForCausalLM

    def small_paligemma(config: Any, ours: Pi05Config = config) -> Any:
        set_sizes(config, ours)
        return paligemma(config=config)

    def small_gemma(config: Any, ours: Pi05Config = config) -> Any:
        config.vocab_size = ours.vocab_size
        return gemma(config=config)

    stack = mock.patch.multiple(
        gemma_pytorch, PaliGemmaForConditionalGeneration=small_paligemma, GemmaForCausalLM=small_gemma
    )
    stack.additional_patchers.append(
        mock.patch.object(
            pi0_pytorch, "_gemma", SimpleNamespace(get_config=lambda variant: peer_gemma(gemmas[variant]))
        )
    )
    return stack


def build(weights: PeerWeights, dtype: str = "float32", device: str = "cpu", compile_mode: str | None = None) -> Any:
    """The public `PI0Pytorch` with these weights, in eval mode: call it through `sample` and `losses`.

    `compile_mode` is torch.compile's, for sampling.
    """
    require_eight_heads(weights.config)
    config = SimpleNamespace(
        pi05=True,
        paligemma_variant="gemma_2b",
        action_expert_variant="gemma_300m",
        dtype=dtype,
        action_dim=weights.config.action_dim,
        action_horizon=weights.config.horizon,
        pytorch_compile_mode=compile_mode,
    )
    with sized(weights.config):
        model = pi0_pytorch.PI0Pytorch(config)
    torch.set_float32_matmul_precision("highest")  # the constructor asks for less
    weights.load_into(model)
    model._preprocess_observation = lambda observation, train: (
        observation.images,
        observation.image_masks,
        observation.tokens,
        observation.token_mask,
        observation.state,
    )
    logging.getLogger("openpi").setLevel(logging.ERROR)
    return model.to(torch.device(device)).eval()


def observation(images: list[Tensor], image_masks: list[Tensor], tokens: Tensor, token_mask: Tensor) -> Any:
    """What openpi's model reads: images [B, 3, H, W] in [-1, 1] and masks [B] a camera; tokens and mask [B, N]."""
    state = torch.zeros(len(tokens), 1, device=tokens.device)  # pi0.5 reads it from the prompt
    return SimpleNamespace(images=images, image_masks=image_masks, tokens=tokens, token_mask=token_mask, state=state)


def sample(model: Any, seen: Any, noise: Tensor, num_steps: int = 10) -> Tensor:
    """Actions [B, S, A] from noise, with openpi's own loop."""
    return model.sample_actions(noise.device, seen, noise=noise, num_steps=num_steps)


def losses(model: Any, seen: Any, actions: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """Squared differences of the velocity [B, S, A]."""
    return model.forward(seen, actions, noise=noise, time=time)
