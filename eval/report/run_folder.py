"""What a pipeline left in its run folder, read so that a missing or broken file costs its own part of the page only."""

import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Step:
    """One step of the pipeline.

    Attributes:
        name: Its own.
        kind: record, lam, ...
        title: What is shown.
        folder: Its run folder.
        needs: The steps it needs.
        template: The name it was filled from, as "lam-s{seed}".
        group: Its title with `{seed}` left in.
        axes: (axis, value) pairs it was filled with, but the seed.
        seed: The training seed it was filled with; None where it is not repeated for seeds.
    """

    name: str
    kind: str
    title: str
    folder: Path
    needs: tuple[str, ...] = ()
    template: str = ""
    group: str = ""
    axes: tuple[tuple[str, str], ...] = ()
    seed: int | None = None


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
        gathered: dict[tuple[object, ...], list[Step]] = {}
        for step in self.of_kind(kind):
            gathered.setdefault((step.template or step.name, step.axes), []).append(step)
        return [_group(kind, members) for members in gathered.values()]


def read_run(folder: Path) -> Run:
    """Read `pipeline.json`.

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
    return Run(folder, str(parsed.get("title") or folder.resolve().name), steps)


def _step(folder: Path, row: dict[str, Any]) -> Step:
    name = str(row["name"])
    needs = tuple(str(n) for n in _list(row.get("needs")))
    folder = folder / str(row.get("folder") or name)
    title = str(row.get("title") or name)
    axes = dict(row.get("axes") or {})
    seed = axes.pop("seed", None)
    others = tuple((str(axis), str(value)) for axis, value in axes.items())
    template, group = str(row.get("template") or ""), str(row.get("group") or "")
    return Step(name, str(row["kind"]), title, folder, needs, template, group, others, seed)


def _group(kind: str, members: list[Step]) -> Group:
    seeds = tuple(step.seed for step in members if step.seed is not None)
    if not seeds:
        return Group(members[0].title, kind, tuple(members))
    # The group's title says nothing of the seed: "Fine-tune (seed {seed})" -> "Fine-tune".
    title = re.sub(r"[\s,;:·–(\[-]*\b(?:training )?seed\s*\{seed\}[)\]]?", "", members[0].group or members[0].title)
    return Group(title.replace("{seed}", "/".join(map(str, seeds))), kind, tuple(members), seeds)


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
