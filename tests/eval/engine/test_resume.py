"""Killed anywhere, a run goes on with the episodes that have no row; shards add up to the whole."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from eval.engine.config import EngineConfig
from eval.engine.drivers import RandomDriver
from eval.engine.engine import evaluate
from eval.results.reading import read_results
from eval.results.row import EpisodeRow
from tests.eval.engine.fake_simulator import FakeSuite

ROOT = Path(__file__).parents[3]
CONFIG = EngineConfig(videos=0, timeout_s=20)

_IN_A_PROCESS = """
import sys
from pathlib import Path
from eval.engine.config import EngineConfig
from eval.engine.drivers import RandomDriver
from eval.engine.engine import evaluate
from tests.eval.engine.fake_simulator import FakeSuite
suite = FakeSuite(inits=12, seconds=0.01, options={"log": sys.argv[2]})
evaluate(suite, RandomDriver(), EngineConfig(videos=1, processes=2), Path(sys.argv[1]), "random")
"""


def outcome(rows: list[EpisodeRow]) -> list[tuple]:
    return [(row.case, row.steps, row.success_any, row.success_final, row.readings) for row in rows]


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    log, folder = tmp_path / "begun", tmp_path / "killed"
    suite = FakeSuite(inits=12, options={"log": str(log)})
    process = subprocess.Popen([sys.executable, "-c", _IN_A_PROCESS, str(folder), str(log)], cwd=ROOT)
    episodes = folder / "episodes.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (episodes.exists() and episodes.read_bytes().count(b"\n") >= 3):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = [json.loads(line)["init"] for line in episodes.read_text().splitlines(keepends=True) if line.endswith("\n")]
    assert 3 <= len(done) < 24
    pids = {line.split()[1] for line in log.read_text().splitlines()}
    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids)), "simulators outlived the engine"

    begun = len(log.read_text().splitlines())
    rows = evaluate(suite, RandomDriver(), replace(CONFIG, videos=1), folder, "random")
    whole = evaluate(FakeSuite(inits=12), RandomDriver(), CONFIG, tmp_path / "whole", "random")
    assert outcome(rows) == outcome(whole)
    assert len(log.read_text().splitlines()) - begun == 24 - len(done)
    assert len(episodes.read_text().splitlines()) == 24
    assert len(read_results([folder]).episodes) == 24


def test_a_torn_last_line_is_dropped_and_its_episode_played(tmp_path: Path) -> None:
    log = tmp_path / "begun"
    suite = FakeSuite(options={"log": str(log)})
    whole = evaluate(suite, RandomDriver(), CONFIG, tmp_path / "run", "random")
    path = tmp_path / "run" / "episodes.jsonl"
    os.truncate(path, path.stat().st_size - 40)
    rows = evaluate(suite, RandomDriver(), CONFIG, tmp_path / "run", "random")
    assert outcome(rows) == outcome(whole)
    assert len(log.read_text().splitlines()) == 9
    assert len(path.read_text().splitlines()) == 8


def test_a_damaged_line_in_the_middle_is_not_passed_over(tmp_path: Path) -> None:
    suite = FakeSuite()
    evaluate(suite, RandomDriver(), CONFIG, tmp_path / "run", "random")
    path = tmp_path / "run" / "episodes.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2][:50], *lines[3:]]) + "\n")
    with pytest.raises(ValueError, match=r"episodes.jsonl, line 3.*delete the line"):
        evaluate(suite, RandomDriver(), CONFIG, tmp_path / "run", "random")


def test_shards_add_up_to_the_whole(tmp_path: Path) -> None:
    whole = evaluate(FakeSuite(inits=5), RandomDriver(), CONFIG, tmp_path / "whole", "random")
    shards = [
        evaluate(FakeSuite(inits=5), RandomDriver(), replace(CONFIG, shard=f"{i}/3"), tmp_path / f"shard-{i}", "random")
        for i in (1, 2, 3)
    ]
    assert [len(shard) for shard in shards] == [4, 3, 3]
    assert {row.task for row in shards[0]} == {"lift", "push"}
    merged = read_results([tmp_path / f"shard-{i}" for i in (1, 2, 3)])
    key = {row[0]: row for row in outcome([played.row for played in merged.episodes])}
    assert [key[row[0]] for row in outcome(whole)] == outcome(whole)
    assert len(merged.episodes) == len(whole) == 10


def test_other_assets_or_versions_do_not_join_a_run(tmp_path: Path) -> None:
    evaluate(FakeSuite(), RandomDriver(), CONFIG, tmp_path / "run", "random")
    path = tmp_path / "run" / "episodes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["versions"]["fake"] = "0.9"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]))
    with pytest.raises(ValueError, match=r"played with fake 0\.9, now it is 1\.0"):
        evaluate(FakeSuite(), RandomDriver(), CONFIG, tmp_path / "run", "random")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"processes": 0}, "processes"),
        ({"slots": 0}, "slots"),
        ({"wait_ms": -1}, "wait_ms"),
        ({"shard": "3/2"}, "shard"),
        ({"shard": "half"}, "shard"),
        ({"video_size": 101, "videos": 1}, "video_size"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"policy_seed": -1}, "policy_seed"),
        ({"attempts": 0}, "attempts"),
    ],
)
def test_impossible_settings_name_the_field(change: dict, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        replace(CONFIG, **change)


def test_more_slots_than_a_simulator_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="slots: 4 is more"):
        evaluate(FakeSuite(), RandomDriver(), replace(CONFIG, slots=4), tmp_path / "run", "random")
    assert not (tmp_path / "run").exists()
