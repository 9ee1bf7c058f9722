"""Policies that look back: what each episode showed before, and nothing of another."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from eval.engine.config import EngineConfig
from eval.engine.drivers import PolicyDriver
from eval.engine.engine import evaluate
from eval.engine.ensembling import EnsemblingDriver
from tests.eval.engine.fake_simulator import FakeSuite
from tests.eval.engine.test_ensembling import SUITE, Stepping, ask
from vla.observation import Observation


class Remembering(Stepping):
    """Its first number tells the steps it was shown, the last one in the last digit."""

    frame_stack = 3

    def __init__(self) -> None:
        self.seen: list[tuple[int, list[int]]] = []

    def act_many(self, observations: Sequence[Observation], seeds: Sequence[int]) -> np.ndarray:
        shown = [[int(moment.state[2]) for moment in (*o.before, o)] for o in observations]
        self.seen += [(int(o.state[1]), steps) for o, steps in zip(observations, shown, strict=True)]
        rows = [int("".join(str(step) for step in steps)) for steps in shown]
        return np.array(rows, np.float32)[:, None, None].repeat(3, 1).repeat(2, 2)


def driver(suite: FakeSuite = SUITE) -> PolicyDriver:
    made = PolicyDriver(Remembering(), "none")
    made.begin(suite)
    return made


def first_numbers(made: PolicyDriver, *asked: tuple[int, int]) -> list[int]:
    return [int(answer[0, 0]) for answer in made.plan([ask(step, init) for step, init in asked])]


def test_an_episode_is_shown_with_the_moments_before() -> None:
    made = driver()
    assert [first_numbers(made, (step, 0))[0] for step in range(5)] == [0, 1, 12, 123, 234]


def test_episodes_side_by_side_do_not_mix_and_one_begun_anew_has_nothing_before() -> None:
    made = driver()
    assert first_numbers(made, (0, 0)) == [0]
    assert first_numbers(made, (1, 0), (0, 1)) == [1, 0]
    assert first_numbers(made, (1, 1), (2, 0)) == [1, 12]
    assert first_numbers(made, (0, 0), (2, 1)) == [0, 12]  # the first one's simulator died
    assert first_numbers(made, (1, 0)) == [1]
    made.end()
    assert first_numbers(made, (0, 0)) == [0]


def test_a_policy_that_looks_back_is_asked_at_every_action() -> None:
    with pytest.raises(ValueError, match="execute: 2 actions pass between two looks"):
        driver(replace(SUITE, execute=2))


def test_chunks_of_such_a_policy_are_averaged_too() -> None:
    made = EnsemblingDriver(Remembering(), "none", 0)
    made.begin(SUITE)
    assert [float(made.plan([ask(step)])[0][0, 0]) for step in range(3)] == pytest.approx([0, 0.5, 13 / 3])


def test_the_engine_shows_a_whole_episode_so(tmp_path) -> None:  # noqa: ANN001
    policy = Remembering()
    evaluate(SUITE, PolicyDriver(policy, "none"), EngineConfig(videos=0, timeout_s=20), tmp_path, "arm", {})
    for seed in {seed for seed, _ in policy.seen}:
        steps = [shown for of, shown in policy.seen if of == seed]
        assert steps == [list(range(max(0, step - 2), step + 1)) for step in range(len(steps))]
        assert len(steps) > 3
