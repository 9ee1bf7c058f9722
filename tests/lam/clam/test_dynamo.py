"""DynaMo: what its loss is, what reaches what, and a policy on its frozen embeddings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_mixtures.transitions import Transitions, Windows
from lam.clam.agent import ClonedAgent
from lam.clam.config import DynamoConfig, EncoderConfig, PolicyConfig, TransformerConfig
from lam.clam.dynamo import Dynamo, DynamoStage, covariance, load_encoder
from lam.clam.frames import Frames
from lam.clam.initialise import initial_value
from lam.clam.model import Sizes
from lam.clam.policy_stage import PolicyStage
from lam.clam.standard import Statistics
from tests.lam.clam.worlds import ROBOT, pushed_points
from vla.observation import Observation
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.loop import train

WORLD = pushed_points(0, episodes=20)
SIZES = Sizes([0, 1, 2], [0, 1], context=2)
NO_PICTURES = torch.zeros(1, 1, 0, 3, 0, 0, dtype=torch.uint8)
STATISTICS = Statistics.of(WORLD, WORLD, 0.01)
SMALL = DynamoConfig(
    EncoderConfig(embedding_dim=8, hidden_dims=(16,)),
    TransformerConfig(1, 1, width=16, feedforward=32, num_heads=2, dropout=0.0, sees_later_latents=False),
    latent_dim=2,
)
LOOP = LoopConfig(steps=100, batch_size=32, log_every=50, save_every=0)


def made() -> Dynamo:
    model, generator = Dynamo(SMALL, SIZES), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            statistic = name.removeprefix("encoder.standard.")
            known = getattr(STATISTICS, statistic, None) if name.startswith("encoder.standard.") else None
            tensor.copy_(initial_value(model, name, generator) if known is None else known)
    return model


def windows(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    batch = Transitions(Windows(WORLD, 2), 0).batch(range(count))
    assert batch.states is not None
    assert batch.steps_mask is not None
    return batch.states, batch.steps_mask


def test_the_dynamics_loss_is_the_cosine_to_embeddings_that_do_not_learn_from_it():
    model = made()
    states, mask = windows()
    mask = torch.ones_like(mask)
    dynamics, _ = model(states, mask)
    embeddings = model.encoder(states)
    latents = model.inverse(embeddings)

    predicted = model.forward_model(Frames(embeddings[:, :-1]), latents)
    target = embeddings[:, 1:]
    unit = predicted / predicted.norm(dim=-1, keepdim=True) * (target / target.norm(dim=-1, keepdim=True)).detach()
    expected = (1 - unit.sum(-1)).mean(1)
    torch.testing.assert_close(dynamics, expected)
    parameters = list(model.encoder.network.parameters())
    for one, other in zip(
        torch.autograd.grad(dynamics.sum(), parameters), torch.autograd.grad(expected.sum(), parameters), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_steps_outside_the_episode_count_for_nothing():
    model = made()
    states, mask = windows()
    mask = torch.ones_like(mask)
    mask[:, 0] = False
    dynamics, _ = model(states, mask)
    changed = states.clone()
    whole, _ = model(changed, torch.ones_like(mask))
    assert not torch.allclose(dynamics, whole)
    first, _ = model(states, ~mask)
    torch.testing.assert_close(whole, (first + 2 * dynamics) / 3)


def test_no_later_frame_changes_an_earlier_latent_or_prediction():

    model = made()
    states, _ = windows()
    later = states.clone()
    later[:, -1] += 1.0
    before, after = (model.encoder(of) for of in (states, later))
    latents, others = model.inverse(before), model.inverse(after)
    assert torch.equal(latents[:, :-1], others[:, :-1])
    assert not torch.equal(latents[:, -1], others[:, -1])
    predicted = model.forward_model(Frames(before[:, :-1]), latents)
    changed = model.forward_model(Frames(after[:, :-1]), others)
    assert torch.equal(predicted[:, :-1], changed[:, :-1])
    assert not torch.equal(predicted[:, -1], changed[:, -1])


def test_covariance_is_the_mean_square_of_those_of_different_dimensions():
    embeddings = torch.tensor([[1.0, 2.0, 0.0], [3.0, -2.0, 0.0], [-4.0, 0.0, 3.0]])
    found = np.cov(embeddings.numpy().T)
    pairs = [found[i, j] ** 2 for i in range(3) for j in range(3) if i != j]
    assert float(covariance(embeddings)) == pytest.approx(np.mean(pairs), rel=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("dynamo")
    source = Transitions(Windows(WORLD, 2), 0)
    train(DynamoStage(SMALL, SIZES, STATISTICS), source, LOOP, OptimConfig(lr=3e-3), ParallelConfig(), run)
    return run / "model"


def test_embeddings_become_predictable_and_stay_apart(trained: Path):
    states, mask = windows(64)
    encoder = load_encoder(trained)
    model = Dynamo(SMALL, SIZES)
    model.load_state_dict(load_file(trained / "model.safetensors"))
    with torch.no_grad():
        assert float(model(states, mask)[0].mean()) < float(made()(states, mask)[0].mean()) / 5
        embeddings = encoder(states[:, 0])
    torch.testing.assert_close(embeddings, model.encoder(states[:, 0]).detach())
    units = torch.nn.functional.normalize(embeddings - embeddings.mean(0), dim=-1)
    assert float((units @ units.T).abs().mean()) < 0.9  # they have not fallen onto a line
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_a_policy_learns_on_embeddings_and_leaves_the_encoder_alone(trained: Path, tmp_path: Path):
    stage = PolicyStage(
        PolicyConfig("action", "labelled", 16, (16,)),
        SIZES,
        STATISTICS,
        None,
        ROBOT,
        10.0,
        features=load_encoder(trained),
    )
    source = Transitions(Windows(WORLD, 0), 0, labelled=True)
    train(stage, source, replace(LOOP, steps=10), OptimConfig(lr=3e-3), ParallelConfig(), tmp_path)
    kept, policy = load_file(trained / "model.safetensors"), load_file(tmp_path / "model" / "model.safetensors")
    for name, value in policy.items():
        if name.startswith("features."):
            assert torch.equal(value, kept[name.replace("features.", "encoder.")])
    agent = ClonedAgent.from_pretrained(tmp_path / "model")
    seen = np.array([0.3, -0.2, 5.0], np.float32)
    actions = agent.act_many([Observation({}, seen, "")], [0])[0, 0]
    state = torch.zeros(1, 1, 46)
    state[0, 0, :3] = torch.from_numpy(seen)
    assert np.allclose(actions, agent.policy.act(state, NO_PICTURES)[0, 0].numpy(), atol=1e-6)
    torch.testing.assert_close(agent.policy.embedding.weight, policy["embedding.weight"])
    assert policy["embedding.weight"].shape == (16, 8)


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no DynaMo encoder"):
        load_encoder(tmp_path)


def test_later_latents_are_refused():
    with pytest.raises(ValueError, match=r"encoder.transformer.sees_later_latents is True: DynaMo is causal"):
        DynamoConfig(transformer=TransformerConfig())
