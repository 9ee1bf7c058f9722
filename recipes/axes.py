"""Repetition: which values a pipeline's placeholders take, and the steps that its templates become.

`{seed}` in a step's name repeats the step for every value of the axis `seed`. The same placeholder elsewhere in that
step is filled with the value at hand; in a list (what it `needs`, a list in its `set`) of a step that is not repeated
over it, the item is repeated for all values: so a table waits for, and reads, every repetition.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recipes.loading import RecipeError

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_RUN = "run"  # filled with the pipeline's own folder; no axis


@dataclass(frozen=True)
class StepConfig:
    """One step: a recipe with fields laid over it.

    Attributes:
        name: What other steps call it; with an axis in it, the step is repeated.
        recipe: Its file, relative to the pipeline's.
        title: What is shown while it runs, and in the report.
        needs: Steps that must be done before.
        set: Dotted field -> value, laid over the recipe.
        vary: Axes of its name whose values bring fields of their own, laid over those of `set`.
        run: Its folder; "" is its name in the pipeline's. One outside is shared: pipelines that make the same step
            there make it once.
        processes: More than 1 launches it through torchrun; its recipe then says how in `parallel:`.
    """

    name: str
    recipe: str
    title: str = ""
    needs: list[str] = field(default_factory=list)
    set: dict[str, Any] = field(default_factory=dict)
    vary: list[str] = field(default_factory=list)
    run: str = ""
    processes: int = 1


@dataclass(frozen=True)
class FilledStep(StepConfig):
    """A step with its placeholders filled.

    Attributes:
        template: The name it was filled from.
        group: Its title with the placeholder of the seed left in.
        values: Axis -> value it was filled with.
    """

    template: str = ""
    group: str = ""
    values: dict[str, Any] = field(default_factory=dict)


def check_axes(axes: Mapping[str, Any]) -> None:
    """Axes are lists of values, or mappings of a value to the fields it sets.

    Raises:
        ValueError: another thing, no value, a value twice, or a name that is taken.
    """
    for name, values in axes.items():
        if name == _RUN or not _PLACEHOLDER.fullmatch(f"{{{name}}}"):
            raise ValueError(f"`axes.{name}` cannot be a placeholder's name; use letters, and not `run`.")
        if not isinstance(values, list | dict) or not values:
            raise ValueError(f"`axes.{name}: {values}` must be a list of values, or value: {{field: value}}.")
        if len({str(value) for value in values}) < len(values):
            raise ValueError(f"`axes.{name}: {values}` holds a value twice; leave one out.")
        if isinstance(values, dict) and not all(isinstance(fields, dict) for fields in values.values()):
            raise ValueError(f"`axes.{name}`: behind every value stand its fields, `value: {{}}` where it has none.")


def expand(templates: Sequence[StepConfig], axes: Mapping[str, Any], run: str) -> list[FilledStep]:
    """Every step, in the order in which they are to be started where two could.

    The values of the first axis come one after the other, each with all steps that it reaches: what is there after an
    interruption is as whole as it can be.

    Raises:
        RecipeError: a placeholder that is no axis, two steps of one name, a need nobody makes, a circle.
    """
    steps: dict[str, FilledStep] = {}
    of: dict[str, int] = {}
    for chosen in itertools.product(*axes.values()):
        for place, template in enumerate(templates):
            filled = _filled(template, dict(zip(axes, chosen, strict=True)), axes, run)
            if of.setdefault(filled.name, place) != place:
                raise RecipeError(f"`steps`: two steps are named `{filled.name}`; give each its own name.")
            steps.setdefault(filled.name, filled)
    return _ordered(steps)


def _filled(template: StepConfig, chosen: Mapping[str, Any], axes: Mapping[str, Any], run: str) -> FilledStep:
    own = {name: chosen[name] for name in _named(template.name) if name in axes}
    fill = _Filling(template.name, {**own, _RUN: run}, axes)
    title = template.title or template.name
    return FilledStep(
        name=fill.text(template.name, "name"),
        recipe=fill.text(template.recipe, "recipe"),
        title=fill.text(title, "title"),
        needs=list(dict.fromkeys(fill.items(template.needs, "needs"))),
        set={**fill.tree(template.set, "set"), **_fields(template, own, axes)},
        run=fill.text(template.run or f"{{{_RUN}}}/{template.name}", "run"),
        processes=template.processes,
        template=template.name,
        group=replace_all(title, {**own, _RUN: run, "seed": "{seed}"}),
        values=own,
    )


def _fields(template: StepConfig, own: Mapping[str, Any], axes: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for axis in template.vary:
        if axis not in own:
            raise RecipeError(f"`steps`: `{template.name}` varies with `{axis}`, which is no axis in its name.")
        values = axes[axis]
        if not isinstance(values, dict):
            raise RecipeError(f"`steps`: `{template.name}` varies with `{axis}`, whose values bring no fields.")
        fields |= values[own[axis]]
    return fields


def _named(text: str) -> list[str]:
    return _PLACEHOLDER.findall(text)


def replace_all(text: str, values: Mapping[str, Any]) -> str:
    """The text with every placeholder that has a value filled."""
    return _PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), text)


@dataclass(frozen=True)
class _Filling:
    """Fills one step's fields: `values` are its own, other axes are run through where a list allows it."""

    step: str
    values: Mapping[str, Any]
    axes: Mapping[str, Any]

    def text(self, text: str, where: str) -> str:
        if open_names := [name for name in _named(text) if name not in self.values]:
            raise self._refusal(open_names[0], where)
        return replace_all(text, self.values)

    def tree(self, node: Any, where: str) -> Any:
        """A value: alone, a placeholder becomes the value itself (a number stays one), within text its text."""
        if isinstance(node, dict):
            return {self.text(str(key), where): self.tree(item, f"{where}.{key}") for key, item in node.items()}
        if isinstance(node, list):
            return self.items(node, where)
        if not isinstance(node, str):
            return node
        alone = _PLACEHOLDER.fullmatch(node)
        return self.values[alone[1]] if alone and alone[1] in self.values else self.text(node, where)

    def items(self, nodes: Sequence[Any], where: str) -> list[Any]:
        return [self._with(more).tree(node, where) for node in nodes for more in self._missing(node)]

    def _missing(self, node: Any) -> Iterator[dict[str, Any]]:
        """What a list's item is repeated over: the axes it names and the step's name does not."""
        named = _named(str(node))
        names = [axis for axis in self.axes if axis in named and axis not in self.values]
        for chosen in itertools.product(*(self.axes[name] for name in names)):
            yield dict(zip(names, chosen, strict=True))

    def _with(self, more: Mapping[str, Any]) -> "_Filling":
        return replace(self, values={**self.values, **more}) if more else self

    def _refusal(self, name: str, where: str) -> RecipeError:
        if name not in self.axes:
            return RecipeError(
                f"`steps`: `{self.step}` says {{{name}}} in `{where}`, and there is no such axis; "
                f"`axes` has {', '.join(self.axes) or 'none'}."
            )
        return RecipeError(
            f"`steps`: `{self.step}` says {{{name}}} in `{where}`, but is not repeated over it; put {{{name}}} in its "
            "name, or the value in a list, which is repeated."
        )


def _ordered(steps: dict[str, FilledStep]) -> list[FilledStep]:
    """Topological order that keeps the given order where it can."""
    for step in steps.values():
        for need in step.needs:
            if need not in steps:
                raise RecipeError(f"`steps`: `{step.name}` needs `{need}`, which no step makes.")
    done: dict[str, FilledStep] = {}
    waiting = dict(steps)
    while waiting:
        ready = [s for s in waiting.values() if all(need in done for need in s.needs)]
        if not ready:
            raise RecipeError(f"`steps`: {', '.join(waiting)} need each other in a circle.")
        done[ready[0].name] = waiting.pop(ready[0].name)
    return list(done.values())
