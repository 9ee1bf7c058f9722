"""`stage: heldout_table`: what stage 1 of several runs makes of held-out trajectories, beside a published table."""

import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data_mixtures.storage.whole_file import write_whole
from eval.results.published import PublishedTable, published_table
from recipes.checks import check_alone, check_input
from recipes.finished import done_when_whole, has_all
from recipes.latent_actions import HELDOUT_FILE
from recipes.loading import RecipeError
from recipes.provenance import resolved_text


@dataclass(frozen=True)
class HeldoutTableRecipe:
    """Write table.md and table.json into `run`; made again whenever its runs or its recipe changed.

    Attributes:
        stage: heldout_table.
        run: The folder.
        title: Its heading.
        runs: Folders that `stage: clam` wrote, one a training seed, by row, as the paper calls it.
        columns: A number of heldout.json (lam/clam/heldout.py) -> the published table's column.
        paper: The paper, as eval/results/published names it.
        table: Its table.
        notes: Sentences under it.
    """

    stage: Literal["heldout_table"]
    run: str
    title: str
    runs: dict[str, list[str]]
    columns: dict[str, str]
    table: str
    paper: str = "CLAM"
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.runs or not all(self.runs.values()) or not self.columns:
            raise ValueError("`runs` and `columns` name at least one folder a row and one number")
        known = published_table(self.paper, self.table)
        if lacking := [column for column in self.columns.values() if column not in known.columns]:
            raise ValueError(f"`columns`: table {self.table} has no {lacking[0]!r}, but {', '.join(known.columns)}")
        if lacking := [row for row in self.runs if known.row(row) is None]:
            there = ", ".join(row.method for row in known.rows)
            raise ValueError(f"`runs`: table {self.table} has no row {lacking[0]!r}, but {there}")

    def check(self, made: set[Path], ranks: int | None = None) -> None:
        """The runs are there, or an earlier step makes them."""
        check_alone(self.stage, ranks)
        for row, folders in self.runs.items():
            for place, folder in enumerate(folders):
                check_input(f"runs.{row}.{place}", folder, made, "train it first.")

    def is_done(self) -> bool:
        """True once it is written by this recipe from runs that have not changed since."""
        run, done = Path(self.run), Path(self.run) / "done.json"
        if not has_all(run, "table.md", "table.json", "done.json"):
            return False
        if (run / "recipe.yaml").read_text() != resolved_text(self):
            return False
        measured = [Path(folder) / HELDOUT_FILE for folders in self.runs.values() for folder in folders]
        return all(path.exists() and path.stat().st_mtime_ns <= done.stat().st_mtime_ns for path in measured)

    def execute(self) -> None:
        """Write both files."""
        run = Path(self.run)
        with done_when_whole(run):
            values = {row: [self._heldout(Path(folder)) for folder in folders] for row, folders in self.runs.items()}
            write_whole(run / "table.json", json.dumps(values, indent=1) + "\n")
            write_whole(run / "table.md", self._markdown(values, published_table(self.paper, self.table)))

    def _markdown(self, values: dict[str, list[dict[str, float]]], published: PublishedTable) -> str:
        lines = [f"# {self.title}", "", _line(["", *self.columns.values()]), "|---" * (len(self.columns) + 1) + "|"]
        for name, runs in values.items():
            row = published.row(name)
            assert row is not None
            theirs = [row.values[published.columns.index(column)] for column in self.columns.values()]
            printed = ["" if value is None else f"{value:.{published.decimals}f}" for value in theirs]
            lines.append(_line([name, *(_mean([found[number] for found in runs]) for number in self.columns)]))
            lines.append(_line([f"{name} ({published.paper}, table {published.table})", *printed]))
        counts = sorted({len(runs) for runs in values.values()})
        counted = f"Ours: mean ± standard error over {' to '.join(map(str, counts))} training seeds."
        notes = [counted if counts[-1] > 1 else "Ours: one training.", *self.notes, f"The paper: {published.protocol}"]
        return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"

    def _heldout(self, folder: Path) -> dict[str, float]:
        path = folder / HELDOUT_FILE
        if not path.is_file():
            raise RecipeError(f"`runs`: {folder} holds no {HELDOUT_FILE}; train it with `data.heldout` and `keep_best`")
        found = json.loads(path.read_text())
        if lacking := [name for name in self.columns if name not in found]:
            raise RecipeError(f"`columns.{lacking[0]}`: {path} has {', '.join(found)}")
        return found


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.6f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values) / math.sqrt(len(values)):.6f}"
