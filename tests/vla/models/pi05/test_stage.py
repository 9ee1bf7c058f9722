"""Stage 3's losses by hand, its draws, and where its weights start."""

import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data_mixtures.batch import Batch
from tests.vla.models.pi05.students import LATENT, TASKS, normalisation, randomise, tiny_batch, tiny_config
from vla.models.pi05.config import GemmaConfig
from vla.models.pi05.model import Pi05
from vla.models.pi05.stage import ActionConfig, ActionStage, latbot_losses, masked_mean
from vla.train.initialise import initialise


def stage_of(**fields: object) -> ActionStage:
    config = ActionConfig(**{"model": tiny_config(), **fields})  # pyright: ignore[reportArgumentType]
    return ActionStage(config, normalisation(), ["front"], TASKS)


def sample(batch: Batch, index: int) -> Batch:
    pick = {
        name: value[index : index + 1] for name, value in vars(batch).items() if isinstance(value, (torch.Tensor, list))
    }
    return replace(batch, **pick)


def ready(stage: ActionStage) -> Pi05:
    module = stage.build()
    randomise(module)
    return module


def test_loss_is_a_mean_over_samples():
    stage = stage_of(flow_samples=2)
    module, batch = ready(stage), tiny_batch()
    whole, metrics = stage.loss(module, batch)
    singles = [stage.loss(module, sample(batch, i))[0] for i in range(3)]
    torch.testing.assert_close(whole, torch.stack(singles).mean())
    torch.testing.assert_close(metrics["flow_loss"], whole.detach())


def test_flow_samples_is_the_mean_of_single_draws(monkeypatch: pytest.MonkeyPatch):
    several, single = stage_of(flow_samples=3), stage_of()
    module, batch = ready(several), tiny_batch()
    shape = torch.Size((4, 44))
    noise, time = (x.unflatten(0, (3, 3)) for x in several.draw(batch.sample_ids, shape, 3))
    losses = []
    for draw in range(3):
        monkeypatch.setattr(single, "draw", lambda *_, d=draw: (noise[:, d], time[:, d]))
        losses.append(single.loss(module, batch)[0])
    torch.testing.assert_close(several.loss(module, batch)[0], torch.stack(losses).mean())


def test_flow_loss_of_a_known_velocity():
    """A network that answers 0 has the loss mean((noise - a)^2) over valid elements."""
    stage = stage_of()
    module, batch = ready(stage), tiny_batch()
    with torch.no_grad():
        module.action_out_proj.weight.zero_()
        module.action_out_proj.bias.zero_()
    actions, mask = stage.processor.actions(batch)
    noise, _ = stage.draw(batch.sample_ids, actions.shape[1:], 1)
    expected = torch.stack([(noise[i] - actions[i])[mask[i]].square().mean() for i in range(3)]).mean()
    torch.testing.assert_close(stage.loss(module, batch)[0], expected)


def test_absent_dimensions_and_free_videos():
    stage = stage_of()
    module, batch = ready(stage), tiny_batch()
    base = stage.loss(module, batch)[0]
    with torch.no_grad():
        module.action_in_proj.weight[:, 20] += 1  # x_t is zero there
        module.action_out_proj.bias[20] += 1  # and nothing is asked of it
    torch.testing.assert_close(stage.loss(module, batch)[0], base)
    video = replace(batch, action_mask=torch.zeros_like(batch.action_mask))
    assert stage.loss(module, video)[0] == 0


def test_masked_mean():
    values, mask = torch.tensor([[[1.0, 5.0], [3.0, 9.0]], [[2.0, 2.0], [2.0, 2.0]]]), torch.zeros(2, 2, 2)
    mask[0, :, 0] = 1
    assert masked_mean(values, mask).tolist() == [2.0, 0.0]


def test_latbot_losses_by_hand():
    actions, noise = torch.zeros(1, 1, 44), torch.ones(1, 1, 44)
    actions[..., 6] = 1.0
    mask = torch.zeros(1, 1, 44, dtype=torch.bool)
    mask[..., [0, 6]] = True
    time = torch.tensor([0.5])
    x_t = 0.5 * noise + 0.5 * actions
    velocity = torch.zeros(1, 1, 44)
    velocity[..., 0], velocity[..., 6] = 3.0, -2.0
    losses = latbot_losses(velocity, x_t, time, actions, noise, mask)
    assert losses["ee_loss"].item() == pytest.approx((3.0 - 1.0) ** 2)
    logit = 1.0 - 0.5 * -2.0
    assert losses["gripper_loss"].item() == pytest.approx(math.log(1 + math.exp(-logit)))


def test_latbot_stage_trains_logits():
    stage = stage_of(loss="latbot")
    loss, metrics = stage.loss(ready(stage), tiny_batch())
    assert stage.processor.model.gripper_logit
    assert metrics.keys() == {"ee_loss", "gripper_loss"}
    torch.testing.assert_close(loss.detach(), metrics["ee_loss"] + metrics["gripper_loss"])


@pytest.mark.parametrize(
    "fields",
    [{}, {"loss": "latbot"}, {"train": "frozen_vision"}, {"model": tiny_config(keep_latent_tokens=False)},
     {"model": tiny_config(latent=None)}],
)  # fmt: skip
def test_what_has_no_gradient_is_frozen_and_nothing_else(fields: dict):
    stage = stage_of(**fields)
    module = ready(stage)
    stage.loss(module, tiny_batch())[0].backward()
    reached = {name for name, p in module.named_parameters() if p.grad is not None}
    assert reached == {name for name, p in module.named_parameters() if p.requires_grad}
    vision = [name for name in reached if "vision_tower" in name]
    assert bool(vision) != (fields.get("train") == "frozen_vision")


def test_fresh_start_is_sane():
    stage = stage_of()
    with torch.device("meta"):
        module = stage.build()
    module.to_empty(device="cpu")
    initialise(module, stage, seed=0)
    loss = stage.loss(module, tiny_batch())[0]
    assert 0.5 < loss.item() < 3.0  # the zero-initialised head predicts the mean
    dense = [p for name, p in module.named_parameters() if name.endswith("dense.weight")]
    assert len(dense) == 5
    assert all(p.abs().max() == 0 for p in dense)


def saved_run(folder: Path, **model: object) -> Path:
    source = stage_of(model=tiny_config(**model))
    module = ready(source)
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, folder / "model.safetensors")
    source.save_assets(folder)
    return folder


def test_warm_start(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    saved_run(tmp_path, latent=None)
    stage = stage_of(init_from=str(tmp_path), fresh=("action_out_proj",))
    module = stage.build()
    with caplog.at_level(logging.INFO):
        initialise(module, stage, seed=0)
    source = Pi05(tiny_config(latent=None))
    randomise(source)
    assert torch.equal(module.language.layers[0].get_parameter("mlp.up_proj.weight"),
                       source.language.layers[0].get_parameter("mlp.up_proj.weight"))  # fmt: skip
    assert module.action_out_proj.weight.abs().max() == 0
    report = stage.start.report
    assert report is not None
    assert set(report.new) == {f"latent_readout.{n}" for n in ("scene_queries", "motion_queries", "proj.weight",
                                                                  "proj.bias")} | {"action_out_proj.weight",
                                                                                   "action_out_proj.bias"}  # fmt: skip
    assert report.ignored == ("action_out_proj.bias", "action_out_proj.weight")
    assert "latent_readout.scene_queries" in caplog.text


def test_warm_start_keeps_the_tokenizer(tmp_path: Path):
    saved_run(tmp_path)
    stage = ActionStage(ActionConfig(model=tiny_config(), init_from=str(tmp_path)), normalisation(), ["front"], ["zzz"])
    assert stage.processor.tokenizer.encode("push the puck") == stage_of().processor.tokenizer.encode("push the puck")


def test_warm_start_errors_name_the_fix(tmp_path: Path):
    with pytest.raises(ValueError, match="run the stage that makes it first"):
        stage_of(init_from=str(tmp_path / "nowhere"))
    saved_run(tmp_path)
    wider = tiny_config(expert=GemmaConfig(width=20, depth=2, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=8))
    with pytest.raises(ValueError, match=r"action_in_proj\.weight is \(12, 44\) and not \(20, 44\).* in `fresh`"):
        stage_of(model=wider, init_from=str(tmp_path))
    with pytest.raises(ValueError, match=r"fresh: no parameter's name begins with 'action_on'"):
        stage_of(init_from=str(tmp_path), fresh=("action_on",))


def test_latent_config_is_shared():
    assert stage_of().processor.model.latent == LATENT
