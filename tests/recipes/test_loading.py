"""A recipe that is wrong stops before any work, naming the field, the value and the fix."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from recipes.loading import RecipeError, _merge, _read, _set, decode, load_recipe, parse_overrides


@dataclass(frozen=True)
class Optim:
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class Data:
    path: str
    weight: float = 1.0


@dataclass(frozen=True)
class Tiny:
    run: str
    data: list[Data] = field(default_factory=list)
    optim: Optim = field(default_factory=Optim)


def test_misspelt_key_names_the_field_and_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r"`optim`.*`learning_rte`.*Did you mean `learning_rate`"):
        decode(Tiny, {"run": "r", "optim": {"learning_rte": 1.0}}, "x.yaml")


def test_misspelt_key_inside_a_list_is_found() -> None:
    with pytest.raises(RecipeError, match=r"`data.0`.*`wieght`.*Did you mean `weight`"):
        decode(Tiny, {"run": "r", "data": [{"path": "p", "wieght": 2}]}, "x.yaml")


def test_wrong_type_names_field_and_value() -> None:
    with pytest.raises(RecipeError, match=r"`optim.learning_rate`.*'fast'"):
        decode(Tiny, {"run": "r", "optim": {"learning_rate": "fast"}}, "x.yaml")


def test_overrides_are_yaml_and_reach_into_lists() -> None:
    tree = {"run": "r", "data": [{"path": "a"}, {"path": "b"}]}
    for name, value in parse_overrides(["--data.1.path", "c", "--optim.learning_rate=1e-4"]).items():
        _set(tree, name, value)
    recipe = decode(Tiny, tree, "x.yaml")
    assert recipe.data[1].path == "c"
    assert recipe.optim.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--a"], "has no value"), (["a", "1"], "is not an override")],
)
def test_malformed_overrides_say_how_to_write_them(arguments: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        parse_overrides(arguments)


def test_index_beyond_the_list_names_the_range() -> None:
    with pytest.raises(RecipeError, match="use 0 to 0"):
        _set({"data": [{}]}, "data.3.path", "x")


def test_extends_merges_mappings_and_replaces_lists() -> None:
    base = {"a": {"b": 1, "c": 2}, "l": [1, 2]}
    assert _merge(base, {"a": {"c": 3}, "l": [9]}) == {"a": {"b": 1, "c": 3}, "l": [9]}


def test_unknown_stage_suggests(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("stage: pipelin\nrun: r\n")
    with pytest.raises(RecipeError, match="Did you mean `pipeline`"):
        load_recipe(path)


@pytest.mark.parametrize(("text", "words"), [("- 1\n", "not a mapping"), ("a: [\n", "not valid YAML")])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=words):
        load_recipe(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.yaml does not exist"):
        load_recipe(tmp_path / "nowhere.yaml")


def test_an_override_changes_one_place_of_what_yaml_shares(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &shared {list: [{path: p}]}\nb: *shared\n")
    tree = _read(path)
    _set(tree, "a.list.0.path", "q")
    assert tree == {"a": {"list": [{"path": "q"}]}, "b": {"list": [{"path": "p"}]}}
