"""The engine against a simulator of nothing, whose faults are ordered."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.engine.config import EngineConfig
from eval.engine.drivers import ExpertDriver, HoldDriver, RandomDriver, ReplayDriver
from eval.engine.engine import evaluate
from eval.results.row import read_parquet
from tests.eval.engine.fake_simulator import FakeSuite

CONFIG = EngineConfig(videos=0, timeout_s=20)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]


def test_the_expert_ends_two_actions_past_success(tmp_path: Path) -> None:
    rows = evaluate(FakeSuite(), ExpertDriver(), CONFIG, tmp_path, "expert", {"demos": 2})
    assert [(row.task, row.init, row.steps) for row in rows] == [
        (task, init, init + 4) for task in ("lift", "push") for init in range(4)
    ]
    assert all(row.success_any and row.success_final and row.success and row.error is None for row in rows)
    assert all(row.execute == 1 and row.calls == 0 and row.latency_p50_ms is None for row in rows)
    assert rows[3].readings == {"total": 7.0}
    assert rows[0].labels == {"demos": 2}
    assert rows[0].versions["fake"] == "1.0"
    assert rows[0].assets == "own"
    assert rows == read_parquet(tmp_path / "results.parquet")
    assert len(lines(tmp_path)) == 8


def test_holding_still_runs_to_the_limit(tmp_path: Path) -> None:
    rows = evaluate(FakeSuite(inits=2), HoldDriver(), CONFIG, tmp_path, "hold")
    assert [row.steps for row in rows] == [12] * 4
    assert not any(row.success_any for row in rows)
    assert [row.calls for row in rows] == [3] * 4
    assert all(row.latency_p50_ms is not None and row.execute == 4 for row in rows)


def test_a_recorded_episode_is_replayed(tmp_path: Path) -> None:
    suite = FakeSuite(inits=1)
    gains = {
        case.key: np.array([[0.9, 0], [0.9, 0], [0.1, 0], [0.0, 0], [0.2, 0]], np.float32) for case in suite.cases()
    }
    rows = evaluate(suite, ReplayDriver(gains), CONFIG, tmp_path, "replay")
    # .9 .9 .1 .0 .2 | .2 ...: 2 is reached at the fifth action, two more follow.
    assert [row.steps for row in rows] == [7, 7]
    with pytest.raises(ValueError, match="no record of fake/lift/0"):
        evaluate(suite, ReplayDriver({}), CONFIG, tmp_path / "other", "replay")


def test_processes_and_slots_change_no_row(tmp_path: Path) -> None:
    def played(name: str, **changes: int) -> list[tuple]:
        rows = evaluate(FakeSuite(), RandomDriver(), replace(CONFIG, **changes), tmp_path / name, "random")
        return [(row.case, row.steps, row.success_any, row.success_final, row.readings) for row in rows]

    one = played("one", slots=1)
    assert len({str(row[4]) for row in one}) > 3  # otherwise equality says little
    assert one == played("three", slots=3) == played("two", processes=2)


def test_a_finished_run_is_not_played_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    suite = FakeSuite(options={"log": str(log)})
    first = evaluate(suite, RandomDriver(), CONFIG, tmp_path / "run", "random")
    assert evaluate(suite, RandomDriver(), CONFIG, tmp_path / "run", "random") == first
    assert len(log.read_text().splitlines()) == 8
    with pytest.raises(ValueError, match="another policy or protocol"):
        evaluate(suite, RandomDriver(), CONFIG, tmp_path / "run", "other")
