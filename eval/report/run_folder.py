"""What a pipeline left in its run folder, read so that a missing or broken file costs its own part of the page only."""

import itertools
import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml


@dataclass(frozen=True)
class Step:
    """One step of the pipeline: its name, kind (record, lam, ...), title, folder and the steps it needs."""

    name: str
    kind: str
    title: str
    folder: Path
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Steps that differ only in their training seed; `seeds` is empty where the pipeline repeats nothing."""

    title: str
    kind: str
    steps: tuple[Step, ...]
    seeds: tuple[int, ...] = ()


@dataclass
class Run:
    """A run folder. `problems` collects a sentence for each file that was there and could not be read."""

    folder: Path
    title: str
    steps: list[Step]
    recipe: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def of_kind(self, kind: str) -> list[Step]:
        """The steps of one kind, in the pipeline's order."""
        return [s for s in self.steps if s.kind == kind]

    def absence(self, what: str, kind: str) -> str:
        """The sentence for a part that is not there: what is missing and which step makes it."""
        steps = self.of_kind(kind)
        if not steps:
            return f"No {what}: this pipeline has no step of kind “{kind}”, which makes them."
        names = ", ".join(f"“{s.name}”" for s in steps[:3]) + (", …" if len(steps) > 3 else "")
        unfinished = [s for s in steps if not (s.folder / "done.json").exists()]
        state = "has not finished yet" if unfinished else "finished without leaving them"
        return f"No {what} yet: step {names} (kind “{kind}”) makes them and {state}."

    def json(self, path: Path) -> Any:
        """The parsed file, or None where it is missing or broken."""
        return self._read(path, lambda p: json.loads(p.read_text()))

    def text(self, path: Path) -> str | None:
        """The file's text, or None."""
        return self._read(path, lambda p: p.read_text())

    def rows(self, path: Path) -> list[dict[str, Any]]:
        """The objects of a JSON-lines file; a line cut off by a kill is left out and named."""
        text = self.text(path) or ""
        rows, bad = [], 0
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if isinstance(row, dict):
                rows.append(row)
            elif line.strip():
                bad += 1
        if bad:
            self.problems.append(f"{self._name(path)}: {bad} line{'s' if bad > 1 else ''} could not be parsed.")
        return rows

    def arrays(self, path: Path) -> dict[str, np.ndarray] | None:
        """The arrays of an .npz file (never pickles), or None."""
        return self._read(path, _load_npz)

    def _read(self, path: Path, read: Any) -> Any:
        if not path.is_file():
            return None
        try:
            return read(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            self.problems.append(f"{self._name(path)} could not be read ({type(error).__name__}).")
            return None

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else path.name

    def groups(self, kind: str) -> list[Group]:
        """The steps of a kind, repetitions over training seeds put together."""
        gathered: dict[tuple[str, Any], list[tuple[Step, int | None]]] = {}
        titles: dict[tuple[str, Any], str] = {}
        for step in self.of_kind(kind):
            template, seed, demos = self._origin(step.name)
            key = (template.get("name", step.name), demos)
            gathered.setdefault(key, []).append((step, seed))
            titles[key] = str(template.get("title") or step.title)
        return [_group(kind, titles[k], k[1], members) for k, members in gathered.items()]

    def _origin(self, name: str) -> tuple[dict[str, Any], int | None, int | None]:
        """The pipeline's template that `name` was filled from, with its seed and its demonstrations."""
        templates = [
            t for t in _list(self.recipe.get("steps")) if isinstance(t, dict) and isinstance(t.get("name"), str)
        ]
        seeds, demos = _list(self.recipe.get("seeds")), _list(self.recipe.get("demos"))
        for template, seed, demo in itertools.product(templates, seeds or [None], demos or [None]):
            pattern = template["name"]
            if pattern.replace("{seed}", str(seed)).replace("{demos}", str(demo)) == name:
                return template, seed if "{seed}" in pattern else None, demo if "{demos}" in pattern else None
        return {}, None, None


def read_run(folder: Path) -> Run:
    """Read `pipeline.json` and the pipeline's recipe.

    Raises:
        ValueError: `folder` is not a pipeline's run folder.
    """
    index = folder / "pipeline.json"
    if not index.is_file():
        raise ValueError(f"run: {folder} has no pipeline.json; give the folder that `vla run <pipeline>.yaml` made.")
    try:
        parsed = json.loads(index.read_text())
        steps = [_step(folder, row) for row in parsed["steps"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"run: {index} is not a pipeline's index ({error!r}); run the pipeline again.") from error
    run = Run(folder, str(parsed.get("title") or folder.resolve().name), steps)
    recipe = run.text(folder / "recipe.yaml")
    try:
        loaded = yaml.safe_load(recipe) if recipe else None
    except yaml.YAMLError:
        run.problems.append("recipe.yaml could not be parsed.")
        loaded = None
    run.recipe = loaded if isinstance(loaded, dict) else {}
    return run


def _step(folder: Path, row: dict[str, Any]) -> Step:
    name = str(row["name"])
    needs = tuple(str(n) for n in _list(row.get("needs")))
    return Step(name, str(row["kind"]), str(row.get("title") or name), folder / str(row.get("folder") or name), needs)


def _group(kind: str, title: str, demos: Any, members: list[tuple[Step, int | None]]) -> Group:
    seeds = tuple(seed for _, seed in members if seed is not None)
    if not seeds:
        return Group(members[0][0].title, kind, tuple(step for step, _ in members))
    # The group's title says nothing of the seed: "Fine-tune (seed {seed})" -> "Fine-tune".
    title = re.sub(r"[\s,;:·–(\[-]*\b(?:training )?seed\s*\{seed\}[)\]]?", "", title)
    title = title.replace("{demos}", str(demos)).replace("{seed}", "/".join(map(str, seeds)))
    return Group(title, kind, tuple(step for step, _ in members), seeds)


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
