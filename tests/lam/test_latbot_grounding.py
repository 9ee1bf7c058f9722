"""CLAM's joint grounding in stage 1: what it weighs and shapes, and that nothing changes without it."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from lam.clam.config import DecoderConfig
from lam.latbot.config import GroundingConfig, nano
from lam.latbot.stage import load_teacher
from lam.latbot.teacher import LatBotTeacher
from vla.train.initialise import generator_for

SMALL = GroundingConfig(action_weight=0.5, decoder=DecoderConfig(24, (32,)))
GROUNDED = replace(nano(), grounding=SMALL)


@pytest.fixture
def make_by_name():
    """A model whose values depend on their names alone, as in training: the same with and without a decoder."""

    def make(stage):
        model = stage.build()
        with torch.no_grad():
            for name, value in model.state_dict().items():
                value.copy_(stage.init_parameter(name, value.shape, generator_for(0, name)))
            stage.init_buffers(model)
        return model

    return make


def test_without_grounding_nothing_changes(make_stage, make_by_name, squares):
    plain, grounded = make_stage(), make_stage(GROUNDED)
    without, beside = make_by_name(plain), make_by_name(grounded)
    added = beside.state_dict().keys() - without.state_dict().keys()
    assert {name.split(".")[0] for name in added} == {"grounding"}
    assert without.state_dict().keys() <= beside.state_dict().keys()
    batch = squares(nano(), list(range(6)), labelled=0.5)
    loss, metrics = plain.loss(without, batch)
    total, named = grounded.loss(beside, batch)
    assert named.keys() - metrics.keys() == {"grounding_loss"}
    for name, value in metrics.items():
        assert torch.equal(value, named[name]), name
    assert torch.equal(loss.detach(), metrics["frame_loss"] + metrics["action_loss"])
    assert torch.equal(total.detach(), loss.detach() + 0.5 * named["grounding_loss"])
    assert named["grounding_loss"] > 0
    one, other = LatBotTeacher(plain, without), LatBotTeacher(grounded, beside)
    assert one.fingerprint == other.fingerprint, "latents of the same encoder are the same, whatever reads them"


def test_only_labelled_samples_are_weighed(make_stage, make_model, squares):
    stage = make_stage(GROUNDED)
    model = make_model(stage)
    batch = squares(stage.config, list(range(4)))
    mask, lies = batch.action_mask.clone(), batch.actions.clone()
    mask[1:], lies[1:] = False, 1e3  # a masked action must not be looked at
    with torch.no_grad():
        some = stage.loss(model, replace(batch, action_mask=mask, actions=lies))[1]["grounding_loss"]
        one = stage.loss(model, squares(stage.config, [0]))[1]["grounding_loss"]
        none = stage.loss(model, replace(batch, action_mask=torch.zeros_like(mask)))[1]["grounding_loss"]
        read = model(stage.encoding_inputs(squares(stage.config, [0])), "encode")["actions"]
    torch.testing.assert_close(some, one / 4, rtol=1e-4, atol=1e-6)
    assert none == 0
    torch.testing.assert_close(one, (read - batch.actions[:1])[..., :2].square().mean(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("joint", [True, False])
def test_gradients_shape_the_latents_only_when_joint(make_stage, make_model, squares, joint):
    flow = replace(nano().flow, frame_weight=0.0, action_weight=0.0)
    stage = make_stage(replace(nano(), flow=flow, grounding=replace(SMALL, joint=joint)))
    model = make_model(stage)
    stage.loss(model, squares(stage.config, [0, 1]))[0].backward()
    assert model.grounding.embedding.weight.grad.abs().max() > 0
    moved = model.encoder.motion_queries.grad.abs().max() > 0
    assert bool(moved) is joint
    assert model.decoder.fusion.motion_in.weight.grad.abs().max() == 0


def test_every_trained_parameter_gets_a_gradient_even_without_labels(make_stage, make_model, squares):
    stage = make_stage(GROUNDED)
    model = make_model(stage)
    stage.loss(model, squares(stage.config, [0, 1], labelled=0.0))[0].backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.slow
def test_actions_are_learned_from_the_labelled_half(make_stage, make_model, squares):
    """Without the unified decoder's action loss, from labels on every second window."""
    config = replace(GROUNDED, flow=replace(nano().flow, action_weight=0.0))
    stage = make_stage(config)
    model = make_model(stage)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3, betas=(0.9, 0.95))
    for step in range(80):
        optimiser.zero_grad()
        ids = list(range(16 * step, 16 * step + 16))
        stage.loss(model, squares(config, ids, labelled=0.5))[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    fresh = squares(config, list(range(10_000, 10_064)))
    with torch.no_grad():
        found = model(stage.encoding_inputs(fresh), "encode")["actions"][..., :2]
    assert (found - fresh.actions[..., :2]).square().mean() < 0.6 * fresh.actions[..., :2].var()


def test_decoder_travels_with_the_teacher(make_stage, make_model, squares, tmp_path):
    stage = make_stage(GROUNDED)
    model = make_model(stage).eval()
    stage.save_assets(tmp_path)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    loaded_stage, loaded = load_teacher(tmp_path)
    assert loaded_stage.config.grounding == SMALL
    batch = squares(stage.config, [0, 1])
    with torch.no_grad():
        mine, theirs = (
            m(s.encoding_inputs(batch), "encode")["actions"] for m, s in ((model, stage), (loaded, loaded_stage))
        )
    assert mine.shape == (2, stage.config.horizon, 44)
    assert torch.equal(mine, theirs)


def test_teachers_from_before_grounding_still_load(make_stage, make_model, tmp_path):
    stage = make_stage()
    stage.save_assets(tmp_path)
    save_file(make_model(stage).state_dict(), tmp_path / "model.safetensors")
    path = tmp_path / "teacher.json"
    saved = json.loads(path.read_text())
    del saved["config"]["grounding"]
    path.write_text(json.dumps(saved))
    loaded, model = load_teacher(tmp_path)
    assert loaded.config == stage.config
    assert model.grounding is None


def test_a_resumed_run_keeps_its_grounding(make_stage):
    assert make_stage().settings()["model.grounding"] is None
    settings = make_stage(GROUNDED).settings()
    assert settings["model.grounding.action_weight"] == 0.5
    assert settings["model.grounding.decoder.hidden_dims"] == [32]


def test_a_weight_of_zero_says_what_to_write():
    with pytest.raises(ValueError, match=r"action_weight=0.0 must be positive.*grounding: null"):
        GroundingConfig(action_weight=0.0)
