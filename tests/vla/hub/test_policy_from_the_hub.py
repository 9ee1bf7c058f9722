"""A policy that was pushed acts as the one that was trained, fetched by name or pulled into a folder."""

from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import HfApi
from safetensors.torch import save_file

from data_mixtures.spaces.embodiments import METAWORLD_SAWYER
from tests.vla.hub.conftest import make_run
from tests.vla.hub.hub_server import WRITE, Hub
from tests.vla.models.pi05.students import TASKS, normalisation, randomise, tiny_config
from vla.hub.card import Stated, write_card
from vla.hub.facts import read_facts
from vla.hub.pull import pull
from vla.hub.push import push
from vla.hub.run_files import Outgoing, collect
from vla.models.pi05.stage import ActionConfig, ActionStage
from vla.policy import Observation, Policy

# huggingface_hub 2.4 hands httpx2 its uploads the old way; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def trained(folder: Path) -> Path:
    """A run folder whose model is a real, tiny policy."""
    run = make_run(folder)
    for path in (run / "model").iterdir():
        path.unlink()
    stage = ActionStage(
        ActionConfig(model=tiny_config()),
        normalisation(),
        ["front", "wrist"],
        TASKS,
        robot=METAWORLD_SAWYER,
        frame_size=16,
    )
    module = stage.build()
    randomise(module)
    save_file(module.state_dict(), run / "model" / "model.safetensors")
    stage.save_assets(run / "model")
    return run


def test_the_same_actions_from_the_hub(hub: Hub, api: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(tmp_path / "run")
    facts = read_facts(run)
    card = write_card(facts, "alice/drawer", "step-600", Stated())
    assert facts.cameras == ("front", "wrist")
    assert (facts.robot, facts.horizon) == (METAWORLD_SAWYER.robot_type, 4)
    assert f"| robot | {METAWORLD_SAWYER.robot_type} |\n| cameras | front, wrist |\n" in card
    push([*collect(run)[0], Outgoing("README.md", card.encode())], "alice/drawer", "step-600", api=api)

    monkeypatch.setenv("HF_TOKEN", WRITE)
    there = pull("alice/drawer", tmp_path / "there", api=api).folder / "model"
    here, by_name, pulled = (
        Policy.from_pretrained(run / "model"),
        Policy.from_pretrained("alice/drawer", revision="step-600"),
        Policy.from_pretrained(there),
    )
    frame = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    seen = Observation({"front": frame}, np.zeros(here.state_dim, np.float32), TASKS[0])
    actions = here.act(seen, seed=3)
    assert np.abs(actions).max() > 0
    np.testing.assert_array_equal(by_name.act(seen, seed=3), actions)
    np.testing.assert_array_equal(pulled.act(seen, seed=3), actions)
