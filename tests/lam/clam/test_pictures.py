"""Latent actions and policies of pictures, in a world a few pixels wide."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from data_mixtures.transitions import Grounding, Transitions, Windows
from lam.clam.agent import ClonedAgent
from lam.clam.config import (
    ChunkPolicyConfig,
    DecoderConfig,
    ImpalaConfig,
    ImpalaDynamicsConfig,
    LamConfig,
    PolicyConfig,
    QuantiserConfig,
    SpaceTimeConfig,
)
from lam.clam.frames import Frames
from lam.clam.heldout import heldout_errors
from lam.clam.initialise import initial_value
from lam.clam.model import LatentActionModel, Sizes
from lam.clam.policy import ClonedPolicy
from lam.clam.policy_stage import Imitated, PolicyStage
from lam.clam.relabel import relabelled
from lam.clam.stage import ActionError, ClamStage, load_lam, reading
from lam.clam.standard import Statistics
from tests.lam.clam.worlds import ROBOT, moving_dots
from vla.observation import Observation
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.loop import train

SIZE, CONTEXT = 8, 1
PLAY, LABELLED, HELDOUT = moving_dots(0, episodes=24), moving_dots(1), moving_dots(2, episodes=4)
SIZES = Sizes([0, 1, 2], [0, 1], CONTEXT, cameras=1, image_size=SIZE)
STATISTICS = Statistics.of(PLAY, LABELLED, 0.01)
SPACE_TIME = SpaceTimeConfig(SIZE, 4, 1, 1, width=16, feedforward=32, num_heads=2, dropout=0.0, state_columns=2)
EYES = ImpalaConfig(image_size=SIZE, channels=(2, 4), scale=2, feature_dim=8)
OPTIM = OptimConfig(lr=1e-2)
LOOP = LoopConfig(steps=150, batch_size=32, log_every=50, save_every=0)


def config(network: str, **changed: object) -> LamConfig:
    networks = {"space_time": SPACE_TIME, "impala": ImpalaDynamicsConfig(EYES, base_width=8)}
    given = {network: networks[network], "latent_dim": 4, "decoder": DecoderConfig(16, (16,))} | changed
    return LamConfig(**given)  # type: ignore[arg-type]


def model_of(config: LamConfig) -> LatentActionModel:
    model, generator = LatentActionModel(config, SIZES), torch.Generator().manual_seed(0)
    statistics = {f"standard.{name}": value for name, value in vars(STATISTICS).items()}
    names = model.state_dict()
    model.load_state_dict({n: statistics[n] if n in statistics else initial_value(model, n, generator) for n in names})
    return model.eval()


def play() -> Transitions:
    grounding = Grounding(Windows(LABELLED, CONTEXT), every=2, batch_size=32)
    return Transitions(Windows(PLAY, CONTEXT), 0, grounding=grounding, batch_size=32)


def fit(lam: LamConfig, run: Path, loop: LoopConfig, source: Transitions | None = None) -> Path:
    evaluators = [ActionError(Transitions(Windows(HELDOUT, CONTEXT), 0, labelled=True))]
    train(ClamStage(lam, SIZES, STATISTICS), source or play(), loop, OPTIM, ParallelConfig(), run, evaluators)
    return run / "model"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(config("space_time"), tmp_path_factory.mktemp("fitted"), LOOP)


def test_the_papers_parameter_count_less_attentions_that_are_never_called() -> None:
    sizes = Sizes(list(range(39)), list(range(4)), context=2, cameras=1, image_size=64)
    with torch.device("meta"):
        lam = LatentActionModel(LamConfig(space_time=SpaceTimeConfig(), inputs="raw"), sizes)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in lam.named_children()}
    assert count["inverse"] + count["forward_model"] == 12_163_344 - 789_504


@pytest.mark.parametrize("inputs", ["raw", "change"])
@pytest.mark.parametrize("network", ["space_time", "impala"])
def test_the_cheat_loss_is_of_predicting_the_picture_before(network: str, inputs: str) -> None:
    """And predicting the picture itself has none; table 9 has both of pixels in [0, 1], whatever is learned."""
    model, heldout = model_of(config(network, inputs=inputs)), Windows(HELDOUT, CONTEXT)
    pictures = HELDOUT.images.float().div(255)
    transitions = 1 if network == "impala" else 2

    class Oracle(nn.Module):
        images = torch.empty(0)

        def forward(self, frames: Frames, latents: torch.Tensor) -> torch.Tensor:
            assert frames.image is not None
            assert frames.image.shape[1:3] == (CONTEXT + 1, 3 if inputs == "raw" else 6)
            assert latents.shape[1] == transitions
            truth = Oracle.images.flatten(2).float() / 127.5 - 1
            if inputs == "change":
                truth = truth.diff(dim=1) / model.standard.picture_change
            return truth[:, -transitions:]

    model.forward_model = Oracle()
    for batch in Transitions(heldout, 0).in_order(1000):
        Oracle.images = batch.images
        found = heldout_errors(model, heldout)
    assert found["reconstruction"] < 1e-12
    each = (pictures[1:] - pictures[:-1]).square().flatten(1).mean(1)
    rows = heldout.frame
    if transitions == 1:
        by_hand = each[rows].mean()
    else:  # the frame before an episode's start counts for nothing
        first = rows == heldout.begin
        by_hand = torch.where(first, each[rows], (each[rows] + each[(rows - 1).clamp(min=0)]) / 2).mean()
    assert found["copy"] == pytest.approx(float(by_hand), rel=1e-4)


def test_the_first_columns_of_the_state_stand_beside_pictures_and_no_others() -> None:
    model, batch = model_of(config("space_time", inputs="raw")), play().batch(range(4))
    windows = reading(batch)
    found = model(windows)["reconstruction"]
    for column, seen in ((1, True), (2, False)):
        states = windows.states.clone()
        states[..., column] += 1
        assert torch.equal(model(windows._replace(states=states))["reconstruction"], found) is not seen


@pytest.mark.parametrize("lam", [config("space_time"), config("impala"), config("impala", quantiser=QuantiserConfig())])
def test_the_decoders_error_shapes_the_latents_and_no_picture(lam: LamConfig) -> None:
    model = model_of(lam)
    found = model(reading(play().batch(range(32, 64))))
    assert found["action"].shape == (32,)
    for name, parts in (("reconstruction", {"inverse", "forward_model"}), ("action", {"inverse", "decoder"})):
        model.zero_grad()
        found[name].sum().backward(retain_graph=True)
        reached = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
        assert reached == parts


def test_pictures_name_actions_from_a_few_labels_and_are_predicted_better_than_copied(fitted: Path) -> None:
    found = heldout_errors(load_lam(fitted), Windows(HELDOUT, CONTEXT))
    assert found["action_error"] < 0.15  # uniform actions have a third
    assert found["reconstruction"] < 0.85 * found["copy"]


def test_a_supervised_inverse_model_of_pictures_has_no_forward_model(tmp_path: Path) -> None:
    lam = config("impala", supervised=True)
    source = Transitions(Windows(LABELLED, CONTEXT), 0, labelled=True)
    folder = fit(lam, tmp_path, replace(LOOP, steps=60), source)
    found = heldout_errors(load_lam(folder), Windows(HELDOUT, CONTEXT))
    assert found.keys() == {"action_error"}
    assert found["action_error"] < 0.25


@pytest.mark.parametrize(
    "lam",
    [config("space_time", space_time=replace(SPACE_TIME, dropout=0.2)), config("impala", inputs="raw")],
)
def test_a_run_of_pictures_that_stopped_ends_with_the_bits_of_one_that_did_not(lam: LamConfig, tmp_path: Path) -> None:
    short = replace(LOOP, steps=6, save_every=2, eval_every=3, keep_best="action_error", log_every=1)
    whole = fit(lam, tmp_path / "whole", short)

    class StopError(Exception):
        pass

    class Stops(Transitions):
        def batch(self, sample_ids):  # noqa: ANN001, ANN202
            if sample_ids[0] >= 32 * 4:
                raise StopError
            return super().batch(sample_ids)

    grounding = Grounding(Windows(LABELLED, CONTEXT), every=2, batch_size=32)
    with pytest.raises(StopError):
        fit(lam, tmp_path / "stopped", short, Stops(Windows(PLAY, CONTEXT), 0, grounding=grounding, batch_size=32))
    again = fit(lam, tmp_path / "stopped", short)
    one, other = load_file(whole / "model.safetensors"), load_file(again / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


POLICIES = {
    "impala": PolicyConfig(impala=EYES, frame_stack=3, state_columns=0),
    "frozen": PolicyConfig(pretrained="frozen", frame_stack=2, state_columns=2),
    "tuned": PolicyConfig(pretrained="tuned", frame_stack=2, state_columns=2),
    "chunk": PolicyConfig(chunk=ChunkPolicyConfig(3, 16, 16, 2, 1), frame_stack=2),
}


def policy_stage(fitted: Path, policy: PolicyConfig) -> tuple[PolicyStage, Transitions]:
    model = load_lam(fitted)
    latents = relabelled(model, Windows(PLAY, CONTEXT), policy.horizon)
    imitated, small = Imitated.of(latents, model, True), {"embedding_dim": 16, "hidden_dims": (16,)}
    policy = replace(policy, **({} if policy.chunk else small))  # type: ignore[arg-type]
    sizes = replace(SIZES, cameras=0, image_size=0) if policy.chunk else SIZES  # cameras ask for a ResNet: slow
    statistics = replace(STATISTICS, picture_change=None) if policy.chunk else STATISTICS
    cameras = [] if policy.chunk else ["top"]
    stage = PolicyStage(policy, sizes, statistics, imitated, ROBOT, 10.0, cameras=cameras)
    return stage, Transitions(Windows(PLAY, policy.frame_stack - 1, policy.horizon), 0, latents=latents)


@pytest.mark.parametrize("name", POLICIES)
def test_an_agent_acts_as_the_policy_that_was_trained(fitted: Path, tmp_path: Path, name: str) -> None:
    stage, source = policy_stage(fitted, POLICIES[name])
    train(stage, source, replace(LOOP, steps=10), OPTIM, ParallelConfig(), tmp_path)
    agent, stack = ClonedAgent.from_pretrained(tmp_path / "model"), POLICIES[name].frame_stack
    assert agent.cameras == (() if name == "chunk" else ("top",))
    assert (agent.frame_stack, agent.horizon) == (stack, 3 if name == "chunk" else 1)
    moments = [
        Observation({"top": picture[0].permute(1, 2, 0).numpy()}, state[:3].numpy(), "")
        for picture, state in zip(PLAY.images[:stack], PLAY.states[:stack], strict=True)
    ]
    first, last = moments[0], replace(moments[-1], before=tuple(moments[:-1]))
    acted = agent.act_many([first, last], [0, 0])
    held = torch.tensor([[0] * stack, list(range(stack))])
    images = PLAY.images[held] if agent.cameras else PLAY.images[held][:, :, :0]
    by_hand = agent.policy.act(PLAY.states[held], images)
    assert np.allclose(acted, by_hand.numpy(), atol=1e-5)
    assert not np.allclose(acted[0], acted[1], atol=1e-5)
    if agent.cameras:
        with pytest.raises(ValueError, match="images lack 'top'"):
            agent.act_many([replace(first, images={})], [0])
        with pytest.raises(ValueError, match=r"must be uint8 \[H, W, 3\], got float64 \[8, 8\]"):
            agent.act_many([replace(first, images={"top": np.zeros((8, 8))})], [0])
        twice = {"top": first.images["top"].repeat(2, 0).repeat(2, 1)}
        assert np.allclose(agent.act_many([replace(first, images=twice)], [0]), acted[:1], atol=0.2)  # resized


@pytest.mark.parametrize("name", ["frozen", "tuned"])
def test_eyes_of_stage_one_see_as_it_saw_and_learn_only_if_told(fitted: Path, tmp_path: Path, name: str) -> None:
    stage, source = policy_stage(fitted, POLICIES[name])
    train(stage, source, replace(LOOP, steps=5), OPTIM, ParallelConfig(), tmp_path)
    lam, policy = load_file(fitted / "model.safetensors"), load_file(tmp_path / "model" / "model.safetensors")
    eyes = {key.removeprefix("eyes."): value for key, value in policy.items() if key.startswith("eyes.")}
    changed = {key for key, value in eyes.items() if not torch.equal(value, lam[key])}
    assert not any(key.startswith(("standard.", "inverse.la_head.")) for key in changed)
    assert bool(changed) is (name == "tuned")
    model = load_lam(fitted)
    batch = source.batch(range(4))
    assert batch.states is not None
    by_hand = model.inverse.features(model.frames(batch.states[:, :2], batch.images[:, :2]))  # type: ignore[operator]
    fresh = stage.build()
    own = fresh.state_dict()
    fresh.load_state_dict({k: stage.init_parameter(k, v.shape, torch.Generator()) for k, v in own.items()})
    assert fresh.eyes is not None
    assert torch.allclose(fresh.eyes(batch.states[:, :2], batch.images[:, :2]), by_hand, atol=1e-6)


def test_frozen_eyes_drop_nothing_while_a_policy_trains() -> None:
    lam = config("space_time", space_time=replace(SPACE_TIME, dropout=0.5))
    for name, alike in (("frozen", True), ("tuned", False)):
        eyes = ClonedPolicy(POLICIES[name], SIZES, None, lam=lam).train().eyes
        assert eyes is not None
        assert any(module.training for module in eyes.modules()) is not alike


def test_a_policy_of_pictures_sees_no_more_of_the_state_than_it_is_told(fitted: Path) -> None:
    stage, source = policy_stage(fitted, POLICIES["impala"])
    policy, generator = stage.build(), torch.Generator().manual_seed(0)
    own = policy.state_dict()
    policy.load_state_dict({k: stage.init_parameter(k, v.shape, generator) for k, v in own.items()})
    batch = source.batch(range(4))
    assert batch.states is not None
    seen = policy(batch.states[:, :3], batch.images[:, :3])
    assert torch.equal(policy(batch.states[:, :3] + 1, batch.images[:, :3]), seen)
    assert not torch.equal(policy(batch.states[:, :3], batch.images[:, :3].flip(1)), seen)
    with pytest.raises(ValueError, match="policy.state_columns is None: say how many"):
        PolicyConfig(impala=EYES)
    with pytest.raises(ValueError, match="policy.state_columns is 4: the states have 3 numbers"):
        ClonedPolicy(replace(POLICIES["impala"], state_columns=4), SIZES, None)


def test_what_does_not_fit_says_so() -> None:
    with pytest.raises(ValueError, match="policy.frame_stack is 3: give 1 to 2, as `data.context` is 1"):
        ClonedPolicy(replace(POLICIES["frozen"], frame_stack=3), SIZES, None, lam=config("space_time"))
    with pytest.raises(ValueError, match="policy.frame_stack is 2: give 3"):
        ClonedPolicy(POLICIES["frozen"], SIZES, None, lam=config("impala"))
    with pytest.raises(ValueError, match="predicted_steps is 2: give 1, pictures are predicted one step ahead"):
        config("space_time", predicted_steps=2)
    with pytest.raises(ValueError, match="pictures of 8 pixels a side, and the data show 1 cameras of 16"):
        LatentActionModel(config("space_time"), replace(SIZES, image_size=16))
    with pytest.raises(ValueError, match="`policy.chunk` has sizes of its own"):
        PolicyConfig(chunk=ChunkPolicyConfig(), chunk_size=2)
    still = replace(PLAY, images=torch.zeros_like(PLAY.images))
    with pytest.raises(ValueError, match="no pixel of these pictures ever changes"):
        Statistics.of(still, LABELLED, 0.01)


def test_actions_of_a_chunk_are_those_from_the_present_on(tmp_path: Path) -> None:
    """With a stack of two the first action of a window is a past one, and is not imitated."""
    policy = PolicyConfig("action", "labelled", 32, (32,), chunk_size=2, frame_stack=2)
    sizes = replace(SIZES, cameras=0, image_size=0)
    stage = PolicyStage(policy, sizes, replace(STATISTICS, picture_change=None), None, ROBOT, 10.0)
    batch = Transitions(Windows(LABELLED, 1, 2), 0, labelled=True).batch(range(16))
    assert batch.steps_mask is not None
    scaled = stage.build()  # only for its units

    class Echo(nn.Module):
        def forward(self, states: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
            low, high = STATISTICS.action_low, STATISTICS.action_high
            return 2 * (batch.actions[:, 1:, :2] - low) / (high - low) - 1

    assert scaled.config.horizon == 2
    assert float(stage.loss(Echo(), batch)[0]) < 1e-12
    (tmp_path / "clam_policy.json").parent.mkdir(exist_ok=True)
    stage.save_assets(tmp_path)
    assert json.loads((tmp_path / "clam_policy.json").read_text())["policy"]["frame_stack"] == 2
