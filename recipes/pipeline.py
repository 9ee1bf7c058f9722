"""A pipeline recipe: steps that meet at folders on disk, run side by side as their inputs allow.

A step is another recipe with overrides, repeated for the axes in its name (recipes/axes.py). Every step runs in its own
process with its own thread count, so its numbers do not depend on what ran beside it, and leaves `done.json` when it is
whole: the same command after an interruption goes on where it was.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data_mixtures.storage.whole_file import write_whole
from recipes.axes import FilledStep, StepConfig, check_axes, expand
from recipes.loading import RecipeError, load_recipe
from recipes.provenance import check_maker
from recipes.runner import Runner, Step


@dataclass(frozen=True)
class PipelineRecipe:
    """Steps, and the values they are repeated for.

    Attributes:
        stage: pipeline.
        run: The folder; `{run}` in a step's fields.
        steps: What is done.
        axes: Name -> values; `{name}` in a step's name repeats it. A mapping gives each value fields of its own, for
            the steps that `vary` with it.
        then: More steps: what a recipe that extends another adds, since its `steps` would replace the other's.
        workers: Steps at a time.
        threads: Of each step's arithmetic.
    """

    stage: Literal["pipeline"]
    run: str
    steps: list[StepConfig]
    axes: dict[str, Any] = field(default_factory=dict)
    then: list[StepConfig] = field(default_factory=list)
    workers: int = 2
    threads: int = 1

    def __post_init__(self) -> None:
        check_axes(self.axes)
        if self.workers < 1 or self.threads < 1:
            raise ValueError(f"`workers: {self.workers}` and `threads: {self.threads}` must be at least 1.")

    def expand(self) -> list[FilledStep]:
        """The steps with every placeholder filled, in an order that respects `needs`."""
        return expand([*self.steps, *self.then], self.axes, self.run)


def check_steps(recipe: PipelineRecipe, recipe_path: Path) -> list[Step]:
    """Parse and check every step's recipe before the first one starts; returns the steps in running order.

    Raises:
        RecipeError, ValueError: what is wrong, led by the step's name.
    """
    steps: list[Step] = []
    made: dict[Path, str] = {}
    for filled in recipe.expand():
        try:
            step = _opened(filled, recipe_path)
            step.loaded.check(set(made), filled.processes if filled.processes > 1 else None)
            if step.is_done():
                check_maker(step.folder, step.loaded)
        except ValueError as error:
            raise RecipeError(f"step `{filled.name}`: {error}") from error
        if other := made.get(step.folder):
            raise RecipeError(f"step `{filled.name}`: `run: {step.folder}` is that of step `{other}` too.")
        made[step.folder] = filled.name
        steps.append(step)
    return steps


def _opened(filled: FilledStep, recipe_path: Path) -> Step:
    overrides = {"run": filled.run, **filled.set}
    path = recipe_path.parent / filled.recipe
    return Step(filled, path, overrides, load_recipe(path, overrides))


def run_pipeline(recipe: PipelineRecipe, recipe_path: Path, steps: list[Step]) -> None:
    """Run the steps not yet done, at most `workers` at a time.

    Raises:
        RuntimeError: a step failed; the message shows the end of its log.
    """
    root = Path(recipe.run)
    _write_index(root, steps, recipe_path)
    Runner(root, steps, recipe.workers, recipe.threads).run()


def _write_index(root: Path, steps: list[Step], recipe_path: Path) -> None:
    """`pipeline.json`: what the report reads to find every step's folder."""
    rows = [
        {
            "name": step.name,
            "kind": step.loaded.stage,
            "title": step.filled.title,
            "folder": os.path.relpath(step.folder, root),
            "needs": step.filled.needs,
            "template": step.filled.template,
            "group": step.filled.group,
            "axes": step.filled.values,
        }
        for step in steps
    ]
    write_whole(root / "pipeline.json", json.dumps({"recipe": str(recipe_path), "steps": rows}, indent=2))
