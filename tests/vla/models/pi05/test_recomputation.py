"""Activation checkpointing changes no bit of any mode's gradients; compiled blocks give the same losses."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.vla.models.pi05.students import tiny_batch
from tests.vla.models.pi05.test_stage import ready
from tests.vla.models.pi05.test_trainable import MODES, action_stage
from vla.models.pi05 import parallelize
from vla.nn import recompute as elementwise
from vla.train.engine import recompute


def loss_and_gradients(fields: dict[str, Any], checkpointing: bool) -> tuple[float, dict[str, Tensor]]:
    stage = action_stage(fields)
    module = ready(stage).train()
    if checkpointing:
        recompute(parallelize.blocks(module))
    loss = stage.loss(module, tiny_batch())[0]
    loss.backward()
    return loss.item(), {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("mode", "loss"), [*((mode, "flow") for mode in MODES), ("full", "latbot"), ("insulated lora", "latbot")]
)
def test_checkpointing_changes_no_bit(mode: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"loss": loss, "flow_samples": 2} | MODES[mode]
    plain, gradients = loss_and_gradients(fields, checkpointing=False)
    monkeypatch.setattr(elementwise, "WORTH", 1)  # one recomputation inside the other
    again, recomputed = loss_and_gradients(fields, checkpointing=True)
    assert again == plain
    assert recomputed.keys() == gradients.keys()
    assert all(torch.equal(recomputed[name], gradients[name]) for name in gradients)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*grad attribute of a Tensor")  # dynamo's own
@pytest.mark.parametrize("mode", ["full", "insulated lora"])
def test_compiled_blocks_have_the_same_losses_and_gradients(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise, "WORTH", 1)
    stage = action_stage(MODES[mode])
    module = ready(stage).train()

    def measured() -> list[float]:
        found = []
        for size in (3, 2):
            module.zero_grad()
            loss = stage.loss(module, tiny_batch(size))[0]
            loss.backward()
            found += [loss.item(), *(p.grad.norm().item() for p in module.parameters() if p.grad is not None)]
        return found

    eager = measured()
    for block in parallelize.blocks(module):
        block.compile()
    compiled = measured()
    losses = [0, len(eager) // 2]
    assert [compiled[i] for i in losses] == pytest.approx([eager[i] for i in losses], rel=1e-5)
    assert compiled == pytest.approx(eager, rel=2e-3, abs=1e-5)
