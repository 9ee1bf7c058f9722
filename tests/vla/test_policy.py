"""From a model folder to actions and sentences."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from data_mixtures.spaces.embodiments import METAWORLD_SAWYER, Embodiment
from data_mixtures.spaces.recorded_columns import RecordedColumns
from data_mixtures.statistics.normalisation import Normalisation, Quantiles
from data_mixtures.storage.frames import fit_square
from tests.vla.models.pi05.students import ACTION_DIMS, TASKS, normalisation, randomise, tiny_batch, tiny_config
from vla.models.pi05.generate import generate_text
from vla.models.pi05.model import Pi05
from vla.models.pi05.processor import Processor
from vla.models.pi05.sample import sample_actions
from vla.models.pi05.stage import ActionConfig, ActionStage
from vla.models.pi05.tokenizer import EOS, PromptTokenizer
from vla.policy import Committed, Observation, Policy, UnifiedObservation


@pytest.fixture(scope="module", params=["flow", "latbot"])
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tmp_path_factory.mktemp("model")
    stage = ActionStage(
        ActionConfig(model=tiny_config(), loss=request.param),
        normalisation(),
        ["front", "wrist"],
        TASKS,
        robot=METAWORLD_SAWYER,
        frame_size=16,
    )
    module = stage.build()
    randomise(module)
    save_file(module.state_dict(), folder / "model.safetensors")
    stage.save_assets(folder)
    return Policy.from_pretrained(folder)


def unified(count: int = 3) -> list[UnifiedObservation]:
    batch = tiny_batch(count)
    return [
        UnifiedObservation(
            images={"front": batch.images[i, 0, 0].permute(1, 2, 0).numpy()},
            state=batch.state[i].numpy(),
            state_mask=batch.state_mask[i].numpy(),
            instruction=batch.instruction[i],
        )
        for i in range(count)
    ]


def test_actions_have_physical_units_and_dimensions(policy: Policy):
    actions = policy.unified_chunks(unified(), seeds=[1, 2, 3])
    assert actions.shape == (3, 4, 44)
    assert actions.dtype == np.float32
    absent = [d for d in range(44) if d not in ACTION_DIMS]
    assert np.abs(actions[..., absent]).max() == 0
    assert np.abs(actions[..., ACTION_DIMS]).max() > 0
    assert 0 <= actions[..., 6].min() <= actions[..., 6].max() <= 1


def test_actions_do_not_depend_on_the_batch(policy: Policy):
    seen = unified()
    together = policy.unified_chunks(seen, seeds=[1, 2, 3])
    for i, seed in enumerate((1, 2, 3)):
        np.testing.assert_allclose(policy.unified_chunks([seen[i]], [seed])[0], together[i], atol=1e-6)
    assert np.abs(policy.unified_chunks(seen, seeds=[1, 2, 4])[2] - together[2]).max() > 1e-5


def test_policy_reads_what_training_reads(policy: Policy):
    batch = tiny_batch(cameras=2)
    batch = replace(batch, camera_mask=torch.tensor([[True, False]] * 3))
    noise = torch.randn(3, 4, 44) * policy.processor.action_dims
    trained = sample_actions(policy.model, policy.processor.prefix(batch, "action"), noise)
    front = [
        replace(o, images={"front": batch.images[i, 0, 0].permute(1, 2, 0).numpy()}) for i, o in enumerate(unified())
    ]
    seen = policy._batch([replace(o, state=s.numpy()) for o, s in zip(front, batch.state, strict=True)])
    acted = sample_actions(policy.model, policy.processor.prefix(seen, "action"), noise)
    torch.testing.assert_close(acted, trained)


def test_generated_text(policy: Policy):
    texts = policy.generate([raw(i) for i in range(3)], max_tokens=4)
    assert len(texts) == 3
    assert all(isinstance(text, str) for text in texts)


def test_errors_name_the_fix(policy: Policy):
    seen = unified(1)
    with pytest.raises(ValueError, match=r"this policy knows \['front', 'wrist'\]"):
        policy.unified_chunks([replace(seen[0], images={"side": seen[0].images["front"]})], [0])
    with pytest.raises(ValueError, match="hold no image"):
        policy.unified_chunks([replace(seen[0], images={})], [0])
    with pytest.raises(ValueError, match="seeds has 2 entries"):
        policy.unified_chunks(seen, [0, 1])
    with pytest.raises(ValueError, match="no finished model|does not exist|no such"):
        Policy.from_pretrained("/nonexistent")


def raw(seed: int = 0) -> Observation:
    """What a Sawyer's own driver would send, cameras of different sizes."""
    rng = np.random.default_rng(seed)
    front, wrist = (
        rng.integers(0, 256, (40, 30, 3)).astype(np.uint8),
        rng.integers(0, 256, (16, 16, 3)).astype(np.uint8),
    )
    state = rng.uniform(0, 1, 4).astype(np.float32)
    return Observation({"front": front, "wrist": wrist}, state, "open the drawer")


def test_robots_own_units(policy: Policy):
    observation = raw()
    actions = policy.act(observation, seed=5)
    assert actions.shape == (4, 4)
    assert actions.dtype == np.float32
    assert (policy.state_dim, policy.action_dim, policy.horizon) == (4, 4, 4)
    state, mask = METAWORLD_SAWYER.to_unified_state(observation.state), METAWORLD_SAWYER.state_mask
    same = UnifiedObservation(observation.images, state, mask, observation.instruction)
    chunk = policy.unified_chunks([same], [5])
    np.testing.assert_array_equal(METAWORLD_SAWYER.action_from_unified(chunk)[0], actions)


def test_frames_are_fitted_as_the_data_is(policy: Policy):
    observation = raw()
    fitted = {name: fit_square(f[None], 16)[0].transpose(1, 2, 0) for name, f in observation.images.items()}
    np.testing.assert_array_equal(policy.act(observation), policy.act(replace(observation, images=fitted)))


def test_committed_steps_come_back(policy: Policy):
    earlier = policy.act(raw(), seed=1)
    chunk = policy.act(raw(), seed=9, committed=Committed(earlier[1:], frozen=2))
    np.testing.assert_allclose(chunk[:2], earlier[1:3], atol=1e-5)
    assert np.abs(chunk[3] - policy.act(raw(), seed=9)[3]).max() >= 0
    both = policy.act_many([raw(), raw(1)], [9, 3], [Committed(earlier[1:], 2), None])
    np.testing.assert_allclose(both[0], chunk, atol=1e-5)
    np.testing.assert_allclose(both[1], policy.act(raw(1), seed=3), atol=1e-5)


def test_raw_errors_name_the_field(policy: Policy):
    for change, words in (
        ({"state": np.zeros(5)}, r"state has shape \(5,\): 'metaworld_sawyer' has 4"),
        ({"state": np.array([0, np.nan, 0, 0])}, r"state\[1\] is not finite"),
        ({"images": {"front": np.zeros((8, 8), np.uint8)}}, r"images\['front'\] must be uint8 \[H, W, 3\]"),
        ({"images": {"front": np.zeros((8, 8, 3))}}, r"got float64 \[8, 8, 3\]"),
    ):
        with pytest.raises(ValueError, match=words):
            policy.act(replace(raw(), **change))
    for actions in (np.zeros((9, 4)), np.zeros((2, 3)), np.full((2, 4), np.inf)):
        with pytest.raises(ValueError, match=r"committed\.actions"):
            policy.act(raw(), committed=Committed(actions, 1))


def test_another_robot_by_name(policy: Policy, tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(policy.model.state_dict(), folder / "model.safetensors")
    replace(policy.processor, robot=None).save(folder)
    assert Policy.from_pretrained(folder).action_dim == 44
    named = Policy.from_pretrained(folder, robot="libero_commands")
    assert (named.state_dim, named.action_dim) == (8, 7)
    with pytest.raises(ValueError, match="known: "):
        Policy.from_pretrained(folder, robot="nobody")


def recorded_policy(noisy_padding: bool) -> Policy:
    """A published layout: 8 action dimensions for a robot of 6 recorded joints."""
    joints = Embodiment("six", recorded=RecordedColumns(list(range(6)), list(range(6))))
    spread = Quantiles((*[-90.0] * 6, *[0.0] * 40), (*[90.0] * 6, *[0.0] * 40))
    action = Quantiles(spread.q01[:44], spread.q99[:44])
    config = tiny_config(action_dim=8, noisy_padding=noisy_padding, latent=None)
    processor = Processor(
        config,
        PromptTokenizer.train(TASKS, 1024),
        Normalisation(spread, action, "recorded", "lerobot"),
        ("base",),
        joints,
    )
    model = Pi05(config)
    randomise(model)
    return Policy(model, processor)


def test_recorded_joints_through_a_narrow_network():
    seen = Observation({"base": np.full((20, 30, 3), 90, np.uint8)}, np.linspace(-80, 80, 6), "fold the cloth")
    without, with_noise = (recorded_policy(noisy).act(seen, seed=2) for noisy in (False, True))
    assert without.shape == with_noise.shape == (4, 6)
    assert np.abs(without).max() > 1  # degrees
    assert np.abs(without - with_noise).max() > 1e-3  # the padded dimensions' noise is seen by the network


def test_a_network_too_narrow_for_the_data_is_refused():
    policy = recorded_policy(False)
    with pytest.raises(ValueError, match=r"dimensions \[4, 5\]: set model.action_dim to at least 6"):
        replace(policy.processor, model=tiny_config(action_dim=4, latent=None))


def test_sub_tasks_are_asked_for_as_they_were_learned(tmp_path: Path):
    """With insulation they follow the action prompt; a greedy answer there is the likeliest label of training."""
    config = ActionConfig(model=tiny_config(), text_weight=1.0)
    stage = ActionStage(config, normalisation(), ["front", "wrist"], TASKS, METAWORLD_SAWYER, 16)
    module = stage.build()
    randomise(module)
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    stage.save_assets(tmp_path)
    policy = Policy.from_pretrained(tmp_path)
    batch = policy._batch([policy._unified(raw())])
    prefix = stage.processor.prefix(batch, "action")
    with torch.no_grad():
        encoded = module.encode(prefix, needs_hidden=True)
        first = int(module.text_logits(encoded, prefix)[0, 0].argmax())
    written = generate_text(policy.model, policy.processor.prefix(batch, policy.processor.subtask_after), 1)
    assert written[0] == ([] if first == EOS else [first])
    assert policy.generate([raw()], max_tokens=1) == [policy.processor.tokenizer.decode(written[0])]


def test_committed_joints_keep_their_order():
    """Chosen and reordered columns: what comes out is what goes back in."""
    policy = recorded_policy(True)
    policy.robot = Embodiment("some", recorded=RecordedColumns([0, 1, 2], [5, 0, 3]))
    seen = Observation({"base": np.full((20, 30, 3), 90, np.uint8)}, np.linspace(-80, 80, 3), "fold the cloth")
    earlier = policy.act(seen, seed=1)
    again = policy.act(seen, seed=2, committed=Committed(earlier[1:], frozen=2))
    np.testing.assert_allclose(again[:2], earlier[1:3], atol=1e-3)
    assert np.abs(earlier[1:3] - earlier[1:3, ::-1]).max() > 1


def test_what_cannot_be_asked(policy: Policy):
    with pytest.raises(ValueError, match="observations is empty"):
        policy.act_many([], [])
    for seed in (None, 1.5, -1, 2**63):
        with pytest.raises(ValueError, match="seeds holds"):
            policy.act(raw(), seed=seed)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="committed has 1 entries for 2"):
        policy.act_many([raw(), raw()], [0, 1], [None])
    with pytest.raises(ValueError, match="frozen is 5"):
        policy.act(raw(), committed=Committed(np.zeros((2, 4)), 5))
    for change, words in (
        ({"instruction": None}, "instruction is None"),
        ({"images": {"front": [[0]]}}, "is a list"),
        ({"state": np.zeros(4, complex)}, "complex"),
    ):
        with pytest.raises(ValueError, match=words):
            policy.act(replace(raw(), **change))
    with pytest.raises(ValueError, match="dtype is 'float16'"):
        Policy.from_pretrained("nowhere", dtype="float16")  # pyright: ignore[reportArgumentType]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(ValueError, match="torch finds no GPU"):
        Policy.from_pretrained("nowhere", device="cuda")


def test_a_runs_folder_is_taken_for_its_model(policy: Policy, tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(policy.model.state_dict(), folder / "model.safetensors")
    policy.processor.save(folder)
    np.testing.assert_array_equal(Policy.from_pretrained(tmp_path).act(raw()), policy.act(raw()))


def test_damaged_weights_are_noticed(policy: Policy, tmp_path: Path):
    state = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    state["action_out_proj.weight"].fill_(float("nan"))
    save_file(state, tmp_path / "model.safetensors")
    policy.processor.save(tmp_path)
    with pytest.raises((RuntimeError, ValueError), match="not finite"):
        Policy.from_pretrained(tmp_path).act(raw())
