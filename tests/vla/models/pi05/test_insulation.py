"""Knowledge insulation: what the action expert's loss may not touch, and what the VLM goes on learning beside it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.vla.models.pi05.students import (
    ACTION_DIMS,
    SUBTASKS,
    TASKS,
    normalisation,
    prefix_of,
    tiny_batch,
    tiny_config,
    tiny_student,
)
from tests.vla.models.pi05.test_model import noisy_of, text_of
from tests.vla.models.pi05.test_stage import ready
from vla.models.pi05.continuation import continuation
from vla.models.pi05.fast_tokens import FastTokens
from vla.models.pi05.model import Pi05
from vla.models.pi05.stage import ActionConfig, ActionStage
from vla.models.pi05.tokenizer import EOS
from vla.nn.next_token import next_token_loss

EXPERT = ("paligemma_with_expert.gemma_expert.", "action_", "time_mlp_")


def gradients(module: Pi05, loss: Tensor) -> dict[str, Tensor]:
    module.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def text_loss(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1)[..., 7].mean()


def stage_of(**fields: Any) -> ActionStage:
    config = ActionConfig(**{"model": tiny_config(), "insulate": True, **fields})
    return ActionStage(config, normalisation(), ["front"], [*TASKS, *SUBTASKS], windows=[tiny_batch(8)])


def test_no_gradient_of_the_velocity_reaches_the_vlm() -> None:
    model = tiny_student()
    prefix, text, noisy = prefix_of(model.config), text_of(2, 4), noisy_of(model, 2, draws=2)
    out = model(prefix, text=text, noisy=noisy, insulate=True)
    reached = gradients(model, out["velocity"].square().mean())
    assert {name for name in reached if not name.startswith(EXPERT)} == set()
    free = gradients(model, model(prefix, text=text, noisy=noisy)["velocity"].square().mean())
    for name, gradient in reached.items():
        assert torch.equal(gradient, free[name]), "the expert learns as it would"
    assert any(not name.startswith(EXPERT) for name in free)


def test_the_vlm_learns_from_text_as_without_an_expert() -> None:
    model = tiny_student()
    prefix, text, noisy = prefix_of(model.config), text_of(2, 4), noisy_of(model, 2)
    alone = gradients(model, text_loss(model(prefix, text=text)["text_logits"]))
    out = model(prefix, text=text, noisy=noisy, insulate=True)
    both = gradients(model, text_loss(out["text_logits"]) + out["velocity"].square().mean())
    vlm = {name: gradient for name, gradient in both.items() if not name.startswith(EXPERT)}
    assert vlm.keys() == alone.keys()
    assert all(torch.equal(gradient, alone[name]) for name, gradient in vlm.items())


def test_one_pass_gives_what_two_give() -> None:
    model = tiny_student()
    prefix, text, noisy = prefix_of(model.config), text_of(2, 4), noisy_of(model, 2)
    out = model(prefix, text=text, noisy=noisy, insulate=True)
    torch.testing.assert_close(out["velocity"], model(prefix, noisy=noisy)["velocity"], atol=1e-6, rtol=0)
    torch.testing.assert_close(out["text_logits"], model(prefix, text=text)["text_logits"], atol=1e-6, rtol=0)


def test_what_follows_the_prompt() -> None:
    stage = stage_of(text_weight=1.0, fast_weight=1.0)
    batch = tiny_batch()  # sub-tasks: two, and one sample without; the last sample's episode ends half-way
    more = continuation(stage.processor, batch, True, stage.fast)
    actions, _ = stage.processor.actions(batch)
    assert stage.fast is not None
    for row in range(3):
        words, acts = (more.labels[row][mask[row]].tolist() for mask in (more.text_mask, more.fast_mask))
        name = batch.subtask[row]
        assert words == ([*stage.processor.tokenizer.encode(name), EOS] if name else [])
        assert acts[-1] == EOS
        ends = len(acts) - 1 - len(stage.processor.tokenizer.encode("|"))
        chunk = torch.from_numpy(stage.fast.decode(acts[:ends], horizon=4, action_dim=len(ACTION_DIMS)))
        expected = actions[row][:, ACTION_DIMS].clone()
        if row == 2:
            expected[2:] = expected[1]
        assert (chunk - expected).square().mean().sqrt() < 0.5 / stage.fast.scale
        both = words + acts
        assert more.inputs.tokens[row][more.inputs.mask[row]].tolist() == both[:-1]


def test_a_video_without_actions_and_sub_tasks_has_nothing_to_say() -> None:
    stage = stage_of(text_weight=1.0, fast_weight=1.0)
    batch = replace(tiny_batch(2), subtask=["", ""], action_mask=torch.zeros(2, 4, 44, dtype=torch.bool))
    more = continuation(stage.processor, batch, True, stage.fast)
    assert not more.inputs.mask.any()
    assert not (more.text_mask | more.fast_mask).any()
    module = ready(stage)
    loss, metrics = stage.loss(module, batch)
    assert loss == 0
    assert set(metrics) == {"flow_loss", "text_loss", "fast_loss"}
    loss.backward()
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad), "DDP waits for each of them"


@pytest.mark.parametrize("loss", ["flow", "latbot"])
def test_the_loss_is_the_weighted_sum(loss: str) -> None:
    stage = stage_of(loss=loss, text_weight=0.3, fast_weight=2.0)
    module, batch = ready(stage), tiny_batch()
    total, metrics = stage.loss(module, batch)
    plain = ActionStage(ActionConfig(model=tiny_config(), loss=loss), normalisation(), ["front"], [*TASKS, *SUBTASKS])  # pyright: ignore[reportArgumentType]
    flow, parts = plain.loss(module, batch)
    for name, value in parts.items():
        torch.testing.assert_close(metrics[name], value, atol=1e-6, rtol=1e-6)
    more = continuation(stage.processor, batch, True, stage.fast)
    logits = module(stage.processor.prefix(batch, "action"), text=more.inputs)["text_logits"]
    text, fast = (next_token_loss(logits, more.labels, mask).mean() for mask in (more.text_mask, more.fast_mask))
    torch.testing.assert_close(total, flow + 0.3 * text + 2.0 * fast, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(metrics["fast_loss"], fast.detach(), atol=1e-6, rtol=1e-6)


def test_fast_tokens_travel_with_the_model_and_can_be_given(tmp_path: Path) -> None:
    stage = stage_of(fast_weight=1.0)
    assert stage.fast is not None
    stage.save_assets(tmp_path)
    again = FastTokens.load(tmp_path / "fast", stage.processor.model.vocab_size)
    chunk = torch.rand(4, 4).numpy()
    assert again.encode(chunk) == stage.fast.encode(chunk)
    given = ActionStage(
        ActionConfig(model=tiny_config(), fast_weight=1.0, fast_tokens=str(tmp_path / "fast")),
        normalisation(), ["front"], TASKS,
    )  # fmt: skip
    assert given.fast is not None
    assert given.fast.encode(chunk) == stage.fast.encode(chunk)


def test_without_insulation_the_expert_teaches_the_vlm_too() -> None:
    insulated, free = stage_of(text_weight=1.0), stage_of(text_weight=1.0, insulate=False)
    module, batch = ready(insulated), tiny_batch()
    a, b = (gradients(module, stage.loss(module, batch)[0]) for stage in (insulated, free))
    assert a.keys() == b.keys()
    key = "paligemma_with_expert.paligemma.model.language_model.layers.0.self_attn.v_proj.weight"
    assert not torch.equal(a[key], b[key])
    assert all(torch.equal(a[name], b[name]) for name in a if name.startswith(EXPERT))
