"""A pipeline recipe: steps that meet at folders on disk, run side by side as their inputs allow.

A step is another recipe with overrides. One whose name holds `{seed}` or `{demos}` is repeated for each value in
the recipe's `seeds` and `demos`, and so are the steps that need it. Every step runs in its own process with its own
thread count, so its numbers do not depend on what ran beside it, and leaves `done.json` when it is whole: the same
command after an interruption goes on where it was.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from data_mixtures.storage.whole_file import write_whole
from recipes.loading import RecipeError, load_recipe
from recipes.provenance import check_maker


@dataclass(frozen=True)
class StepConfig:
    """One step: `recipe` (relative to the pipeline's file) with `set` (dotted field -> value) over it.

    More than one of `processes` launches the step through torchrun; its recipe then says how in `parallel:`.
    """

    name: str
    recipe: str
    title: str = ""
    needs: list[str] = field(default_factory=list)
    set: dict[str, Any] = field(default_factory=dict)
    processes: int = 1


@dataclass(frozen=True)
class PipelineRecipe:
    """`{run}`, `{seed}` and `{demos}` in names, needs and values are filled in for every step."""

    stage: Literal["pipeline"]
    run: str
    steps: list[StepConfig]
    seeds: list[int] = field(default_factory=lambda: [0])
    demos: list[int] = field(default_factory=lambda: [2])
    workers: int = 2
    threads: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1 or self.threads < 1:
            raise ValueError(f"`workers: {self.workers}` and `threads: {self.threads}` must be at least 1.")

    def expand(self) -> list[StepConfig]:
        """The steps with every placeholder filled, in an order that respects `needs`."""
        steps: dict[str, StepConfig] = {}
        for template in self.steps:
            text = json.dumps([template.name, template.needs, template.set])
            seeds = self.seeds if "{seed}" in template.name else [None]
            demos = self.demos if "{demos}" in template.name else [None]
            for seed, demo in itertools.product(seeds, demos):
                if (seed is None and "{seed}" in text) and template.needs:
                    filled = self._fill_all(template)
                else:
                    filled = _fill(template, {"run": self.run, "seed": seed, "demos": demo})
                if filled.name in steps:
                    raise RecipeError(f"`steps`: two steps are named `{filled.name}`; give each its own name.")
                steps[filled.name] = filled
        return _ordered(steps)

    def _fill_all(self, template: StepConfig) -> StepConfig:
        """A step outside the repetition that needs every repetition (the report): its needs fan in."""
        needs = [
            need.format(run=self.run, seed=seed, demos=demos)
            for need in template.needs
            for seed, demos in itertools.product(self.seeds, self.demos)
        ]
        return replace(_fill(replace(template, needs=[]), {"run": self.run}), needs=list(dict.fromkeys(needs)))


def _fill(template: StepConfig, values: dict[str, Any]) -> StepConfig:
    def fill(item: Any) -> Any:
        if isinstance(item, str):
            text = item.format(**values)
            return yaml.safe_load(text) if item != text and text.lstrip("-").isdigit() else text
        if isinstance(item, list):
            return [fill(i) for i in item]
        return {k: fill(v) for k, v in item.items()} if isinstance(item, dict) else item

    return replace(
        template,
        name=template.name.format(**values),
        title=template.title.format(**values),
        needs=fill(template.needs),
        set=fill(template.set),
    )


def _ordered(steps: dict[str, StepConfig]) -> list[StepConfig]:
    """Topological order that keeps the written order where it can."""
    done: list[StepConfig] = []
    names: set[str] = set()
    waiting = list(steps.values())
    for step in waiting:
        for need in step.needs:
            if need not in steps:
                raise RecipeError(f"`steps`: `{step.name}` needs `{need}`, which no step makes.")
    while waiting:
        ready = next((s for s in waiting if names.issuperset(s.needs)), None)
        if ready is None:
            raise RecipeError(f"`steps`: {', '.join(s.name for s in waiting)} need each other in a circle.")
        waiting.remove(ready)
        names.add(ready.name)
        done.append(ready)
    return done


def check_steps(recipe: PipelineRecipe, recipe_path: Path) -> list[StepConfig]:
    """Parse and check every step's recipe before the first one starts; returns the steps in running order.

    Raises:
        RecipeError, ValueError: what is wrong, led by the step's name.
    """
    root = Path(recipe.run)
    steps = recipe.expand()
    made: set[Path] = set()
    for step in steps:
        try:
            loaded = load_recipe(recipe_path.parent / step.recipe, _overrides(step, root))
            loaded.check(made, step.processes if step.processes > 1 else None)
            if loaded.is_done():
                check_maker(Path(loaded.run), loaded)
        except ValueError as error:
            raise RecipeError(f"step `{step.name}`: {error}") from error
        made.add(Path(loaded.run))
    return steps


def run_pipeline(recipe: PipelineRecipe, recipe_path: Path, steps: list[StepConfig]) -> None:
    """Run the steps not yet done, at most `workers` at a time.

    Raises:
        RuntimeError: a step failed; the message shows the end of its log.
    """
    root = Path(recipe.run)
    _write_index(root, steps, recipe_path)
    _Runner(recipe, root, recipe_path.parent, steps).run()


def _overrides(step: StepConfig, root: Path) -> dict[str, Any]:
    return {"run": str(root / step.name), **step.set}


def _write_index(root: Path, steps: list[StepConfig], recipe_path: Path) -> None:
    """`pipeline.json`: what the report reads to find every step's folder."""
    rows = [
        {
            "name": s.name,
            "kind": load_recipe(recipe_path.parent / s.recipe, _overrides(s, root)).stage,
            "title": s.title or s.name,
            "folder": s.name,
            "needs": s.needs,
        }
        for s in steps
    ]
    write_whole(root / "pipeline.json", json.dumps({"recipe": str(recipe_path), "steps": rows}, indent=2))


class _Runner:
    """Starts steps as their needs are met, shows one progress line for each, ends children when it ends."""

    def __init__(self, recipe: PipelineRecipe, root: Path, recipes: Path, steps: list[StepConfig]) -> None:
        self.recipe, self.root, self.recipes, self.steps = recipe, root, recipes, steps
        self.done = {s.name for s in steps if load_recipe(recipes / s.recipe, _overrides(s, root)).is_done()}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.bars: dict[str, Any] = {}

    def run(self) -> None:
        console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as progress:
            try:
                while len(self.done) < len(self.steps):
                    self._start_ready(progress)
                    self._collect(progress, console)
                    time.sleep(0.2)
            finally:
                self._stop()

    def _start_ready(self, progress: Progress) -> None:
        for step in self.steps:
            if len(self.running) >= self.recipe.workers:
                return
            if step.name in self.done or step.name in self.running or not self.done.issuperset(step.needs):
                continue
            self.running[step.name] = self._launch(step)
            self.bars[step.name] = progress.add_task(step.title or step.name, total=None, note="")

    def _launch(self, step: StepConfig) -> subprocess.Popen[bytes]:
        folder = self.root / step.name
        folder.mkdir(parents=True, exist_ok=True)
        # "--": without it torchrun takes the recipe's `--run` for an abbreviation of an option of its own.
        launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={step.processes}", "-m", "--"]
        # Killed outright, the pipeline takes its steps along: the next `vla run` must not meet a second writer.
        command = [sys.executable, "-m", "recipes.parent", str(os.getpid())]
        command += [*(launcher if step.processes > 1 else []), "recipes.cli", "run", str(self.recipes / step.recipe)]
        for name, value in _overrides(step, self.root).items():
            command += [f"--{name}", json.dumps(value)]
        threads = str(self.recipe.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        with (folder / "log.txt").open("ab") as log:
            # Its own process group: Ctrl-C reaches the child through `_stop`, once, and not twice.
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def _collect(self, progress: Progress, console: Console) -> None:
        for name, process in list(self.running.items()):
            code = process.poll()
            if code is None:
                self._show(name, progress)
                continue
            del self.running[name]
            progress.update(self.bars[name], total=1, completed=1, note="done" if code == 0 else "failed")
            if code != 0:
                tail = (self.root / name / "log.txt").read_text(errors="replace").strip().splitlines()[-12:]
                raise RuntimeError(f"step `{name}` failed (exit {code}):\n" + "\n".join(tail))
            self.done.add(name)
            if not console.is_terminal:
                console.print(f"done {name}  ({len(self.done)}/{len(self.steps)})")

    def _show(self, name: str, progress: Progress) -> None:
        """A training step says how far it is in the last line of its metrics."""
        try:
            last = json.loads((self.root / name / "metrics.jsonl").read_text().splitlines()[-1])
        except (OSError, ValueError, IndexError):
            return
        progress.update(self.bars[name], note=f"step {last['step']}  loss {float(last['loss']):.3f}")

    def _stop(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGINT)
        for process in self.running.values():
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
