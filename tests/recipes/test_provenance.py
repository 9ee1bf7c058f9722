"""A run folder says what made it, and refuses to be finished by something else."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from recipes.provenance import write_provenance


@dataclass(frozen=True)
class Recipe:
    run: str
    lr: float = 1e-3


def test_the_resolved_recipe_and_the_versions_are_there_before_any_work(tmp_path: Path) -> None:
    write_provenance(tmp_path, Recipe("x"))
    assert "lr: 0.001" in (tmp_path / "recipe.yaml").read_text()
    versions = json.loads((tmp_path / "versions.json").read_text())
    assert versions["packages"]["torch"]
    assert versions["code"]
    assert versions["machine"]["cores"] >= 1


def test_another_recipe_is_refused_once_there_is_work(tmp_path: Path) -> None:
    write_provenance(tmp_path, Recipe("x"))
    (tmp_path / "metrics.jsonl").touch()
    write_provenance(tmp_path, Recipe("x"))
    with pytest.raises(ValueError, match=r"different recipe \(first difference: `lr: 0.001` there, `lr: 0.1` here\)"):
        write_provenance(tmp_path, Recipe("x", lr=0.1))
    assert "lr: 0.001" in (tmp_path / "recipe.yaml").read_text()


def test_a_recipe_that_stopped_before_any_work_can_be_mended(tmp_path: Path) -> None:
    write_provenance(tmp_path, Recipe("x", lr=-1.0))
    write_provenance(tmp_path, Recipe("x", lr=0.1))
    assert "lr: 0.1" in (tmp_path / "recipe.yaml").read_text()


def test_a_pipeline_may_grow(tmp_path: Path) -> None:
    write_provenance(tmp_path, Recipe("x"), may_grow=True)
    (tmp_path / "lam-s0").mkdir()
    write_provenance(tmp_path, Recipe("x", lr=0.1), may_grow=True)
    assert "lr: 0.1" in (tmp_path / "recipe.yaml").read_text()
