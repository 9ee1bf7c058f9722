"""Stage 1's objective: what it weighs, that it learns, that its artefact comes back."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from lam.latbot.config import nano
from lam.latbot.stage import load_teacher
from lam.latbot.teacher import LatBotTeacher


@pytest.mark.parametrize("num_draws", [1, 3])
@pytest.mark.parametrize("prediction", ["clean", "velocity"])
@pytest.mark.parametrize("target", ["change", "frame"])
def test_loss_of_a_batch_is_the_mean_over_its_samples(make_stage, make_model, squares, target, prediction, num_draws):
    flow = replace(nano().flow, frame_target=target, frame_prediction=prediction, num_draws=num_draws)
    stage = make_stage(replace(nano(), flow=flow))
    model = make_model(stage)
    whole, metrics = stage.loss(model, squares(stage.config, list(range(8))))
    parts = [stage.loss(model, squares(stage.config, ids))[0] for ids in ([0, 1], [2, 3], [4, 5], [6, 7])]
    torch.testing.assert_close(whole, torch.stack(parts).mean(), rtol=1e-4, atol=1e-5)
    expected = flow.frame_weight * metrics["frame_loss"] + flow.action_weight * metrics["action_loss"]
    torch.testing.assert_close(whole.detach(), expected)
    assert not any(value.requires_grad for value in metrics.values())


def test_samples_without_labels_add_nothing_to_the_action_loss(make_stage, make_model, squares):
    stage = make_stage()
    model = make_model(stage)
    batch = squares(stage.config, list(range(4)))
    mask = batch.action_mask.clone()
    mask[2:] = False
    lies = batch.actions.clone()
    lies[2:] = 1e3  # a masked action must not be looked at
    half = replace(batch, action_mask=mask, actions=lies)
    labelled = squares(stage.config, [0, 1])
    with torch.no_grad():
        result = stage.loss(model, half)[1]
        only = stage.loss(model, labelled)[1]
        none = stage.loss(model, replace(batch, action_mask=torch.zeros_like(mask)))[1]
    torch.testing.assert_close(result["action_loss"], only["action_loss"] / 2, rtol=1e-4, atol=1e-5)
    assert none["action_loss"] == 0
    assert torch.equal(none["frame_loss"], stage.loss(model, batch)[1]["frame_loss"])


def test_every_trained_parameter_gets_a_gradient_even_without_labels(make_stage, make_model, squares):
    stage = make_stage()
    model = make_model(stage)
    stage.loss(model, squares(stage.config, [0, 1], labelled=0.0))[0].backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert [n for n, p in model.named_parameters() if not p.requires_grad and p.grad is not None] == []


def test_nano_teacher_learns_the_moving_square(make_stage, make_model, squares):
    """Reconstruction beats copying the current frame, and the actions beat guessing their mean."""
    stage = make_stage()
    model = make_model(stage)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3, betas=(0.9, 0.95))
    for step in range(100):
        optimiser.zero_grad()
        stage.loss(model, squares(stage.config, list(range(16 * step, 16 * step + 16))))[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    fresh = squares(stage.config, list(range(10_000, 10_064)))
    with torch.no_grad():
        result = model(stage.sampling_inputs(fresh), "sample")
    current, future = (fresh.images[:, i, 0].float() / 127.5 - 1 for i in (0, -1))
    error = (result["frame"] - future).square().mean()
    assert error < 0.85 * (current - future).square().mean()
    actions = stage.normalisation.normalise_action(fresh.actions)[..., :2]
    assert (result["actions"][..., :2] - actions).square().mean() < 0.8 * actions.var()


def test_noise_is_the_samples_own(make_stage, squares):
    stage = make_stage()
    one, other = (stage.training_inputs(squares(stage.config, ids)) for ids in ([3, 4, 5], [9, 5, 3]))
    assert torch.equal(one.frame_noise[2], other.frame_noise[1])
    assert torch.equal(one.action_time[0], other.action_time[2])
    assert not torch.equal(one.frame_noise[0], one.frame_noise[1])
    later = make_stage(seed=1).training_inputs(squares(stage.config, [3, 4, 5]))
    assert not torch.equal(one.frame_noise, later.frame_noise)


def test_artefact_comes_back_as_it_was(make_stage, make_model, squares, tmp_path):
    stage = make_stage()
    model = make_model(stage).eval()
    stage.save_assets(tmp_path)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    loaded_stage, loaded = load_teacher(tmp_path)
    assert loaded_stage.config == stage.config
    batch = squares(stage.config, [0, 1])
    teacher, again = LatBotTeacher(stage, model), LatBotTeacher(loaded_stage, loaded)
    assert torch.equal(teacher.encode(batch), again.encode(batch))
    assert teacher.fingerprint == again.fingerprint
    with torch.no_grad():
        one = model(stage.sampling_inputs(batch), "sample", 2)
        other = loaded(loaded_stage.sampling_inputs(batch), "sample", 2)
    assert torch.equal(one["frame"], other["frame"])
    assert torch.equal(one["actions"], other["actions"])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"num_frames": 4}, "window.frames"), ({"horizon": 5}, "window.horizon"), ({"num_cameras": 2}, "num_cameras=2")],
)
def test_data_that_does_not_fit_names_the_field(make_stage, squares, change, message):
    batch = squares(nano(), [0])
    with pytest.raises(ValueError, match=message):
        make_stage(replace(nano(), **change)).training_inputs(batch)


def test_missing_artefact_says_what_to_give(tmp_path):
    with pytest.raises(ValueError, match=r"teacher\.json"):
        load_teacher(tmp_path)
