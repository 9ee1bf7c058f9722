"""What a policy is asked together, and that it repeats."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.engine.config import EngineConfig
from eval.engine.drivers import PolicyDriver
from eval.engine.engine import draw_seeds, evaluate
from eval.results.row import EpisodeRow
from eval.suite import Case
from tests.eval.engine.fake_simulator import FakeSuite
from vla.policy import Observation

CONFIG = EngineConfig(videos=0, timeout_s=20)


class Noisy:
    """Draws from its seeds, and minds its neighbours as a network's roundings do: their number is in its answer."""

    cameras, horizon, state_dim, action_dim = ("front",), 6, 3, 2

    def __init__(self, chunk: np.ndarray | None = None, seconds: float = 0.0) -> None:
        self.calls: list[list[tuple[str, float, int]]] = []
        self._chunk, self._seconds = chunk, seconds

    def act_many(self, observations: Sequence[Observation], seeds: Sequence[int]) -> np.ndarray:
        assert all(o.images["front"].flags.writeable for o in observations)  # torch shares nothing read-only
        self.calls.append([(o.instruction, float(o.state[1]), s) for o, s in zip(observations, seeds, strict=True)])
        time.sleep(self._seconds)
        if self._chunk is not None:
            return np.stack([self._chunk] * len(seeds))
        draws = [np.random.default_rng(seed).uniform(0, 1, (6, 2)) + len(seeds) / 1000 for seed in seeds]
        return np.stack(draws).astype(np.float32)


def outcome(rows: list[EpisodeRow]) -> list[tuple]:
    return [(row.case, row.steps, row.success_any, row.success_final, row.readings) for row in rows]


def test_batches_repeat_exactly_whatever_the_timing(tmp_path: Path) -> None:
    runs = []
    for name, seconds in (("quick", 0.0), ("slow", 0.01)):
        policy = Noisy()
        suite = FakeSuite(inits=6, seconds=seconds)
        rows = evaluate(suite, PolicyDriver(policy, "a" * 64), replace(CONFIG, processes=2), tmp_path / name, "noisy")
        runs.append((outcome(rows), policy.calls))
    assert runs[0] == runs[1]
    assert max(len(call) for call in runs[0][1]) == 6  # two processes of three slots
    assert all(row.checkpoint == "a" * 64 and row.policy_seed == 0 for row in rows)


def test_waiting_for_all_fills_every_batch(tmp_path: Path) -> None:
    policy = Noisy(np.zeros((6, 2), np.float32))
    evaluate(FakeSuite(tasks=("lift",), inits=6), PolicyDriver(policy, "none"), CONFIG, tmp_path, "still")
    assert [len(call) for call in policy.calls] == [3] * 6


def test_a_limit_on_waiting_leaves_nobody_behind(tmp_path: Path) -> None:
    policy = Noisy(np.zeros((6, 2), np.float32))
    suite = FakeSuite(tasks=("lift",), inits=6, seconds=0.02)
    rows = evaluate(suite, PolicyDriver(policy, "none"), replace(CONFIG, wait_ms=0), tmp_path, "still")
    assert [(row.steps, row.calls) for row in rows] == [(12, 3)] * 6
    assert sum(len(call) for call in policy.calls) == 18
    assert min(len(call) for call in policy.calls) < 3  # the simulator answers one slot after the other


def test_no_two_draws_share_a_seed(tmp_path: Path) -> None:
    policy = Noisy()
    evaluate(FakeSuite(tasks=("lift",)), PolicyDriver(policy, "none"), CONFIG, tmp_path, "noisy")
    seeds = [seed for call in policy.calls for _, _, seed in call]
    assert len(set(seeds)) == len(seeds)
    alike = [Case("s", "t", init, 7, 10) for init in range(3)] + [Case("s", "u", 0, 7, 10)]
    assert list(draw_seeds(alike, 0).values()) == [7000, 8000, 9000, 7000]
    apart = set(draw_seeds(alike, 0).values()) & set(draw_seeds(alike, 1).values())
    assert not apart


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (np.zeros((3, 2), np.float32), "execute: 4 actions .* chunks of 3"),
        (np.zeros((6, 3), np.float32), r"shape \[6, 3\]; fake takes rows of 2 numbers \(gain, nothing\)"),
        (np.full((6, 2), np.nan, np.float32), "not finite"),
        (np.zeros((6, 2), complex), "not numbers"),
    ],
)
def test_bad_chunks_are_told_in_words(chunk: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(FakeSuite(), PolicyDriver(Noisy(chunk), "none"), CONFIG, tmp_path, "bad")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state_dim": 8}, "its state has 8 numbers, fake's has 3"),
        ({"action_dim": 7}, "its action has 7 numbers"),
        ({"horizon": 2}, "execute: 4 actions .* hold 2"),
    ],
)
def test_a_policy_of_another_robot_is_refused_before_anything_starts(
    change: dict[str, int], message: str, tmp_path: Path
) -> None:
    policy = Noisy()
    for name, value in change.items():
        setattr(policy, name, value)
    with pytest.raises(ValueError, match=message):
        evaluate(FakeSuite(), PolicyDriver(policy, "none"), CONFIG, tmp_path, "bad")
    assert not list(tmp_path.glob("simulator-*"))


def test_cameras_are_named_or_refused(tmp_path: Path) -> None:
    policy = Noisy(np.zeros((6, 2), np.float32))
    policy.cameras = ("base",)
    with pytest.raises(ValueError, match=r"knows no \['front'\]; it looks through \['base'\]"):
        evaluate(FakeSuite(), PolicyDriver(policy, "none"), CONFIG, tmp_path / "a", "bad")
    with pytest.raises(ValueError, match=r"the suite shows no \['top'\]"):
        evaluate(FakeSuite(), PolicyDriver(policy, "none", {"base": "top"}), CONFIG, tmp_path / "b", "bad")
