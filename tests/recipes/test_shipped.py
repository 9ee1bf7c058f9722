"""Every recipe that ships can be read, and the pipelines among them hold together."""

from pathlib import Path

import pytest

from recipes.loading import load_recipe
from recipes.pipeline import check_steps

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = sorted(path for path in RECIPES.rglob("*.yaml") if path.parent.name != "launch")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(RECIPES)))
def test_it_is_a_recipe(path: Path) -> None:
    load_recipe(path)
    head = path.read_text().split("stage:")[0]
    for promise in ("Trains", "Hardware", "Time", "Expected", "Source"):
        assert f"# {promise}" in head, f"the head of {path.name} does not say: {promise}"


@pytest.mark.parametrize("name", ["pipeline.yaml", "study.yaml"])
def test_every_step_of_the_demo_is_possible(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # nothing of an earlier run is here: every input is one that a step makes
    path = RECIPES / "demo" / name
    recipe = load_recipe(path)
    steps = check_steps(recipe, path)
    made: set[str] = set()
    for step in steps:
        assert made.issuperset(step.filled.needs)
        made.add(step.name)
    repeated = [step for step in steps if step.name.startswith("rollout-distilled-")]
    assert len(repeated) == len(recipe.axes["seed"]) * len(recipe.axes["demos"])
    report = next(step for step in steps if step.name == "report")
    assert {step.name for step in steps if step.name.startswith("rollout-")} == set(report.filled.needs)


CLAMS = [path for path in SHIPPED if path.parent.name == "clam" and path.stem.startswith(("table", "fig"))]


ALONE = ("table", "table9")  # a table's own recipe; and one without rollouts, below


@pytest.mark.parametrize("path", [path for path in CLAMS if path.stem not in ALONE], ids=lambda path: path.stem)
def test_every_step_of_clams_tables_is_possible(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(path, {"axes.seed": [0]})
    steps = check_steps(recipe, path)
    table = steps[-1]
    assert table.loaded.stage == "table"
    rollouts = [step for step in steps if step.loaded.stage == "rollout"]
    assert [step.filled.run for step in rollouts] == table.loaded.results
    assert {step.loaded.arm for step in rollouts} <= set(table.loaded.methods)
    trained = {step.name: step.loaded for step in steps if step.loaded.stage == "clam"}
    for step in rollouts:
        assert step.loaded.policy == f"{trained[step.filled.needs[0]].run}/policy"
        assert step.loaded.train_seed == trained[step.filled.needs[0]].seed


def test_table_9_is_of_the_trials_of_figure_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = RECIPES / "clam" / "table9.yaml"
    steps = check_steps(load_recipe(path), path)
    table, trained = steps[-1].loaded, {step.loaded.run for step in steps if step.loaded.stage == "clam"}
    assert {folder for folders in table.runs.values() for folder in folders} == trained
    assert {len(folders) for folders in table.runs.values()} == {3}
    figure = RECIPES / "clam" / "fig3.yaml"
    assert trained < {step.loaded.run for step in check_steps(load_recipe(figure), figure)}
