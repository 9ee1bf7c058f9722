"""A study as Markdown, CSV and JSON: our numbers, the paper's beside them, the difference."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eval.results.published import PublishedTable
from eval.results.seed_tests import SeedTest, seed_tests
from eval.results.study import AVERAGE, SUCCESS, Cell, Setting, Study
from eval.results.written import ODD_MEAN, p_value, plain, source


@dataclass(frozen=True)
class Beside:
    """A paper's table, and the setting of the sweep at which its numbers stand.

    None in a table; beside a sweep, None says that its rows are not methods but the settings.
    """

    table: PublishedTable
    at: Setting = None


@dataclass(frozen=True)
class Written:
    """A study with what stands around it.

    Attributes:
        title: Its heading.
        study: The numbers.
        papers: Published tables beside it.
        paper_rows: Policy -> the paper's method; of those that have one.
        axis: A sweep's axis in words, "" of a table.
        notes: Sentences: where the protocol differs from the paper's, what was left out.
    """

    title: str
    study: Study
    papers: tuple[Beside, ...]
    paper_rows: dict[str, str]
    axis: str
    notes: tuple[str, ...]

    def paper(self, method: str, column: str, setting: Setting = None) -> tuple[float, float | None] | None:
        """The paper's value and its ±, as shares; None where it prints none."""
        for beside in self.papers:
            by_setting = bool(self.axis) and beside.at is None
            row = beside.table.row(str(setting) if by_setting else self.paper_rows.get(method, ""))
            if row is not None and (by_setting or beside.at == setting):
                return beside.table.share(row, column)
        return None

    @property
    def sentences(self) -> list[str]:
        """What is to be read with the numbers."""
        return [self._measured(), *self._protocols(), *self._odd(), *self.notes]

    def _measured(self) -> str:
        study = self.study
        what = "success" if study.measure == SUCCESS else study.measure.replace("_", " ")
        seeds, rollouts = " to ".join(map(str, study.seeds)), " to ".join(map(str, study.rollouts))
        if not seeds:
            return f"Per cent of {what}; {rollouts} rollouts a cell."
        spread = "mean ± standard error over training seeds"
        if study.seeds[0] == 1:
            spread += "; [95 % Wilson interval of the rollouts] where there is one seed"
        return f"Per cent of {what}: {spread}. {seeds} training seeds x {rollouts} rollouts."

    def _protocols(self) -> list[str]:
        tables = dict.fromkeys((b.table.paper, b.table.table, b.table.protocol.strip()) for b in self.papers)
        return [f"{paper}, table {table}: {protocol}" for paper, table, protocol in tables]

    def _odd(self) -> list[str]:
        odd = any(self.is_odd(method) for method in self.study.methods) and AVERAGE in self.study.shown
        return [f"{ODD_MEAN}."] if odd else []

    def is_odd(self, method: str) -> bool:
        """Whether the paper's printed average is not that of its columns."""
        rows = [(b.table, b.table.row(self.paper_rows.get(method, ""))) for b in self.papers]
        return any(row is not None and table.odd_mean(row) for table, row in rows)


def ours(cell: Cell | None) -> str:
    """`72.4 ± 3.1`; with one seed `72.0 [58.3, 82.5]`, of a return the mean alone; "–" where nothing was played."""
    if cell is None:
        return "–"
    if cell.error is not None:
        return f"{100 * cell.mean:.1f} ± {100 * cell.error:.1f}"
    if cell.alone is not None and None not in cell.by_seed:
        return f"{100 * cell.mean:.1f} [{100 * cell.alone[0]:.1f}, {100 * cell.alone[1]:.1f}]"
    return f"{100 * cell.mean:.1f}"


def printed(value: tuple[float, float | None] | None, odd: bool = False) -> str:
    """A paper's number, `81 ± 3`."""
    if value is None:
        return "–"
    error = "" if value[1] is None else f" ± {100 * value[1]:.3g}"
    return f"{100 * value[0]:.3g}{error}{'*' if odd else ''}"


def minus(cell: Cell | None, value: tuple[float, float | None] | None) -> str:
    """Ours minus the paper's in points, `+1.4`."""
    return "–" if cell is None or value is None else f"{100 * (cell.mean - value[0]):+.1f}"


def test_line(test: SeedTest, study: Study) -> str:
    """One comparison as a sentence."""
    p = f"p = {p_value(test.p)}".replace("= <", "<") if test.p is not None else "the same in every seed"
    where = test.column if test.setting is None else f"{test.column} at {test.setting}"
    return (
        f"{where}: {study.methods[test.first]} minus {study.methods[test.second]} {100 * test.difference:+.1f} "
        f"[{100 * test.low:+.1f}, {100 * test.high:+.1f}] points, {p}"
    )


def told_tests(study: Study, tests: Sequence[SeedTest]) -> tuple[str, list[SeedTest]]:
    """What the tests are, in words, and those that are listed: of the last column, where there are many."""
    words = (
        "Pairs of methods whose intervals are apart; paired by training seed, Student's t, 95 % interval, p not "
        "corrected for the number of pairs."
    )
    if AVERAGE in study.shown and len(tests) > 12:
        return f"{words} Of the average; the JSON file has all.", [t for t in tests if t.column == AVERAGE]
    return words, list(tests)


def as_markdown(written: Written) -> str:
    """Heading, table (one for each column of a sweep), tests and notes."""
    study = written.study
    blocks = [f"# {plain(written.title)}"]
    if study.settings == (None,):
        blocks.append(_table(["Method", *study.shown], list(_lines(written))))
    else:
        for column in study.shown:
            head = [written.axis, *study.methods.values()]
            blocks += [f"## {plain(column)}", _table(head, list(_points(written, column)))]
    tests = seed_tests(study)
    if tests:
        words, listed = told_tests(study, tests)
        blocks += [words, "\n".join(f"- {plain(test_line(test, study))}" for test in listed)]
    blocks.append("\n".join(f"- {plain(sentence)}" for sentence in written.sentences))
    return "\n\n".join(blocks) + "\n"


def _lines(written: Written) -> Iterator[list[str]]:
    study = written.study
    for method, title in study.methods.items():
        cells = [study.cell(method, column) for column in study.shown]
        yield [title, *map(ours, cells)]
        if method in written.paper_rows:
            papers = [written.paper(method, column) for column in study.shown]
            odd = [written.is_odd(method) and column == AVERAGE for column in study.shown]
            yield ["– paper", *map(printed, papers, odd)]
            yield ["– difference", *map(minus, cells, papers)]


def _points(written: Written, column: str) -> Iterator[list[str]]:
    study = written.study
    for setting in (*study.settings, None):
        cells = {method: study.cell(method, column, setting) for method in study.methods}
        if not any(cells.values()):
            continue
        texts = []
        for method, cell in cells.items():
            value = written.paper(method, column, setting)
            texts.append(ours(cell) + (f" (paper {printed(value)})" if value else ""))
        yield ["any" if setting is None else str(setting), *texts]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(map(plain, cells)) + " |" for cells in [head, *rows]]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)


CSV_COLUMNS = (
    *("method", "title", "column", "setting", "percent", "standard_error", "low", "high", "seeds", "episodes"),
    *("paper_percent", "paper_error", "difference"),
)


def as_csv(written: Written) -> str:
    """One line a cell."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(CSV_COLUMNS)
    for method, column, setting, cell in _cells(written.study):
        value = written.paper(method, column, setting)
        numbers = (cell.mean, cell.error, *(cell.interval or (None, None)))
        papers = (*(value or (None, None)), None if value is None else cell.mean - value[0])
        counts = (len(cell.by_seed), sum(cell.episodes.values()))
        place = (method, written.study.methods[method], column, "" if setting is None else setting)
        write((*place, *_percent(numbers), *counts, *_percent(papers)))
    return out.getvalue()


def _percent(values: Sequence[float | None]) -> list[str]:
    return ["" if value is None else f"{100 * value:.3f}" for value in values]


def as_json(written: Written) -> str:
    """Everything, shares between 0 and 1."""
    study = written.study
    content = {
        "title": written.title,
        "measure": study.measure,
        "axis": written.axis,
        "columns": list(study.shown),
        "settings": list(study.settings),
        "methods": dict(study.methods),
        "cells": [_json_cell(written, *found) for found in _cells(study)],
        "tests": [asdict(test) for test in seed_tests(study)],
        "protocols": {p.row.task: p.row.protocol_json for p in study.episodes},
        "papers": [
            {"source": source(b.table), "title": b.table.title, "at": b.at, "rows": [asdict(r) for r in b.table.rows]}
            for b in written.papers
        ],
        "notes": written.sentences,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _cells(study: Study) -> Iterator[tuple[str, str, Setting, Cell]]:
    for method in study.methods:
        for column in study.shown:
            for setting in dict.fromkeys((*study.settings, None)):
                if (cell := study.cell(method, column, setting)) is not None:
                    yield method, column, setting, cell


def _json_cell(written: Written, method: str, column: str, setting: Setting, cell: Cell) -> dict[str, Any]:
    value = written.paper(method, column, setting)
    return {
        "method": method,
        "column": column,
        "setting": setting,
        "mean": cell.mean,
        "standard_error": cell.error,
        "interval_of_one_seed": cell.alone,
        "by_seed": {str(seed): mean for seed, mean in cell.by_seed.items()},
        "episodes": sum(cell.episodes.values()),
        "paper": None if value is None else {"mean": value[0], "error": value[1]},
    }
