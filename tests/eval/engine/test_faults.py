"""A simulator that hangs, dies or answers garbage: its episodes are repeated, never lost, never counted twice."""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from eval.engine.config import EngineConfig
from eval.engine.drivers import ExpertDriver, HoldDriver, RandomDriver
from eval.engine.engine import evaluate
from eval.results.row import EpisodeRow
from tests.eval.engine.fake_simulator import FakeSuite

CONFIG = EngineConfig(videos=0, timeout_s=20)
SUITE = FakeSuite(tasks=("lift",), inits=4)


def suite_with(folder: Path, *faults: tuple[str, int], suite: FakeSuite = SUITE) -> FakeSuite:
    """The suite, which does wrong what is named as `kind-task-init`, so many times."""
    folder.mkdir()
    for name, times in faults:
        (folder / name).write_bytes(b"x" * times)
    return replace(suite, options={"faults": str(folder), "log": str(folder / "begun")})


def begun(suite: FakeSuite) -> Counter[str]:
    return Counter(line.split()[0] for line in Path(suite.options["log"]).read_text().splitlines())


def outcome(rows: list[EpisodeRow]) -> list[tuple]:
    return [(row.case, row.steps, row.success_any, row.success_final, row.readings, row.error) for row in rows]


@pytest.mark.parametrize("kind", ["die", "raise", "nan"])
def test_an_episode_whose_simulator_fails_is_played_again(kind: str, tmp_path: Path) -> None:
    whole = evaluate(SUITE, HoldDriver(), CONFIG, tmp_path / "whole", "hold")
    suite = suite_with(tmp_path / "faults", (f"{kind}-lift-1", 1))
    rows = evaluate(suite, HoldDriver(), CONFIG, tmp_path / "run", "hold")
    assert outcome(rows) == outcome(whole)
    # Three slots: the neighbours were under way, too, and began again.
    assert [row.restarts for row in rows] == [1, 1, 1, 0]
    assert begun(suite) == {"fake/lift/0": 2, "fake/lift/1": 2, "fake/lift/2": 2, "fake/lift/3": 1}
    lines = (tmp_path / "run" / "episodes.jsonl").read_text().splitlines()
    assert Counter(json.loads(line)["init"] for line in lines) == {0: 1, 1: 1, 2: 1, 3: 1}


def test_a_simulator_that_hangs_is_killed_in_its_time(tmp_path: Path) -> None:
    suite = suite_with(tmp_path / "faults", ("hang-lift-0", 1))
    rows = evaluate(suite, HoldDriver(), replace(CONFIG, timeout_s=4, slots=1), tmp_path / "run", "hold")
    assert [(row.steps, row.restarts, row.error) for row in rows] == [(12, 1, None)] + [(12, 0, None)] * 3
    pids = {line.split()[1] for line in (tmp_path / "faults" / "begun").read_text().splitlines()}
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_one_that_always_dies_is_given_up_and_tried_again_by_the_next_call(tmp_path: Path) -> None:
    suite = suite_with(tmp_path / "faults", ("die-lift-2", 3))
    with pytest.raises(
        RuntimeError, match=r"1 of 4 episodes could not be played, the first fake/lift/2: it died.*exit"
    ):
        evaluate(suite, HoldDriver(), replace(CONFIG, slots=1), tmp_path / "run", "hold")
    rows = [json.loads(line) for line in (tmp_path / "run" / "episodes.jsonl").read_text().splitlines()]
    assert [(row["init"], row["error"] is None, row["restarts"]) for row in rows] == [
        (0, True, 0),
        (1, True, 0),
        (2, False, 3),
        (3, True, 0),
    ]
    assert begun(suite) == {"fake/lift/0": 1, "fake/lift/1": 1, "fake/lift/2": 3, "fake/lift/3": 1}
    again = evaluate(suite, HoldDriver(), CONFIG, tmp_path / "run", "hold")
    assert [(row.init, row.error) for row in again] == [(i, None) for i in range(4)]
    assert len((tmp_path / "run" / "episodes.jsonl").read_text().splitlines()) == 4
    assert begun(suite)["fake/lift/0"] == 1


def test_only_the_case_at_fault_is_given_up(tmp_path: Path) -> None:
    suite = suite_with(tmp_path / "faults", ("die-lift-1", 99))
    with pytest.raises(RuntimeError, match="1 of 4"):
        evaluate(suite, HoldDriver(), CONFIG, tmp_path / "run", "hold")
    assert begun(suite)["fake/lift/1"] == CONFIG.attempts


def test_a_film_that_kills_costs_the_film_alone(tmp_path: Path) -> None:
    suite = suite_with(tmp_path / "faults", ("film-lift-0", 1))
    rows = evaluate(suite, HoldDriver(), replace(CONFIG, videos=1, slots=1), tmp_path / "run", "hold")
    assert [row.video for row in rows] == [None] * 4
    assert [row.restarts for row in rows] == [0] * 4
    assert begun(suite)["fake/lift/0"] == 1


def test_what_playing_again_would_not_mend_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no scripted expert here: nobody wrote one"):
        evaluate(FakeSuite(tasks=("nobody",)), ExpertDriver(), CONFIG, tmp_path / "nobody", "expert")
    with pytest.raises(ValueError, match="faults: give a folder"):
        evaluate(replace(SUITE, options={"refuses": "options"}), HoldDriver(), CONFIG, tmp_path / "options", "hold")
    with pytest.raises(RuntimeError, match=r"did not start, 3 times: it died during `hello` \(exit status 3\)"):
        evaluate(replace(SUITE, options={"refuses": "start"}), HoldDriver(), CONFIG, tmp_path / "start", "hold")


def test_deaths_in_two_processes_change_no_row(tmp_path: Path) -> None:
    big = FakeSuite(tasks=("lift", "push"), inits=8)
    whole = evaluate(big, RandomDriver(), CONFIG, tmp_path / "whole", "random")
    faults = [("die-lift-1", 2), ("raise-push-6", 1), ("die-push-0", 1), ("die-lift-7", 1)]
    suite = suite_with(tmp_path / "faults", *faults, suite=big)
    rows = evaluate(suite, RandomDriver(), replace(CONFIG, processes=2), tmp_path / "run", "random")
    assert outcome(rows) == outcome(whole)
    assert sum(row.restarts > 0 for row in rows) >= 4


@pytest.mark.skipif(os.name != "posix", reason="logs are quoted as they lie on disk")
def test_the_last_words_of_a_simulator_are_quoted(tmp_path: Path) -> None:
    suite = suite_with(tmp_path / "faults", ("raise-lift-0", 3))
    with pytest.raises(RuntimeError, match="the physics exploded"):
        evaluate(suite, HoldDriver(), CONFIG, tmp_path / "run", "hold")
