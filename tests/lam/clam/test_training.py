"""Stages 1 and 2 on the one loop, in a world known exactly: actions are found, runs resume to the bit."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_mixtures.transitions import Grounding, Transitions, Windows
from lam.clam.agent import ClonedAgent
from lam.clam.config import LamConfig, PolicyConfig
from lam.clam.model import Sizes
from lam.clam.policy_stage import Imitated, PolicyStage
from lam.clam.relabel import relabelled
from lam.clam.stage import ActionError, ClamStage, load_lam
from lam.clam.standard import Statistics
from tests.lam.clam.test_model import SIZES, config
from tests.lam.clam.worlds import ROBOT, pushed_points
from vla.observation import Observation
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.loop import train

PLAY, LABELLED, HELDOUT = pushed_points(0, episodes=40), pushed_points(1, episodes=10), pushed_points(2)
OPTIM = OptimConfig(lr=5e-3)
LOOP = LoopConfig(steps=300, batch_size=32, log_every=50, save_every=0)


def lam_stage(lam: LamConfig, **further: object) -> ClamStage:
    return ClamStage(lam, SIZES, Statistics.of(PLAY, LABELLED, 0.01), **further)  # type: ignore[arg-type]


def play(batch_size: int = 32, lam: LamConfig | None = None) -> Transitions:
    future = 1 if lam is None else lam.predicted_steps
    grounding = Grounding(Windows(LABELLED, 1, future), every=2, batch_size=32)
    return Transitions(Windows(PLAY, 1, future), 0, grounding=grounding, batch_size=batch_size)


def fit(lam: LamConfig, run: Path, loop: LoopConfig = LOOP) -> Path:
    """A latent action model trained jointly."""
    evaluators = [ActionError(Transitions(Windows(HELDOUT, 1), 0, labelled=True))]
    train(lam_stage(lam), play(lam=lam), loop, OPTIM, ParallelConfig(), run, evaluators)
    return run / "model"


def action_error(folder: Path) -> float:
    """On held-out windows, in units of [-1, 1]: uniform actions have a mean square of a third."""
    heldout = ActionError(Transitions(Windows(HELDOUT, 1), 0, labelled=True))
    return dict(heldout.run(load_lam(folder)))["action_error"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(config(), tmp_path_factory.mktemp("fitted"))


def test_actions_are_found_from_a_few_labels(fitted: Path) -> None:
    assert action_error(fitted) < 0.02


def test_a_decoder_trained_afterwards_leaves_the_latents_alone(tmp_path: Path) -> None:
    lam = config(joint=False)
    folder = fit(lam, tmp_path / "lam")
    untaught = action_error(folder)
    stage = lam_stage(lam, start=folder, trains="decoder")
    source = Transitions(Windows(LABELLED, 1), 0, labelled=True)
    train(stage, source, LOOP, OPTIM, ParallelConfig(), tmp_path / "decoder")
    before, after = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "decoder" / "model"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}
    assert action_error(tmp_path / "decoder" / "model") < untaught / 4


@pytest.mark.parametrize(
    "lam",
    [
        config(),
        config(prior_weight=0.01),
        config(predicted_steps=2),
    ],
)
def test_a_run_that_stopped_ends_with_the_bits_of_one_that_did_not(lam: LamConfig, tmp_path: Path) -> None:
    short = replace(LOOP, steps=12, save_every=6, eval_every=3, keep_best="action_error", log_every=1)
    whole = fit(lam, tmp_path / "whole", short)

    class StopError(Exception):
        pass

    class Stops(Transitions):
        def batch(self, sample_ids):  # noqa: ANN001, ANN202
            if sample_ids[0] >= 32 * 8:
                raise StopError
            return super().batch(sample_ids)

    source = Stops(
        Windows(PLAY, 1, lam.predicted_steps),
        0,
        grounding=Grounding(Windows(LABELLED, 1, lam.predicted_steps), 2, 32),
        batch_size=32,
    )
    evaluators = [ActionError(Transitions(Windows(HELDOUT, 1), 0, labelled=True))]
    run = tmp_path / "stopped"
    with pytest.raises(StopError):
        train(lam_stage(lam), source, short, OPTIM, ParallelConfig(), run, evaluators)
    again = fit(lam, run, short)
    one, other = load_file(whole / "model.safetensors"), load_file(again / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert json.loads((tmp_path / "whole" / "best.json").read_text()) == json.loads((run / "best.json").read_text())


def policy_stage(folder: Path, policy: PolicyConfig) -> tuple[PolicyStage, Transitions]:
    model = load_lam(folder)
    latents = relabelled(model, Windows(PLAY, 1), policy.chunk_size)
    stage = PolicyStage(
        policy,
        Sizes([0, 1, 2], [0, 1], 1),
        Statistics.of(PLAY, LABELLED, 0.01),
        Imitated.of(latents, model, policy.standardise),
        ROBOT,
        10.0,
    )
    return stage, Transitions(Windows(PLAY, 0, policy.chunk_size), 0, latents=latents)


def test_relabelling_is_the_inverse_models_word_on_each_transition(fitted: Path) -> None:
    model, windows = load_lam(fitted), Windows(PLAY, 1)
    latents = relabelled(model, windows, chunk_size=3)
    decoded = model.standard.physical(model.actions(latents))
    truth = PLAY.actions[windows.frame, :2]
    assert float((decoded[:, 0] - truth).square().mean()) < 0.02
    # Step 1 of a window is step 0 of the next one, and past the end the last transition again.
    assert torch.equal(latents[:18, 1], latents[1:19, 0])
    assert torch.equal(latents[18, 1], latents[18, 0])


@pytest.mark.parametrize("chunk_size", [1, 3])
def test_an_agent_acts_as_the_policy_that_was_trained(fitted: Path, tmp_path: Path, chunk_size: int) -> None:
    stage, source = policy_stage(fitted, PolicyConfig(embedding_dim=16, hidden_dims=(16,), chunk_size=chunk_size))
    train(stage, source, replace(LOOP, steps=20), OPTIM, ParallelConfig(), tmp_path)
    agent = ClonedAgent.from_pretrained(tmp_path / "model")
    assert (agent.horizon, agent.state_dim, agent.action_dim) == (chunk_size, 3, 2)
    seen = [Observation({}, np.array([0.1 * i, -0.2, 5.0], np.float32), "") for i in range(4)]
    together = agent.act_many(seen, [0] * 4)
    assert together.shape == (4, chunk_size, 2)
    assert np.abs(together).max() <= 1.001  # the range of the labelled actions
    for one, observation in zip(together, seen, strict=True):
        assert np.allclose(one, agent.act_many([observation], [7])[0], atol=1e-6)
    with pytest.raises(ValueError, match="give 3 finite numbers"):
        agent.act_many([Observation({}, np.zeros(4, np.float32), "")], [0])


def test_behaviour_cloning_learns_a_rule(tmp_path: Path) -> None:
    world = pushed_points(3, episodes=40)
    rule = world.states[:, :2].clamp(-1, 1)
    world.actions[:, :2] = rule
    stage = PolicyStage(
        PolicyConfig("action", "labelled", 32, (32,)), SIZES, Statistics.of(world, world, 0.01), None, ROBOT, 10.0
    )
    source = Transitions(Windows(world, 0), 0, labelled=True)
    train(stage, source, LOOP, OPTIM, ParallelConfig(), tmp_path)
    agent = ClonedAgent.from_pretrained(tmp_path / "model")
    points = np.array([[0.5, -0.5, 5.0], [-0.2, 0.8, 5.0]], np.float32)
    actions = agent.act_many([Observation({}, p, "") for p in points], [0, 0])[:, 0]
    assert np.abs(actions - points[:, :2]).max() < 0.15
