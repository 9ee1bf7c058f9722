"""The help of a recipe: every field with its type, its default, and the sentence its dataclass says about it."""

import dataclasses
import typing


def describe(recipe_class: type, prefix: str = "") -> str:
    """One line a field, nested dataclasses as dotted names; list items are shown under `NAME.0`."""
    hints = typing.get_type_hints(recipe_class)
    lines = []
    for item in dataclasses.fields(recipe_class):
        name = f"{prefix}{item.name}"
        lines.append(f"--{name:<44} {_type_name(hints[item.name]):<32} {_default(item)}\n")
        nested, index = _nested(hints[item.name])
        if nested is not None:
            lines.append(describe(nested, f"{name}.{index}"))
    return "".join(lines)


def _nested(hint: typing.Any) -> tuple[type | None, str]:
    if dataclasses.is_dataclass(hint):
        return typing.cast(type, hint), ""
    for argument in typing.get_args(hint):
        if dataclasses.is_dataclass(argument):
            return typing.cast(type, argument), "0." if typing.get_origin(hint) in (list, tuple) else ""
    return None, ""


def _type_name(hint: typing.Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(map(str, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _default(item: "dataclasses.Field[typing.Any]") -> str:
    if "default" in item.metadata:
        return f"default {item.metadata['default']}"
    if item.default is not dataclasses.MISSING:
        return f"default {item.default!r}"
    return "required" if item.default_factory is dataclasses.MISSING else "default from its own fields"
