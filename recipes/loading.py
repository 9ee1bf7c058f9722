"""A recipe file becomes a frozen dataclass, or a sentence that names the field, the value and the fix."""

import dataclasses
import difflib
import typing
from pathlib import Path
from typing import Any

import draccus
import yaml
from draccus.utils import DecodingError, ParsingError

from data_mixtures.config import MixtureConfig


class RecipeError(ValueError):
    """The recipe cannot run as written; the message names the field, its value and what to change."""


def load_recipe(path: str | Path, overrides: dict[str, Any] | None = None) -> Any:
    """Parse a recipe YAML into the dataclass its `stage:` names.

    Args:
        path: the YAML file. `extends: other.yaml` (relative to this file), at the top or in any mapping, takes that
            file's fields and lays the ones written beside it over them.
        overrides: dotted field -> value, as `optim.lr`; `data.datasets.0.path` reaches into lists.

    Raises:
        RecipeError: missing file, unknown stage, misspelt key, wrong type.
    """
    from recipes.table import STAGES  # the table imports every stage; parsing `--help` must not

    tree = _read(Path(path))
    for field, value in (overrides or {}).items():
        _set(tree, field, value)
    stage = tree.get("stage")
    if stage not in STAGES:
        raise RecipeError(f"{path}: `stage: {stage}` is not one of {', '.join(STAGES)}.{_did_you_mean(stage, STAGES)}")
    return decode(STAGES[stage], tree, str(path))


def load_mixture(path: str | Path, overrides: dict[str, Any] | None = None) -> MixtureConfig:
    """Parse a mixture's YAML, or the `data:` of a recipe; overrides are as in `load_recipe`, from the mixture down.

    Raises:
        RecipeError: as `load_recipe` does.
    """
    tree = _read(Path(path))
    if "stage" in tree:
        if not isinstance(tree.get("data"), dict):
            raise RecipeError(f"{path} is a recipe without `data:`; name a mixture, or a recipe that trains on one.")
        tree = tree["data"]
    for field, value in (overrides or {}).items():
        _set(tree, field, value)
    return decode(MixtureConfig, tree, str(path))


def decode(recipe_class: type, tree: dict[str, Any], where: str) -> Any:
    """Turn a parsed YAML mapping into `recipe_class`; `where` names the source in errors."""
    try:
        return draccus.decode(recipe_class, tree)
    except DecodingError as error:
        words = _refusal(error) or f"{error}{_suggest(recipe_class, error)}"
        raise RecipeError(f"{where}: {words}") from error
    except (ParsingError, ValueError, TypeError) as error:
        # A dataclass that refuses its values says why in the cause; draccus adds only its name.
        raise RecipeError(f"{where}: {error.__cause__ or error}") from error


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """`["--optim.lr", "1e-4", "--loop.compile=true"]` -> `{"optim.lr": 1e-4, "loop.compile": True}` (YAML values)."""
    overrides: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        name = rest.pop(0)
        if not name.startswith("--"):
            raise RecipeError(
                f"`{name}` is not an override; write `--field.name value`, for example `--optim.lr 1e-4`."
            )
        name, equals, value = name[2:].partition("=")
        if not equals:
            if not rest:
                raise RecipeError(f"`--{name}` has no value; write `--{name} VALUE`.")
            value = rest.pop(0)
        overrides[name] = yaml.safe_load(value)
    return overrides


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RecipeError(f"recipe file {path} does not exist; the shipped ones are under recipes/.")
    try:
        tree = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path} is not a mapping of fields to values; start it with `stage: ...`.")
    return _extended(tree, path.parent)


def _extended(node: Any, folder: Path) -> Any:
    if isinstance(node, list):
        return [_extended(item, folder) for item in node]
    if not isinstance(node, dict):
        return node
    # Always a new mapping: one that YAML shares (`&a`, `*a`) must not change everywhere when an override changes it.
    own = {key: _extended(value, folder) for key, value in node.items() if key != "extends"}
    return _merge(_read(folder / node["extends"]), own) if "extends" in node else own


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if both else value
    return merged


def _set(tree: Any, field: str, value: Any) -> None:
    *parents, last = field.split(".")
    for key in parents:
        if isinstance(tree, list):
            tree = tree[_index(tree, key, field)]
        else:
            if not isinstance(tree.get(key), (dict, list)):
                tree[key] = {}  # not written in the file, so its default stands; decoding checks the name
            tree = tree[key]
    if isinstance(tree, list):
        tree[_index(tree, last, field)] = value
    else:
        tree[last] = value


def _index(items: list[Any], key: str, field: str) -> int:
    if not key.isdigit() or int(key) >= len(items):
        raise RecipeError(f"`--{field}`: `{key}` is not an index of a list of {len(items)}; use 0 to {len(items) - 1}.")
    return int(key)


def _did_you_mean(word: Any, choices: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word), list(choices), n=1)
    return f" Did you mean `{close[0]}`?" if close else ""


def _refusal(error: DecodingError) -> str | None:
    """The words of an optional part that refuses its values: draccus says only that it tried that type."""
    parsing = error.__cause__
    if isinstance(parsing, ParsingError) and isinstance(parsing.__cause__, ValueError):
        return f"`{'.'.join(error.key_path)}`: {parsing.__cause__}"
    return None


def _suggest(recipe_class: type, error: DecodingError) -> str:
    """After draccus' own words on a misspelt key, name the nearest field of the dataclass it was written in."""
    if "are not valid for" not in str(error):
        return ""
    node: Any = recipe_class
    for key in error.key_path:
        node = _descend(node, key)
    if node is None:
        return ""
    names = [f.name for f in dataclasses.fields(node)]
    wrong = [w for w in str(error).split("The fields", 1)[1].split("`") if w.strip(" ,") and w.isidentifier()]
    return "".join(_did_you_mean(word, names) for word in wrong[:3]) + f" Its fields are: {', '.join(names)}."


def _descend(node: Any, key: str) -> Any:
    if key.isdigit():
        return node
    hint = typing.get_type_hints(node).get(key)
    candidates = [hint, *typing.get_args(hint)]
    return next((c for c in candidates if dataclasses.is_dataclass(c)), None)
