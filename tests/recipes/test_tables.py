"""`stage: table`: rollout folders in, five files out; made again when something changed, refused where it cannot be."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from eval.results.row import EpisodeRow, protocol_digest
from recipes.cli import main
from recipes.loading import RecipeError, load_recipe

PROTOCOL = {"name": "clam", "execute": 1}


def _rollout(root: Path, arm: str, task: str, seed: int, solved: int, **labels: Any) -> str:
    """A rollout step's folder with ten episodes."""
    folder = root / f"{arm}-{task}-{seed}-{'-'.join(map(str, labels.values()))}"
    folder.mkdir(parents=True)
    rows = [
        EpisodeRow(
            suite="metaworld", task=task, init=i, seed=i, success_any=i < solved, success_final=i < solved,
            success_first=i < solved, quoted="any", steps=100, max_steps=100, execute=1, policy=arm, assets="own",
            protocol="clam", protocol_hash=protocol_digest(PROTOCOL), protocol_json=PROTOCOL,
            checkpoint=f"{arm}{task}{seed}{labels}", labels={"train_seed": seed, "demos": None, **labels},
        )
        for i in range(10)
    ]  # fmt: skip
    (folder / "episodes.jsonl").write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows))
    (folder / "done.json").write_text("{}")
    return str(folder)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    counts = {"tf_clam": (8, 9, 10), "vpt": (3, 2, 4)}
    results = [
        _rollout(tmp_path / "rollouts", arm, task, seed, count)
        for arm, each in counts.items()
        for task in ("shelf-place-v3", "assembly-v3")
        for seed, count in enumerate(each)
    ]
    content = {
        "stage": "table", "run": str(tmp_path / "table"), "title": "Table 5", "results": results,
        "methods": {"tf_clam": "TF-CLAM", "vpt": "VPT", "bc_al": "BC-AL"}, "papers": [{"table": "5"}],
        "notes": ["Simulator as it is."],
    }  # fmt: skip
    path = tmp_path / "table5.yaml"
    path.write_text(json.dumps(content))
    return path


def test_five_files_appear(recipe: Path, tmp_path: Path) -> None:
    assert main(["run", str(recipe)]) == 0
    run = tmp_path / "table"
    text = (run / "table.md").read_text()
    assert "| Method | assembly | shelf-place | average |" in text, "columns in the paper's order"
    assert "| TF-CLAM | 90.0 ± 5.8 | 90.0 ± 5.8 | 90.0 ± 5.8 |" in text
    assert "- Simulator as it is." in text
    assert "- Not played: BC-AL." in text
    assert json.loads((run / "table.json").read_text())["methods"] == {"tf_clam": "TF-CLAM", "vpt": "VPT"}
    assert (run / "table.csv").read_text().count("\n") == 7
    assert (run / "table.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64" in (run / "table.html").read_text()


def test_it_is_done_until_rollouts_or_recipe_change(recipe: Path, tmp_path: Path) -> None:
    assert not load_recipe(recipe).is_done()
    assert main(["run", str(recipe)]) == 0
    assert load_recipe(recipe).is_done()
    assert not load_recipe(recipe, {"title": "Other"}).is_done()
    assert main(["run", str(recipe), "--title", "Other"]) == 0, "a table may be replaced by another one's"
    assert "# Other" in (tmp_path / "table" / "table.md").read_text()
    again = next((tmp_path / "rollouts").iterdir()) / "done.json"
    os.utime(again, (4e9, 4e9))
    assert not load_recipe(recipe, {"title": "Other"}).is_done()
    again.unlink()
    assert not load_recipe(recipe, {"title": "Other"}).is_done()


def test_curves_over_a_label_with_the_papers_tables_at_their_values(tmp_path: Path) -> None:
    results = [
        _rollout(tmp_path / "rollouts", "tf_clam", "assembly-v3", seed, solved, labelled=labelled)
        for labelled, each in ((50, (6, 8)), (100, (9, 9)))
        for seed, solved in enumerate(each)
    ]
    content = {
        "stage": "table", "run": str(tmp_path / "curve"), "title": "Labels", "results": results,
        "methods": {"tf_clam": "TF-CLAM"}, "sweep": {"label": "labelled", "title": "Labelled trajectories"},
        "papers": [{"table": "4", "at": 50}, {"table": "5", "at": 100}],
    }  # fmt: skip
    (tmp_path / "curve.yaml").write_text(json.dumps(content))
    assert main(["run", str(tmp_path / "curve.yaml")]) == 0
    text = (tmp_path / "curve" / "table.md").read_text()
    assert "| 50 | 70.0 ± 10.0 (paper 81 ± 3) |" in text
    assert "| 100 | 90.0 ± 0.0 (paper 91 ± 3) |" in text
    assert "| Labelled trajectories | TF-CLAM |" in text


def test_a_papers_rows_may_be_the_sweeps_values(tmp_path: Path) -> None:
    results = [
        _rollout(tmp_path / "rollouts", "mlp_clam", "assembly-v3", seed, solved, weight=weight)
        for weight, each in ((0.001, (4, 6)), (1, (6, 6)))
        for seed, solved in enumerate(each)
    ]
    content = {
        "stage": "table", "run": str(tmp_path / "curve"), "title": "Weights", "results": results,
        "methods": {"mlp_clam": "MLP-CLAM"}, "sweep": {"label": "weight", "title": "Weight"},
        "papers": [{"table": "7"}],
    }  # fmt: skip
    (tmp_path / "curve.yaml").write_text(json.dumps(content))
    assert main(["run", str(tmp_path / "curve.yaml")]) == 0
    text = (tmp_path / "curve" / "table.md").read_text()
    assert "| 0.001 | 50.0 ± 10.0 (paper 42 ± 4) |" in text
    assert "| 1 | 60.0 ± 0.0 (paper 58 ± 4) |" in text
    with pytest.raises(RecipeError, match="`papers.0.at`: say at which value"):
        load_recipe(tmp_path / "curve.yaml", {"methods.vpt": "VPT"})


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"methods.vpt": "V.P.T."}, "table 5 of CLAM has no row 'V.P.T.', but BC-AL, LAPO"),
        ({"papers.0.table": "55"}, "table '55' of 'CLAM' is not known; there are CLAM 1"),
        ({"papers.0.at": 5}, "`papers.0.at: 5` is a sweep's value, and this is a table"),
        ({"beside": {"vpt": "x"}}, "`beside` names 'vpt', which `methods` has"),
        ({"results": []}, "name at least one folder"),
    ],
)
def test_what_cannot_be_is_refused(recipe: Path, overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(recipe, overrides)


def test_rollouts_that_are_not_there_are_named(recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(recipe), "--results.0", str(tmp_path / "nowhere")]) == 2
    assert "`results.0: " in capfd.readouterr().err
