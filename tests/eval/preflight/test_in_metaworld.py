"""A preflight of Meta-World itself, in its own process: clean it passes, with faults planted it names them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_mixtures.lerobot.layout import EXECUTED_COLUMN
from data_mixtures.readers.lerobot import LeRobotReader
from data_mixtures.spaces.embodiments import METAWORLD_SAWYER
from data_mixtures.statistics.normalisation import Normalisation, Quantiles
from data_mixtures.statistics.seen import CameraSeen, Seen
from eval.metaworld.recording import KindCounts, RecordConfig, record
from eval.metaworld.suite import MetaWorldSuite
from eval.preflight.checkpoint import Checkpoint
from eval.preflight.preflight import PreflightConfig, preflight

SUITE = MetaWorldSuite(tasks=("pick-place-v3",), episodes=2, cameras=("corner",), image_size=48)


class WrongSuite(MetaWorldSuite):
    """Played by the simulator with faults."""

    simulator = "tests.eval.preflight.wrong_metaworld:WrongMetaWorld"


@pytest.fixture(scope="module")
def demonstrations(simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = RecordConfig(("pick-place-v3",), KindCounts(3), image_size=48, cameras=("corner",), workers=1)
    return record(config, tmp_path_factory.mktemp("pick") / "data")


def checkpoint(folder: Path) -> Checkpoint:
    reader = LeRobotReader(folder)
    columns = [reader.raw_columns(index, ["observation.state", EXECUTED_COLUMN]) for index in range(len(reader))]
    states = METAWORLD_SAWYER.to_unified_state(np.concatenate([one["observation.state"] for one in columns]))
    actions = METAWORLD_SAWYER.to_unified_action(np.concatenate([one[EXECUTED_COLUMN] for one in columns]))
    state = Quantiles.of(states, np.broadcast_to(METAWORLD_SAWYER.state_mask, states.shape))
    action = Quantiles.of(actions, np.broadcast_to(METAWORLD_SAWYER.action_mask, actions.shape))
    frames = np.concatenate([reader.frames(index, "corner", np.arange(0, 20, 4)) for index in range(len(reader))])
    seen = Seen({"corner": CameraSeen.of(frames)}, (27.0,))
    return Checkpoint("pick", ("corner",), 16, Normalisation(state, action), METAWORLD_SAWYER, True, 48, seen)


@pytest.mark.slow
def test_clean_it_passes_and_planted_faults_are_named(demonstrations: Path) -> None:
    own = checkpoint(demonstrations)
    config = PreflightConfig(demonstrations=demonstrations, episodes=2)
    clean = preflight(SUITE, own, config)
    assert clean.verdict == "passed", [str(finding) for finding in clean.findings if finding.verdict != "passed"]
    assert clean.facts["assets"] == "own"
    assert clean.of("replay")[0].values == {"played": 2, "succeeded": 2}
    wrong = preflight(WrongSuite(**vars(SUITE)), own, config)
    causes = {finding.check: finding.cause for finding in wrong.findings if finding.verdict == "refused"}
    assert causes["replay"].startswith("gripper polarity is flipped: with that undone the demonstrations succeed")
    assert causes["pictures"] == "pictures are rotated by 180 degrees"
    assert set(causes) == {"replay", "pictures"}
    other = preflight(replace(SUITE, tasks=("coffee-button-v3",)), own, PreflightConfig())
    assert {finding.verdict for finding in other.of("replay")} == {"not checked"}
