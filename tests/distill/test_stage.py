"""Stage 2 as a stage: what it trains, what it reads, and that it learns."""

from dataclasses import replace

import pytest
import torch

from data_mixtures.batch import Batch
from distill.evaluate import evaluate, generate_subtasks
from distill.stage import DistillConfig, DistillStage, LatentStatistics
from tests.vla.models.pi05.students import LATENT, SUBTASKS, TASKS, normalisation, randomise, tiny_batch, tiny_config
from vla.train.initialise import initialise


def stage_of(teacher=None, statistics=None, **fields: object) -> DistillStage:
    config = DistillConfig(**{"model": tiny_config(), **fields})  # pyright: ignore[reportArgumentType]
    return DistillStage(config, normalisation(), ["front"], TASKS + SUBTASKS, teacher, statistics)


def test_loss_is_the_weighted_sum_and_a_mean_over_samples():
    stage = stage_of(kl_weight=0.3, reasoning_weight=0.7)
    module, batch = stage.build(), tiny_batch(latents=True)
    randomise(module)
    loss, m = stage.loss(module, batch)
    torch.testing.assert_close(loss.detach(), m["mse"] + 0.3 * m["kl"] + 0.7 * m["reasoning"])
    singles = []
    for i in range(3):
        pick = {k: v[i : i + 1] for k, v in vars(batch).items() if isinstance(v, (torch.Tensor, list))}
        singles.append(stage.loss(module, replace(batch, **pick))[0])
    torch.testing.assert_close(loss, torch.stack(singles).mean())


@pytest.mark.parametrize("reasoning_weight", [0.5, 0.0])
def test_what_has_no_gradient_is_frozen_and_nothing_else(reasoning_weight: float):
    stage = stage_of(reasoning_weight=reasoning_weight)
    module = stage.build()
    randomise(module)
    stage.loss(module, tiny_batch(latents=True))[0].backward()
    reached = {name for name, p in module.named_parameters() if p.grad is not None}
    assert reached == {name for name, p in module.named_parameters() if p.requires_grad}
    assert not any("gemma_expert" in name or name.startswith("action_") for name in reached)


def test_neither_state_nor_later_frames_are_read():
    stage = stage_of()
    module, batch = stage.build(), tiny_batch(latents=True)
    randomise(module)
    other = replace(batch, images=torch.cat([batch.images, 255 - batch.images], dim=1), state=batch.state + 1)
    assert stage.loss(module, other)[0] == stage.loss(module, batch)[0]


def test_online_teacher_gives_the_targets():
    batch = tiny_batch(latents=True)
    assert batch.latents is not None
    without = replace(batch, latents=None)
    stage = stage_of(teacher=lambda b: batch.latents)
    torch.testing.assert_close(stage.targets(without), batch.latents)
    with pytest.raises(ValueError, match=r"set data\.latents"):
        stage_of().targets(without)


def test_standardised_targets():
    latents = torch.randn(64, LATENT.num_tokens, LATENT.width) * 3 + 2
    latents[:, 0, 0] = 5.0
    statistics = LatentStatistics.of(latents.split(10))
    torch.testing.assert_close(statistics.mean, latents.mean(0), atol=1e-4, rtol=1e-4)
    stage = stage_of(statistics=statistics, standardise_latents=True)
    batch: Batch = replace(tiny_batch(64), latents=latents)
    target = stage.targets(batch)
    assert target[:, 0, 0].abs().max() == 0
    assert target[:, 1:].mean().abs() < 1e-4
    assert target[:, 1:].std().item() == pytest.approx(1.0, abs=0.01)
    with pytest.raises(ValueError, match="no statistics"):
        stage_of(standardise_latents=True)


def test_wrong_latents_are_named():
    stage = stage_of()
    batch = replace(tiny_batch(), latents=torch.zeros(3, 4, 8))
    with pytest.raises(ValueError, match=r"latents are \[4, 8\] a sample, model.latent says \[5, 8\]"):
        stage.targets(batch)
    with pytest.raises(ValueError, match=r"model\.latent is not set"):
        stage_of(model=tiny_config(latent=None))


def test_it_learns_latents_and_sentences():
    stage = stage_of()
    with torch.device("meta"):
        module = stage.build()
    module.to_empty(device="cpu")
    initialise(module, stage, seed=0)
    batch = tiny_batch(latents=True)
    optimiser = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(120):
        loss, _ = stage.loss(module, batch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
    figures = evaluate(module, stage, [batch])
    assert figures.explained_variance > 0.8
    assert figures.token_accuracy == 1.0
    assert figures.sentence_accuracy == 1.0
    assert generate_subtasks(module, stage.processor, batch)[:2] == SUBTASKS[:2]
