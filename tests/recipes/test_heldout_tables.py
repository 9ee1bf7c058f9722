"""`stage: heldout_table`: numbers of several runs beside the paper's; refused where they are not there."""

import json
from pathlib import Path

import pytest

from recipes.cli import main
from recipes.loading import RecipeError, load_recipe

SHIPPED = Path(__file__).parents[2] / "recipes" / "clam" / "heldout_table.yaml"


def trained(folder: Path, **found: float) -> str:
    folder.mkdir()
    (folder / "heldout.json").write_text(json.dumps(found))
    (folder / "done.json").write_text("{}")
    return str(folder)


def test_means_and_errors_stand_beside_the_papers(tmp_path: Path) -> None:
    runs = [trained(tmp_path / str(i), reconstruction=i / 1000, copy=0.0007) for i in (1, 2, 3)]
    other = trained(tmp_path / "other", reconstruction=0.0005, copy=0.0004)
    rows = {"Assembly": runs, "Shelf Place": [other]}
    given = {"run": str(tmp_path / "t"), "runs": rows}
    load_recipe(SHIPPED, given).check(set())
    assert main(["run", str(SHIPPED), "--run", str(tmp_path / "t"), "--runs", json.dumps(rows)]) in (0, None)
    lines = (tmp_path / "t" / "table.md").read_text().splitlines()
    assert "|  | reconstruction | cheat |" in lines
    assert "| Assembly | 0.002000 ± 0.000577 | 0.000700 ± 0.000000 |" in lines
    assert "| Assembly (CLAM, table 9) | 0.0004 | 0.0007 |" in lines
    assert "| Shelf Place | 0.000500 | 0.000400 |" in lines
    assert json.loads((tmp_path / "t" / "table.json").read_text())["Shelf Place"][0]["copy"] == 0.0004
    recipe = load_recipe(SHIPPED, given)
    assert recipe.is_done()
    Path(other, "heldout.json").write_text("{}")
    assert not recipe.is_done()


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no row 'Reach', but Assembly"):
        load_recipe(SHIPPED, {"runs.Reach": ["x"]})
    with pytest.raises(ValueError, match="has no 'action_error', but reconstruction, cheat"):
        load_recipe(SHIPPED, {"columns.action_error": "action_error"})
    folder = tmp_path / "run"
    trained(folder, action_error=0.1)
    with pytest.raises(RecipeError, match="has action_error"):
        load_recipe(SHIPPED, {"runs.Assembly": [str(folder)], "run": str(tmp_path / "t")}).execute()
    (folder / "heldout.json").unlink()
    with pytest.raises(RecipeError, match="holds no heldout.json"):
        load_recipe(SHIPPED, {"runs.Assembly": [str(folder)], "run": str(tmp_path / "t")}).execute()
