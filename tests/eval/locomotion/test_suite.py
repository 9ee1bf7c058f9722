"""The suite through the engine: rows of returns, whatever is played; and the one number of a run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.engine.config import EngineConfig
from eval.engine.drivers import ExpertDriver, HoldDriver, RandomDriver
from eval.engine.engine import evaluate
from eval.locomotion.ars import LinearPolicy
from eval.locomotion.episode import LocomotionEpisode
from eval.locomotion.snapshots import Snapshot, Snapshots, write_snapshots
from eval.locomotion.suite import LocomotionSuite
from eval.locomotion.tasks import ROBOTS, References, Robot, locomotion_task
from eval.results.benchmarks import benchmark_key, benchmark_of
from eval.results.reading import Played
from eval.results.returns import is_measured_by_return, mean_return
from eval.results.tables import tables_of

ENGINE = EngineConfig(videos=0)


def by_hand(robot: str, seed: int, decisions: int, repeat: int = 2) -> float:
    episode = LocomotionEpisode(robot, seed, repeat)
    return sum(episode.step(np.zeros(episode.model.nu)) for _ in range(decisions))


@pytest.mark.parametrize("robot", ROBOTS)
def test_rows_say_the_return(robot: Robot, tmp_path: Path) -> None:
    suite = LocomotionSuite(robot, episodes=3, seed0=7, execute=50)
    rows = evaluate(suite, HoldDriver(), ENGINE, tmp_path, "hold")
    assert [row.seed for row in rows] == [7, 8, 9]
    for row in rows:
        assert row.steps == row.max_steps == 500  # a fall ends nothing
        assert not row.success_any
        total, task = by_hand(robot, row.seed, 500), locomotion_task(robot)
        assert row.readings["return"] == pytest.approx(total)
        assert row.readings["normalised_return"] == pytest.approx(task.stand_in.normalised(total))
        assert row.readings["d4rl_normalised_return"] == pytest.approx(task.d4rl.normalised(total))
        assert row.protocol_json["normalised_by"] == {"random": task.stand_in.random, "expert": task.stand_in.expert}
        assert row.protocol_json["d4rl_normalised_by"]["expert"] == task.d4rl.expert
        assert (row.readings["upright"] < 500) == (robot == "hopper")


def test_one_step_a_decision(tmp_path: Path) -> None:
    suite = LocomotionSuite("hopper", episodes=1, action_repeat=1, execute=100)
    (row,) = evaluate(suite, HoldDriver(), ENGINE, tmp_path, "hold")
    assert row.steps == 1000
    assert row.readings["return"] == pytest.approx(by_hand("hopper", 0, 1000, repeat=1))
    assert row.protocol_json["control_hz"] == 125.0


def test_a_recordings_expert_plays(tmp_path: Path) -> None:
    policy = LinearPolicy(np.zeros((3, 11)), np.zeros(11), np.ones(11))
    one = Snapshot(policy, 0, 0.0)
    write_snapshots(tmp_path / "s.npz", Snapshots([one], one, References(0.0, 1.0)), "")
    suite = LocomotionSuite("hopper", episodes=1, snapshots=str(tmp_path / "s.npz"))
    (row,) = evaluate(suite, ExpertDriver(), ENGINE, tmp_path / "run", "expert")
    assert row.readings["return"] == pytest.approx(by_hand("hopper", 0, 500))
    assert suite.protocol == replace(suite, snapshots=None).protocol


def test_without_one_there_is_no_expert(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"snapshots RUN/snapshots\.npz"):
        evaluate(LocomotionSuite("hopper", episodes=1), ExpertDriver(), ENGINE, tmp_path, "expert")


def test_random_actions_do_not_depend_on_who_plays_beside(tmp_path: Path) -> None:
    suite = LocomotionSuite("halfcheetah", episodes=3, execute=100)
    together = evaluate(suite, RandomDriver(), ENGINE, tmp_path / "a", "random")
    alone = evaluate(suite, RandomDriver(), replace(ENGINE, slots=1), tmp_path / "b", "random")
    assert [row.readings for row in together] == [row.readings for row in alone]
    assert mean_return(together, "return") == pytest.approx(np.mean([row.readings["return"] for row in alone]))


def test_the_number_of_a_run(tmp_path: Path) -> None:
    rows = evaluate(LocomotionSuite("hopper", episodes=2, execute=100), HoldDriver(), ENGINE, tmp_path, "hold")
    values = [0.5, 0.9]
    rows = [replace(row, readings={"normalised_return": value}) for row, value in zip(rows, values, strict=True)]
    assert all(map(is_measured_by_return, rows))
    assert mean_return(rows) == pytest.approx(0.7)
    assert mean_return([rows[0], replace(rows[1], error="it died")]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="of several tasks, halfcheetah and hopper"):
        mean_return([rows[0], replace(rows[1], task="halfcheetah")])
    with pytest.raises(ValueError, match="no reading 'return'"):
        mean_return(rows, "return")
    with pytest.raises(ValueError, match="no episode was played"):
        mean_return([replace(rows[0], error="it died")])
    assert not is_measured_by_return(replace(rows[0], readings={}))


def test_no_table_of_successes_is_made_of_returns(tmp_path: Path) -> None:
    (row,) = evaluate(LocomotionSuite("hopper", episodes=1, execute=100), HoldDriver(), ENGINE, tmp_path, "hold")
    with pytest.raises(ValueError, match="locomotion_hopper is measured by return.*measure: normalised_return"):
        tables_of([Played(row, tmp_path / "episodes.jsonl")])
    assert benchmark_key(row) == "locomotion"
    assert [column.key for column in benchmark_of("locomotion", [row]).columns] == ["hopper"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"robot": "ant"}, "robot: 'ant'"),
        ({"robot": "hopper", "episodes": 0}, "episodes: 0"),
        ({"robot": "hopper", "seed0": 999_990}, "seeds of recordings"),
        ({"robot": "hopper", "action_repeat": 3}, "does not divide"),
        ({"robot": "hopper", "execute": 501}, "longer than an episode"),
    ],
)
def test_words_for_a_wrong_field(given: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LocomotionSuite(**given)


def test_state_and_action_fit_the_recordings() -> None:
    from data_mixtures.spaces.embodiments import embodiment_of

    for robot in ROBOTS:
        suite, embodiment = LocomotionSuite(robot), embodiment_of(locomotion_task(robot).robot_type)
        assert (len(suite.state), len(suite.action)) == (embodiment.state_width, embodiment.action_width)
