"""Temporal ensembling: the weights, and whose chunks are averaged."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.engine.config import EngineConfig
from eval.engine.drivers import Ask
from eval.engine.engine import evaluate
from eval.engine.ensembling import EnsemblingDriver
from eval.suite import Case, View
from recipes.loading import RecipeError, load_recipe
from tests.eval.engine.fake_simulator import FakeSuite
from vla.policy import Observation

CONFIG = EngineConfig(videos=0, timeout_s=20)
SUITE = FakeSuite(tasks=("lift",), inits=3, execute=1, max_steps=8, past_success=None)


class Stepping:
    """Chunks of 3 whose row j of the chunk planned at step s in case c is c + s + j / 10: it tells where it is from."""

    cameras, horizon, state_dim, action_dim = ("front",), 3, 3, 2

    def act_many(self, observations: Sequence[Observation], seeds: Sequence[int]) -> np.ndarray:
        rows = [(o.state[1] - 100) * 100 + o.state[2] + np.arange(3) / 10 for o in observations]
        return np.stack([np.stack([row, -row], axis=1) for row in rows]).astype(np.float32)


def ask(step: int, init: int = 0) -> Ask:
    case = Case("fake", "lift", init, 100 + init, 8)
    picture = np.zeros((4, 6, 3), np.uint8)
    return Ask(case, step, 0, View({"front": picture}, np.array([0, 100 + init, step], np.float32), ""))


def driver(decay: float = 0.5, suite: FakeSuite = SUITE) -> EnsemblingDriver:
    made = EnsemblingDriver(Stepping(), "none", decay)
    made.begin(suite)
    return made


def first_columns(made: EnsemblingDriver, asks: list[Ask]) -> list[float]:
    answers = made.plan(asks)
    assert all(answer.shape == (1, 2) and answer.dtype == np.float32 for answer in answers)
    assert all(answer[0, 1] == -answer[0, 0] for answer in answers)
    return [float(answer[0, 0]) for answer in answers]


def test_the_oldest_chunk_weighs_most() -> None:
    made = driver()
    got = [first_columns(made, [ask(step)])[0] for step in range(4)]
    one, two = math.exp(-0.5), math.exp(-1.0)
    assert got[0] == pytest.approx(0)
    assert got[1] == pytest.approx((0.1 + one * 1.0) / (1 + one))
    assert got[2] == pytest.approx((0.2 + one * 1.1 + two * 2.0) / (1 + one + two))
    assert got[3] == pytest.approx((1.2 + one * 2.1 + two * 3.0) / (1 + one + two))  # chunk 0 ended before step 3


def test_no_decay_averages_evenly() -> None:
    made = driver(decay=0)
    assert [first_columns(made, [ask(step)])[0] for step in range(3)] == pytest.approx([0, 0.55, 1.1])


def test_episodes_side_by_side_do_not_mix() -> None:
    together, alone = driver(), [driver(), driver()]
    for step in range(5):
        both = first_columns(together, [ask(step, 0), ask(step, 1)])
        assert both == [first_columns(alone[init], [ask(step, init)])[0] for init in (0, 1)]


def test_an_episode_that_begins_anew_sees_none_of_its_first_chunks() -> None:
    made, fresh = driver(), driver()
    for step in range(3):
        first_columns(made, [ask(step)])
    assert [first_columns(made, [ask(step)]) for step in range(3)] == [
        first_columns(fresh, [ask(step)]) for step in range(3)
    ]


def test_restarts_and_resumed_runs_give_the_same_episodes(tmp_path: Path) -> None:
    def outcome(suite: FakeSuite, folder: Path) -> list[tuple]:
        rows = evaluate(suite, EnsemblingDriver(Stepping(), "none", 0.5), CONFIG, folder, "stepping")
        return [(row.case, row.steps, row.readings) for row in rows]

    whole = outcome(SUITE, tmp_path / "whole")
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "die-lift-1").write_bytes(b"x")
    assert outcome(replace(SUITE, options={"faults": str(tmp_path / "faults")}), tmp_path / "died") == whole
    lines = (tmp_path / "whole" / "episodes.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "whole" / "episodes.jsonl").write_text("".join(line for line in lines if json.loads(line)["init"]))
    assert outcome(SUITE, tmp_path / "whole") == whole


def test_plain_and_ensembled_episodes_are_not_of_one_folder(tmp_path: Path) -> None:
    evaluate(SUITE, EnsemblingDriver(Stepping(), "none", 0.5), CONFIG, tmp_path, "stepping")
    with pytest.raises(ValueError, match="driver"):
        evaluate(SUITE, EnsemblingDriver(Stepping(), "none", 0.4), CONFIG, tmp_path, "stepping")


def test_it_plans_at_every_action() -> None:
    with pytest.raises(ValueError, match="execute is 4; give execute 1"):
        driver(suite=replace(SUITE, execute=4))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ensemble": 0.5, "policy": "random"}, "`ensemble` says nothing to `policy: random`"),
        ({"ensemble": 0.5, "policy": "ws://localhost:1"}, "`ensemble` says nothing"),
        ({"ensemble": -1.0}, "give 0 .an even average. or more"),
        ({"ensemble": 0.5, "suite.metaworld.execute": 8}, "give the suite `execute: 1`"),
    ],
)
def test_a_recipe_that_cannot_be_ensembled_says_so(changes: dict, words: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    recipe = Path(__file__).parents[3] / "recipes" / "metaworld" / "clam.yaml"
    given = {"policy": str(tmp_path), "suite.metaworld.execute": 1} | changes
    with pytest.raises(RecipeError, match=words):
        load_recipe(recipe, given).check(made=set())
