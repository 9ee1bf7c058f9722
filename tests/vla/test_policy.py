"""From a model folder to actions and sentences."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.vla.models.pi05.students import ACTION_DIMS, TASKS, normalisation, randomise, tiny_batch, tiny_config
from vla.models.pi05.sample import sample_actions
from vla.models.pi05.stage import ActionConfig, ActionStage
from vla.policy import Observation, Policy


@pytest.fixture(scope="module", params=["flow", "latbot"])
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tmp_path_factory.mktemp("model")
    stage = ActionStage(
        ActionConfig(model=tiny_config(), loss=request.param), normalisation(), ["front", "wrist"], TASKS
    )
    module = stage.build()
    randomise(module)
    save_file(module.state_dict(), folder / "model.safetensors")
    stage.save_assets(folder)
    return Policy.from_pretrained(folder)


def observations(count: int = 3) -> list[Observation]:
    batch = tiny_batch(count)
    return [
        Observation(
            images={"front": batch.images[i, 0, 0].permute(1, 2, 0).numpy()},
            state=batch.state[i].numpy(),
            state_mask=batch.state_mask[i].numpy(),
            instruction=batch.instruction[i],
        )
        for i in range(count)
    ]


def test_actions_have_physical_units_and_dimensions(policy: Policy):
    actions = policy.act(observations(), seeds=[1, 2, 3])
    assert actions.shape == (3, 4, 44)
    assert actions.dtype == np.float32
    absent = [d for d in range(44) if d not in ACTION_DIMS]
    assert np.abs(actions[..., absent]).max() == 0
    assert np.abs(actions[..., ACTION_DIMS]).max() > 0
    assert 0 <= actions[..., 6].min() <= actions[..., 6].max() <= 1


def test_actions_do_not_depend_on_the_batch(policy: Policy):
    seen = observations()
    together = policy.act(seen, seeds=[1, 2, 3])
    for i, seed in enumerate((1, 2, 3)):
        np.testing.assert_allclose(policy.act([seen[i]], [seed])[0], together[i], atol=1e-6)
    assert np.abs(policy.act(seen, seeds=[1, 2, 4])[2] - together[2]).max() > 1e-5


def test_policy_reads_what_training_reads(policy: Policy):
    batch = tiny_batch(cameras=2)
    batch = replace(batch, camera_mask=torch.tensor([[True, False]] * 3))
    noise = torch.randn(3, 4, 44) * policy.processor.action_dims
    trained = sample_actions(policy.model, policy.processor.prefix(batch, "action"), noise)
    front = [
        replace(o, images={"front": batch.images[i, 0, 0].permute(1, 2, 0).numpy()})
        for i, o in enumerate(observations())
    ]
    seen = policy._batch([replace(o, state=s.numpy()) for o, s in zip(front, batch.state, strict=True)])
    acted = sample_actions(policy.model, policy.processor.prefix(seen, "action"), noise)
    torch.testing.assert_close(acted, trained)


def test_generated_text(policy: Policy):
    texts = policy.generate(observations(), max_tokens=4)
    assert len(texts) == 3
    assert all(isinstance(text, str) for text in texts)


def test_errors_name_the_fix(policy: Policy):
    seen = observations(1)
    with pytest.raises(ValueError, match=r"this policy knows \['front', 'wrist'\]"):
        policy.act([replace(seen[0], images={"side": seen[0].images["front"]})], [0])
    with pytest.raises(ValueError, match="hold no image"):
        policy.act([replace(seen[0], images={})], [0])
    with pytest.raises(ValueError, match="seeds has 2 entries"):
        policy.act(seen, [0, 1])
    with pytest.raises(ValueError, match="no finished model|does not exist|no such"):
        Policy.from_pretrained("/nonexistent")
