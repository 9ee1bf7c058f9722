"""Rollout recipes: what they refuse, and that `vla eval` leaves rows."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.results.row import read_parquet
from recipes.cli import main
from recipes.loading import load_recipe

TREE: dict[str, Any] = {
    "stage": "rollout",
    "policy": "hold",
    "arm": "still",
    "suite": {"metaworld": {"tasks": ["handle-press-v3"], "episodes": 1, "cameras": ["corner"], "image_size": 16}},
    "engine": {"videos": 0},
    "demos": 3,
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "rollout.yaml"
    path.write_text(yaml.safe_dump({**TREE, "run": str(folder / "run"), **changes}))
    return path


def test_vla_eval_leaves_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, policy="expert")  # it needs no pictures, so no graphics either
    assert main(["eval", str(path)]) == 0
    assert "metaworld: 1 of 1 episodes, success 1.00 [0.21, 1.00]" in capsys.readouterr().err
    (row,) = read_parquet(tmp_path / "run" / "results.parquet")
    assert (row.suite, row.task, row.policy, row.execute) == ("metaworld", "handle-press-v3", "still", 1)
    assert row.labels == {"demos": 3, "train_seed": None}
    assert (tmp_path / "run" / "done.json").exists()
    assert main(["eval", str(path)]) == 0
    assert "was done already" in capsys.readouterr().err
    assert main(["eval", str(path), "--policy", "random"]) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy": "nowhere"}, "`policy: nowhere` does not exist; fine-tune it first, name a server as ws://"),
        ({"suite": {}}, "name exactly one of metaworld"),
        ({"suite": {"metaworld": {"tasks": ["door-opn-v3"]}}}, "door-open-v3"),
        ({"suite": {"metaworld": {"subset": "mt11"}}}, "mt11"),
        ({"engine": {"proceses": 2}}, "Did you mean `processes`?"),
        ({"engine": {"shard": "5/4"}}, "shard: '5/4' is no share"),
        ({"cameras": {"base": "corner"}}, "`cameras` says nothing to `policy: hold`"),
        ({"model": {"device": "cuda"}}, "`model` says nothing to `policy: hold`"),
        ({"policy": "ws://localhost:1", "model": {"device": "cuda"}}, "`model` says nothing to `policy: ws://"),
        ({"server": {"prompt": "task"}}, "`server` says nothing"),
    ],
)
def test_what_would_be_ignored_or_fail_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(written(tmp_path, **changes))]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "episodes.jsonl").exists()


@pytest.mark.parametrize("policy", ["expert", "random", "hold", "ws://localhost:1"])
def test_shipped_benchmarks_are_played_by_whoever_policy_names(policy: str) -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "libero" / "eval_spatial.yaml"
    load_recipe(recipe, {"policy": policy}).check(made=set())  # although it names a robot, for policies in a folder


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in (("eval", ("--policy ws://", "--preflight", "--run")), ("report", ("merged", "--format md"))):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        said = capsys.readouterr().out
        assert all(word in said for word in words)


def test_eval_takes_rollouts_only(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "demo" / "record.yaml"
    assert main(["eval", str(recipe)]) == 2
    assert "use `vla run` for it" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "tasks"), [("mt10", 10), ("clam", 4)])
def test_the_shipped_subsets(name: str, tasks: int) -> None:
    recipe = load_recipe(Path(__file__).parents[2] / "recipes" / "metaworld" / f"{name}.yaml")
    cases = recipe.suite.chosen.cases()
    assert len(cases) == 20 * tasks
    assert {case.suite for case in cases} == {f"metaworld_{name}"}
