"""`vla eval RECIPE --preflight`, and the preflight before a run's first episode."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.preflight.findings import Finding, Report
from recipes.cli import main

PASSED = Finding("replay", "passed", "metaworld", "3 of 3 recorded demonstrations succeed")
REFUSED = Finding("states", "refused", "eef_x (m)", "it is 600, not 0.6", "millimetres", "give metres")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What preflights and engines were asked to do, in turn; nothing is simulated."""
    calls: list[tuple[Any, ...]] = []

    def looked(suite: Any, checkpoint: Any, config: Any, policy: str) -> Report:
        calls.append(("looked", suite.name, config.demonstrations, policy))
        finding = REFUSED if config.demonstrations == Path("wrong") else PASSED
        return Report(suite.name, policy, [finding], 1.0)

    def evaluated(suite: Any, driver: Any, config: Any, run: Path, *_: Any) -> list[Any]:
        calls.append(("evaluated", suite.name))
        (run / "episodes.jsonl").write_text("")
        return []

    monkeypatch.setattr("eval.preflight.preflight.preflight", looked)
    monkeypatch.setattr("eval.engine.engine.evaluate", evaluated)
    return calls


def recipe(tmp_path: Path, **more: Any) -> str:
    suite = {"metaworld": {"tasks": ["push-v3"]}}
    words = {"stage": "rollout", "run": str(tmp_path / "run"), "policy": "random", "arm": "random", "suite": suite}
    (tmp_path / "rollout.yaml").write_text(yaml.safe_dump(words | more))
    return str(tmp_path / "rollout.yaml")


def test_alone_it_only_looks(tmp_path: Path, said: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", recipe(tmp_path, demonstrations="right"), "--preflight"]) == 0
    assert said == [("looked", "metaworld", Path("right"), "random")]
    written = json.loads((tmp_path / "run" / "preflight.json").read_text())
    assert (written["verdict"], written["findings"][0]["check"]) == ("passed", "replay")
    assert "verdict" in capsys.readouterr().err


def test_alone_a_refusal_is_the_exit_status(
    tmp_path: Path, said: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for wish in ("refuse", "warn", False):  # asked for alone, it says what it finds, whatever the run would do
        assert main(["eval", recipe(tmp_path, demonstrations="wrong", preflight=wish), "--preflight"]) == 2
        words = capsys.readouterr().err
        assert "it is 600, not 0.6" in words
        assert "millimetres" in words
        assert "give metres" in words
        assert "1 of 1 findings are refused" in words
    assert [call[0] for call in said] == ["looked"] * 3


def test_a_run_stops_before_its_first_episode_or_goes_on_as_the_recipe_says(tmp_path: Path, said: list[Any]) -> None:
    assert main(["eval", recipe(tmp_path, demonstrations="wrong")]) == 2
    assert [call[0] for call in said] == ["looked"]
    said.clear()
    assert main(["eval", recipe(tmp_path, demonstrations="wrong"), "--preflight", "warn"]) == 0
    assert [call[0] for call in said] == ["looked", "evaluated"]


@pytest.mark.parametrize(("more", "expected"), [({}, []), ({"demonstrations": "right", "preflight": "off"}, [])])
def test_it_looks_at_nothing_where_there_is_nothing_or_it_is_off(
    tmp_path: Path, said: list[Any], more: dict[str, Any], expected: list[str]
) -> None:
    assert main(["eval", recipe(tmp_path, **more)]) == 0
    assert [call[0] for call in said] == [*expected, "evaluated"]


def test_a_run_that_goes_on_is_not_looked_at_again(tmp_path: Path, said: list[Any]) -> None:
    path = recipe(tmp_path, demonstrations="right")
    assert main(["eval", path]) == 0
    (tmp_path / "run" / "done.json").unlink()
    assert main(["eval", path]) == 0
    assert [call[0] for call in said] == ["looked", "evaluated", "evaluated"]


def test_one_that_passed_alone_is_looked_at_again_before_the_run(tmp_path: Path, said: list[Any]) -> None:
    assert main(["eval", recipe(tmp_path, demonstrations="right"), "--preflight"]) == 0
    assert main(["eval", recipe(tmp_path, demonstrations="wrong")]) == 2
    assert [call[0] for call in said] == ["looked", "looked"]


def test_true_is_no_wish(tmp_path: Path, said: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", recipe(tmp_path, preflight=True)]) == 2
    assert "preflight: true is none of refuse, warn, off" in capsys.readouterr().err
