"""`stage: table`: rollouts of several methods and training seeds become one table, or curves over a sweep."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_mixtures.storage.whole_file import write_whole
from eval.results.published import published_table
from recipes.checks import check_alone, check_input
from recipes.finished import done_when_whole, has_all
from recipes.loading import RecipeError
from recipes.provenance import resolved_text

if TYPE_CHECKING:
    from eval.results.study_written import Written

_FILES = ("table.md", "table.csv", "table.json", "table.html", "table.png")


@dataclass(frozen=True)
class PaperConfig:
    """A published table whose numbers stand beside ours.

    Attributes:
        table: Its number.
        name: The paper, as eval/results/published names it.
        at: In a sweep, the value at which they stand; None where the table's rows are the sweep's values.
    """

    table: str
    name: str = "CLAM"
    at: int | float | str | None = None


@dataclass(frozen=True)
class SweepConfig:
    """Curves in a table's place.

    Attributes:
        label: Of the rows (`labels` of a rollout recipe): the axis. Methods whose rows lack it are level lines.
        title: The axis in words.
    """

    label: str
    title: str


@dataclass(frozen=True)
class TableRecipe:
    """Write table.md, .csv, .json, .html and .png into `run`; made again whenever its rollouts or its recipe changed.

    Attributes:
        stage: table.
        run: The folder.
        title: Its heading.
        results: Folders that rollout recipes wrote.
        methods: Policy (a rollout's `arm`) -> title, in the order of lines; a paper's row of that name stands beside.
        beside: The same of policies that no paper has.
        measure: "success", or a reading of the rows, as "normalised_return".
        papers: Published tables.
        sweep: Curves over a label; None for a table.
        notes: Sentences under it: where the protocol differs from the paper's.
    """

    stage: Literal["table"]
    run: str
    title: str
    results: list[str]
    methods: dict[str, str]
    beside: dict[str, str] = field(default_factory=dict)
    measure: str = "success"
    papers: list[PaperConfig] = field(default_factory=list)
    sweep: SweepConfig | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.results or not self.methods:
            raise ValueError("`results` and `methods` name at least one folder and one policy")
        if twice := set(self.methods) & set(self.beside):
            raise ValueError(f"`beside` names {sorted(twice)[0]!r}, which `methods` has; leave it out of one")
        if self.sweep is None and len(self.papers) > 1:
            raise ValueError("`papers` holds one table at most; several stand beside a sweep, each `at` a value")
        for place, paper in enumerate(self.papers):
            self._check_paper(f"papers.{place}", paper)

    def _check_paper(self, name: str, paper: PaperConfig) -> None:
        known = published_table(paper.name, paper.table)
        if self.sweep is not None:
            if paper.at is None and len(self.methods) > 1:
                raise ValueError(f"`{name}.at`: say at which value of the sweep the paper's methods stand")
            return
        if paper.at is not None:
            raise ValueError(f"`{name}.at: {paper.at}` is a sweep's value, and this is a table; leave it out")
        if lacking := [title for title in self.methods.values() if known.row(title) is None]:
            there = ", ".join(row.method for row in known.rows)
            raise ValueError(
                f"`methods`: table {paper.table} of {paper.name} has no row {lacking[0]!r}, but {there}; name it so, "
                "or put the policy in `beside`"
            )

    def check(self, made: set[Path], ranks: int | None = None) -> None:
        """The rollouts are there, or an earlier step makes them."""
        check_alone(self.stage, ranks)
        for place, folder in enumerate(self.results):
            check_input(f"results.{place}", folder, made, "run its rollout recipe first.")

    def is_done(self) -> bool:
        """True once it is written by this recipe from rollouts that have not changed since."""
        run, done = Path(self.run), Path(self.run) / "done.json"
        if not has_all(run, *_FILES, "done.json") or (run / "recipe.yaml").read_text() != resolved_text(self):
            return False
        ended = [Path(folder) / "done.json" for folder in self.results]
        return all(path.exists() and path.stat().st_mtime_ns <= done.stat().st_mtime_ns for path in ended)

    def execute(self) -> None:
        """Write the five files."""
        from eval.report.study_page import study_page
        from eval.report.study_plot import picture
        from eval.results.study_written import as_csv, as_json, as_markdown

        run = Path(self.run)
        with done_when_whole(run):
            written = self._written()
            png = picture(written)
            contents = (as_markdown(written), as_csv(written), as_json(written), study_page(written, png), png)
            for name, content in zip(_FILES, contents, strict=True):
                write_whole(run / name, content)

    def _written(self) -> "Written":
        from eval.results.reading import read_results
        from eval.results.study import study_of
        from eval.results.study_written import Beside, Written

        results = read_results([Path(folder) for folder in self.results])
        tables = [published_table(paper.name, paper.table) for paper in self.papers]
        order = [column for table in tables for column in table.columns]
        titles = {**self.methods, **self.beside}
        label = self.sweep.label if self.sweep else None
        try:
            study = study_of(results.episodes, titles, self.measure, label, list(dict.fromkeys(order)))
        except ValueError as error:
            raise RecipeError(f"`results`: {error}") from error
        return Written(
            self.title,
            study,
            tuple(Beside(table, paper.at) for table, paper in zip(tables, self.papers, strict=True)),
            self.methods,
            self.sweep.title if self.sweep else "",
            (*self.notes, *([] if self.sweep else _absent(titles, study.methods)), *results.notes),
        )


def _absent(wanted: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    lacking = [title for method, title in wanted.items() if method not in there]
    return [f"Not played: {', '.join(lacking)}."] if lacking else []
