"""The unified decoder against diffusers' SANA: same picture at the start, same names, same shapes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lam.latbot.config import LatBotConfig, nano
from lam.latbot.convert import published_source, to_published
from lam.latbot.decoder import UnifiedDecoder, sana_arguments

diffusers = pytest.importorskip("diffusers")
COMPAT = Path(__file__).parents[3] / "shared" / "compat"


def filled(config: LatBotConfig, make_stage, make_model) -> UnifiedDecoder:
    """A decoder as training starts it, but with a head that draws something."""
    config = replace(config, decoder=replace(config.decoder, zero_head=False))
    return make_model(make_stage(config)).decoder.eval()


def base_sana(config: LatBotConfig) -> torch.nn.Module:
    torch.manual_seed(0)
    return diffusers.SanaTransformer2DModel(**sana_arguments(config)).eval()


def inputs(config: LatBotConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    grid, channels = config.codec.grid, config.codec.channels
    return {
        "noisy_frame": torch.randn(2, channels, grid, grid),
        "current_frame": torch.randn(2, channels, grid, grid),
        "noisy_actions": torch.randn(2, config.horizon, 44),
        "scene": torch.randn(2, config.scene_tokens, config.latent_dim),
        "motion": torch.randn(2, config.motion_tokens, config.latent_dim),
        "frame_time": torch.tensor([0.3, 0.9]),
        "action_time": torch.tensor([0.5, 0.1]),
    }


@pytest.mark.parametrize("exchange", ["all", "tokens"])
@pytest.mark.parametrize("position_embedding", [True, False])
def test_fresh_fusion_draws_exactly_what_sana_draws(make_stage, make_model, exchange, position_embedding):
    config = nano()
    config = replace(config, decoder=replace(config.decoder, exchange=exchange, position_embedding=position_embedding))
    decoder, base = filled(config, make_stage, make_model), base_sana(config)
    weights = base.state_dict()
    weight = weights["patch_embed.proj.weight"]
    weights["patch_embed.proj.weight"] = torch.cat([weight, torch.zeros_like(weight)], dim=1)
    missing, unexpected = decoder.load_state_dict(weights, strict=False)
    assert not unexpected
    assert missing
    assert all("fusion" in name.split(".") for name in missing)
    x = inputs(config)
    with torch.no_grad():
        frame, actions = decoder(**x)
        captions = decoder.fusion.scene_in(x["scene"])
        expected = base(x["noisy_frame"], captions, 1000 * x["frame_time"], return_dict=False)[0]
        torch.testing.assert_close(frame, expected, rtol=1e-5, atol=1e-5)
        assert actions.shape == (2, config.horizon, 44)
        # The test must be able to fail: once an exchange is open, the picture is no longer SANA's.
        decoder.get_parameter("transformer_blocks.0.fusion.motion_to_scene.out_proj.bias").fill_(0.5)
        assert not torch.allclose(decoder(**x)[0], expected, atol=1e-3)


@pytest.mark.parametrize(("exchange", "leaks"), [("all", True), ("tokens", False)])
def test_exchange_of_tokens_keeps_the_noisy_inputs_apart(make_stage, make_model, exchange, leaks):
    config = replace(nano(), decoder=replace(nano().decoder, exchange=exchange, zero_head=False))
    decoder = filled(config, make_stage, make_model)
    torch.manual_seed(2)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = inputs(config)
    with torch.no_grad():
        frame, actions = decoder(**x)
        other_actions = decoder(**x | {"noisy_actions": -x["noisy_actions"]})
        other_frame = decoder(**x | {"noisy_frame": -x["noisy_frame"]})
        other_motion = decoder(**x | {"motion": -x["motion"]})
        other_scene = decoder(**x | {"scene": -x["scene"]})
    assert torch.equal(other_actions[0], frame) is not leaks
    assert torch.equal(other_frame[1], actions) is not leaks
    assert not torch.equal(other_motion[0], frame)
    assert not torch.equal(other_scene[1], actions)


def test_published_size_has_every_published_name_and_shape(make_stage):
    if not COMPAT.is_dir():
        pytest.skip("the lists of published names lie in ../shared/compat, which is not here")
    with torch.device("meta"):
        decoder = UnifiedDecoder(LatBotConfig())
    ours = {}
    for name, value in decoder.state_dict().items():
        published = to_published(f"decoder.{name}", value)
        if published is not None:
            ours[published[0]] = list(published[1].shape)
    published = json.loads((COMPAT / "sana1600m_keys.json").read_text())
    assert ours == published
    assert len(ours) == 396
    count = sum(torch.Size(shape).numel() for shape in ours.values())
    assert count == 1_604_462_752
    new = [name for name, _ in decoder.named_parameters() if published_source(f"decoder.{name}") is None]
    assert all("fusion" in name.split(".") for name in new)
