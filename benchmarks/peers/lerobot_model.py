"""LeRobot's public pi0.5 at the sizes of any weights, for its own interpreter (VLA_LEROBOT_PYTHON).

LeRobot knows two sizes by name and writes others into its constructor; here its lookups are replaced while a model is
built, and nothing of its arithmetic is. It reshapes to 8 heads, so weights must have 8.
"""

# pyright: reportMissingImports=false

from typing import Any
from unittest import mock

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.pi05 import modeling_pi05
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from peer_weights import PeerWeights, peer_gemma, require_eight_heads, set_sizes

from vla.models.pi05.config import Pi05Config


def sized(config: Pi05Config) -> Any:
    """A context in which LeRobot builds every pi0.5 at these sizes."""
    gemmas = {"gemma_2b": config.vlm, "gemma_300m": config.expert}
    paligemma, gemma = modeling_pi05.PaliGemmaForConditionalGenerationWithPiGemma, modeling_pi05.PiGemmaForCausalLM

    def small_paligemma(config: Any, ours: Pi05Config = config) -> Any:
        set_sizes(config, ours)
        return paligemma(config=config)

    def small_gemma(config: Any, ours: Pi05Config = config) -> Any:
        config.vocab_size = ours.vocab_size
        return gemma(config=config)

    return mock.patch.multiple(
        modeling_pi05,
        get_gemma_config=lambda variant: peer_gemma(gemmas[variant]),
        PaliGemmaForConditionalGenerationWithPiGemma=small_paligemma,
        PiGemmaForCausalLM=small_gemma,
    )


def peer_config(config: Pi05Config, dtype: str = "float32", **fields: Any) -> PI05Config:
    """LeRobot's configuration of these sizes; `fields` are its own."""
    size = config.vision.image_size
    return PI05Config(
        dtype=dtype,
        chunk_size=config.horizon,
        n_action_steps=config.horizon,
        max_action_dim=config.action_dim,
        max_state_dim=config.action_dim,
        num_inference_steps=config.num_steps,
        image_resolution=(size, size),
        tokenizer_max_length=config.max_text_tokens,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (config.action_dim,))},
        **{"device": "cpu", **fields},
    )


def build(weights: PeerWeights, dtype: str = "float32", device: str = "cpu", **fields: Any) -> Any:
    """LeRobot's `PI05Pytorch` with these weights, in eval mode.

    Its `sample_actions(images, img_masks, tokens, masks, noise=...)` and `forward(images, img_masks, tokens, masks,
    actions, noise, time)` take lists of cameras: images [B, 3, H, W] in [-1, 1], masks [B].
    """
    require_eight_heads(weights.config)
    with sized(weights.config):
        model = modeling_pi05.PI05Pytorch(peer_config(weights.config, dtype, device=device, **fields))
    weights.load_into(model)
    return model.to(torch.device(device)).eval()
