"""A run goes on with the objective it began with, or says which field is another one."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data_mixtures.batch import Batch
from distill.stage import DistillConfig, DistillStage
from lam.latbot.config import nano
from lam.latbot.stage import LatBotStage, tokenizer_for
from tests.vla.models.pi05.students import LATENT, TASKS, normalisation, tiny_batch, tiny_config
from vla.models.pi05.stage import ActionConfig, ActionStage
from vla.models.pi05.trainable import LoraTargets
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.loop import train

LORA = LoraTargets(rank=2, alpha=4.0)
CONFIG = ActionConfig(model=tiny_config(), train="lora", lora=LORA, flow_samples=3)


class Windows:
    """The same observations in every batch, under the ids asked for."""

    def batch(self, sample_ids: Sequence[int]) -> Batch:
        return replace(tiny_batch(len(sample_ids)), sample_ids=torch.tensor(list(sample_ids)))


def stage_of(config: ActionConfig) -> ActionStage:
    return ActionStage(config, normalisation(), ["front"], TASKS)


def run(folder: Path, config: ActionConfig) -> dict[str, torch.Tensor]:
    """Train two updates, or what is left of them; the weights."""
    loop = LoopConfig(steps=2, batch_size=2, save_every=1)
    train(stage_of(config), Windows(), loop, OptimConfig(lr=1e-3), ParallelConfig(), folder)
    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A run as it was after its first update, and the weights it would have ended with."""
    folder = tmp_path_factory.mktemp("run")
    expected = run(folder, CONFIG)
    (folder / "done.json").unlink()
    (folder / "checkpoints" / "step-00000002" / "progress.json").unlink()
    return folder, expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"lora": replace(LORA, alpha=8.0)},
            r"objective\.lora\.alpha is 8\.0, but .*step-00000001 was written with 4\.0",
        ),
        ({"lora": replace(LORA, vlm=("mlp",))}, r"lora\.vlm is \['mlp'\], but .* with \['attention', 'mlp'\]"),
        ({"flow_samples": 1}, r"objective\.flow_samples is 1, but .* was written with 3"),
        ({"model": tiny_config(latent=None)}, r"objective\.model\.latent\.scene_tokens is None, but .* with 2"),
    ],
)
def test_another_objective_is_refused(fields: dict[str, Any], words: str, stopped: Any) -> None:
    with pytest.raises(ValueError, match=words):
        run(stopped[0], replace(CONFIG, **fields))


def test_the_same_objective_goes_on_to_the_same_bits(stopped: Any) -> None:
    folder, expected = stopped
    found = run(folder, replace(CONFIG, lora=replace(LORA)))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_every_stage_tells_all_of_its_configuration_in_plain_values() -> None:
    action = stage_of(CONFIG).settings()
    distill = DistillStage(DistillConfig(model=tiny_config(), kl_weight=0.25), normalisation(), ["front"], TASKS)
    teacher = nano()
    lam = LatBotStage(teacher, normalisation(), tokenizer_for(teacher, TASKS), seed=7).settings()
    assert action["objective.model.latent.width"] == LATENT.width
    assert action["objective.augment.shift"] == 0
    assert distill.settings()["objective.kl_weight"] == 0.25
    assert lam["model.flow.num_draws"] == teacher.flow.num_draws
    assert lam["seed"] == 7
    for settings in (action, distill.settings(), lam):
        assert json.loads(json.dumps(settings)) == settings, "a checkpoint gives back what it was given"
