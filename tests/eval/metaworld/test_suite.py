"""Meta-World under the engine: rows as they were before there was one, and what a policy is shown."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from data_mixtures.spaces.embodiments import METAWORLD_SAWYER
from eval.engine.config import EngineConfig
from eval.engine.drivers import Driver, ExpertDriver, HoldDriver, PolicyDriver, RandomDriver
from eval.engine.engine import evaluate
from eval.metaworld.parts import RECORDED_SEEDS_FROM
from eval.metaworld.suite import MetaWorldSuite
from eval.metaworld.tasks import METAWORLD_TASKS, SUBSETS, metaworld_task
from eval.results.row import EpisodeRow
from vla.policy import Observation

# Recorded before the engine was there, when episodes ran in lock-step in one process: task, seed, success at any step
# and at the last one, steps. `looking` draws its commands from seed and pixels, so that a changed pixel shows.
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_rollouts.json").read_text())
SUITE = MetaWorldSuite(tasks=("drawer-open-v3", "plate-slide-v3", "coffee-button-v3"), episodes=4, image_size=32)
CONFIG = EngineConfig(videos=0)


class Policy:
    """What the driver asks of a policy; keeps what it was shown."""

    cameras, horizon, state_dim, action_dim = ("corner", "wrist"), 16, 4, 4

    def __init__(self) -> None:
        self.calls: list[list[Observation]] = []
        self.seeds: list[list[int]] = []

    def command(self, observation: Observation, seed: int) -> np.ndarray:
        raise NotImplementedError

    def act_many(self, observations: Any, seeds: Any) -> np.ndarray:
        self.calls.append(list(observations))
        self.seeds.append(list(seeds))
        return np.stack([self.command(o, seed) for o, seed in zip(observations, seeds, strict=True)])


class Looking(Policy):
    """Commands that depend on the pixels and the seed."""

    def command(self, observation: Observation, seed: int) -> np.ndarray:
        pixels = sum(int(picture.astype(np.int64).sum()) for picture in observation.images.values())
        command = np.random.default_rng([seed, pixels]).uniform(-1, 1, (16, 4)).astype(np.float32)
        return METAWORLD_SAWYER.action_from_unified(METAWORLD_SAWYER.to_unified_action(command))


class Steady(Policy):
    """One command for ever."""

    def __init__(self, *command: float) -> None:
        super().__init__()
        self._chunk = np.tile(np.array(command, np.float32), (16, 1))

    def command(self, observation: Observation, seed: int) -> np.ndarray:
        return self._chunk


def told(rows: list[EpisodeRow]) -> list[list[Any]]:
    return [[row.task, row.seed, row.success_any, row.success_final, row.steps] for row in rows]


@pytest.mark.slow
@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize("name", ["expert", "random", "hold", "looking"])
def test_rows_are_those_from_before_the_engine(name: str, tmp_path: Path) -> None:
    policy = Looking()
    drivers: dict[str, Driver] = {"expert": ExpertDriver(), "random": RandomDriver(), "hold": HoldDriver()}
    drivers["looking"] = PolicyDriver(policy, "none")
    assert told(evaluate(SUITE, drivers[name], CONFIG, tmp_path, name)) == GOLDEN[name]
    shown = {sum(int(p.astype(np.int64).sum()) for p in o.images.values()) for call in policy.calls for o in call}
    assert shown == (set(GOLDEN["pixels"]) if name == "looking" else set())


@pytest.mark.usefixtures("simulator")
def test_the_expert_on_one_task(tmp_path: Path) -> None:
    suite = replace(SUITE, tasks=("coffee-button-v3",), episodes=2)
    rows = evaluate(suite, ExpertDriver(), replace(CONFIG, videos=1), tmp_path, "expert")
    assert told(rows) == GOLDEN["expert"][8:10]
    assert [row.video for row in rows] == ["videos/metaworld-coffee-button-v3-0-success.mp4", None]
    assert rows[0].assets == "own"
    assert {"metaworld", "mujoco", "gymnasium", "numpy"} <= rows[0].versions.keys()
    with av.open(str(tmp_path / str(rows[0].video))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.codec_context.width, stream.codec_context.height) == (128, 128)
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(pictures) == -(-rows[0].steps // 2)
    assert pictures[0].std() > 15  # a dead context draws one colour
    assert np.abs(pictures[0].astype(int) - pictures[-1]).max() > 30


@pytest.mark.usefixtures("simulator")
def test_a_policy_is_shown_the_raw_state_and_asked_once_a_chunk(tmp_path: Path) -> None:
    policy = Steady(1, 0, 0, 1)
    suite = replace(SUITE, tasks=("plate-slide-v3",), episodes=2, execute=10)
    evaluate(suite, PolicyDriver(policy, "none"), CONFIG, tmp_path, "right")
    limit = metaworld_task("plate-slide-v3").max_decisions
    assert [len(call) for call in policy.calls] == [2] * (limit // 10)
    first, later = policy.calls[0][0], policy.calls[1][0]
    assert {name: picture.shape for name, picture in first.images.items()} == dict.fromkeys(
        ("corner", "wrist"), (32, 32, 3)
    )
    assert first.images["corner"].dtype == np.uint8
    assert first.instruction == "slide the plate into the goal"
    # Where the hand starts, in metres in the world frame, the gripper open; ten decisions of 0.03 m, less the lag.
    np.testing.assert_allclose(first.state, [0, 0.6, 0.2, 1], atol=0.02)
    assert 0.1 < later.state[0] - first.state[0] < 0.32
    assert later.state[3] < 0.7
    draws = [seed for call in policy.seeds for seed in call]
    assert len(set(draws)) == len(draws)


CLAM = MetaWorldSuite(
    tasks=("coffee-button-v3",),
    episodes=2,
    execute=1,
    observation="full",
    action_repeat=2,
    max_decisions=12,
    cameras=(),
    past_success=0,
)


class Blind(Steady):
    """Sees 39 numbers and no picture."""

    cameras, state_dim = (), 39


@pytest.mark.usefixtures("simulator")
def test_clams_protocol_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")  # with which mujoco cannot draw at all
    policy = Blind(0, 0, 0, -1)
    rows = evaluate(CLAM, PolicyDriver(policy, "none"), CONFIG, tmp_path, "hold")
    assert [(row.steps, row.success_any, row.error) for row in rows] == [(12, False, None)] * 2
    first, later = policy.calls[0][0], policy.calls[1][0]
    assert not first.images
    assert (first.state.shape, first.state.dtype) == ((39,), np.float32)
    np.testing.assert_array_equal(first.state[:18], first.state[18:36])
    assert np.abs(later.state[:18] - later.state[18:36]).max() > 0
    assert policy.calls[0][1].state[36:].tolist() != first.state[36:].tolist()


@pytest.mark.usefixtures("simulator")
def test_clams_protocol_ends_at_success_and_its_films_show_the_corner(tmp_path: Path) -> None:
    suite, config = replace(CLAM, max_decisions=100, episodes=1), replace(CONFIG, videos=1, video_size=32)
    (row,) = evaluate(suite, ExpertDriver(), config, tmp_path, "expert")
    assert (row.success_any, row.success_final) == (True, True)
    assert row.steps < 60
    with av.open(str(tmp_path / str(row.video))) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]
    assert pictures[0].std() > 15


def test_a_protocol_says_what_decides_its_numbers() -> None:
    said = CLAM.protocol
    assert (said["observation"], said["action_repeat"], said["control_hz"]) == ("full", 2, 40.0)
    assert said["max_steps"] == {"coffee-button-v3": 12}
    assert [case.max_steps for case in CLAM.cases()] == [12, 12]
    assert [len(CLAM.state), len(CLAM.action)] == [39, 4]
    assert len({column.name for column in CLAM.state}) == 39
    # Of rows from before there was a choice.
    assert "observation" not in SUITE.protocol
    assert (SUITE.protocol["action_repeat"], SUITE.protocol["control_hz"]) == (3, 26.667)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tasks": ()}, "tasks"),
        ({"tasks": ("drawer-open",)}, "drawer-open-v3"),
        ({"subset": "mt10"}, "tasks"),
        ({"episodes": 0}, "episodes"),
        ({"execute": 0}, "execute"),
        ({"cameras": ("corner3",)}, "cameras"),
        ({"action_repeat": 0}, "action_repeat"),
        ({"max_decisions": 0}, "max_decisions"),
        ({"max_decisions": 167}, "max_decisions"),  # 501 simulator steps
        ({"action_repeat": 10}, "max_decisions"),
        ({"past_success": -1}, "past_success"),
        ({"seed0": RECORDED_SEEDS_FROM - 1}, "seed0"),
    ],
)
def test_impossible_protocols_name_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        replace(SUITE, **change)


def test_the_subsets_are_the_papers() -> None:
    assert [len(SUBSETS[name]) for name in ("mt10", "mt50", "clam")] == [10, 50, 4]
    assert set(SUBSETS["mt10"]) | set(SUBSETS["clam"]) <= set(SUBSETS["mt50"]) == set(METAWORLD_TASKS)
    cases = MetaWorldSuite(subset="clam", episodes=2, seed0=7).cases()
    assert [(case.suite, case.task, case.init, case.seed) for case in cases[:3]] == [
        ("metaworld_clam", "assembly-v3", 7, 7),
        ("metaworld_clam", "assembly-v3", 8, 8),
        ("metaworld_clam", "bin-picking-v3", 7, 7),
    ]


def test_the_tables_are_meta_worlds(simulator: str) -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3
    from metaworld.policies import ENV_POLICY_MAP

    assert set(METAWORLD_TASKS) == set(ALL_V3_ENVIRONMENTS) == set(ENV_POLICY_MAP)
    assert set(SUBSETS["mt10"]) == set(MT10_V3)


# Of ten seeds each. Three experts are weak whatever the action repeat.
_LEAST = {"handle-pull-side-v3": 2, "push-back-v3": 5, "stick-pull-v3": 5}


@pytest.mark.slow
@pytest.mark.usefixtures("simulator")
def test_the_experts_solve_all_fifty_within_their_limits(tmp_path: Path) -> None:
    rows = evaluate(MetaWorldSuite(subset="mt50", episodes=10), ExpertDriver(), CONFIG, tmp_path, "expert")
    solved = Counter(row.task for row in rows if row.success_any)
    assert len(rows) == 500
    assert not {task: solved[task] for task in METAWORLD_TASKS if solved[task] < _LEAST.get(task, 8)}
