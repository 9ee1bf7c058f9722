"""What papers printed, as data: rows that stand beside ours, marked, and are never averaged with them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).with_name("published")


@dataclass(frozen=True)
class PublishedRow:
    """One row as printed.

    Attributes:
        method: Its name in the paper; "Ours" is the paper's own.
        values: One for each column, None where the paper has a dash.
        errors: Its ± figures, or empty.
        mean: The paper's own last column; None where it has none.
        section: The heading it stands under, or "".
        note: What is odd about it, or "".
    """

    method: str
    values: tuple[float | None, ...]
    errors: tuple[float, ...]
    mean: float | None
    section: str
    note: str


@dataclass(frozen=True)
class PublishedTable:
    """One table of one paper.

    Attributes:
        paper: Its short name.
        title: Its full title.
        table: Its number there, "S.3" and the like included.
        about: What it shows, in words.
        benchmark: `Benchmark.key` of tables it can stand beside; one of no suite here is kept all the same.
        measure: "success", "return" or "loss".
        top: The value that means all of it: 100 for per cent, 1 for shares, 10 for "of ten".
        decimals: Digits after the point, as printed.
        protocol: How it was measured as far as the paper says.
        columns: Column keys.
        rows: Its rows, improvements in per cent left out.
    """

    paper: str
    title: str
    table: str
    about: str
    benchmark: str
    measure: str
    top: float
    decimals: int
    protocol: str
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]

    def percent(self, value: float) -> str:
        """A value or an error as per cent, with the digits it was printed with."""
        digits = max(self.decimals - {100: 0, 10: 1, 1: 2}[int(self.top)], 0)
        return f"{value * 100 / self.top:.{digits}f}"

    def row(self, method: str) -> PublishedRow | None:
        """The row of that method; None where there is none."""
        return next((row for row in self.rows if row.method == method), None)

    def share(self, row: PublishedRow, column: str) -> tuple[float, float | None] | None:
        """A value and its ± as shares between 0 and 1; of "average" the printed mean. None where none is printed."""
        if column == "average":
            return None if row.mean is None else (row.mean / self.top, None)
        place = self.columns.index(column) if column in self.columns else None
        value = None if place is None else row.values[place]
        if place is None or value is None:
            return None
        return value / self.top, row.errors[place] / self.top if row.errors else None

    def named(self, row: PublishedRow) -> str:
        """The method; a paper's own "Ours" with the paper's name, so that nobody takes it for ours."""
        return f"{row.method} ({self.paper})" if row.method.startswith("Ours") else row.method

    def odd_mean(self, row: PublishedRow) -> bool:
        """Whether a printed mean is not the mean of the printed columns, beyond what rounding does."""
        if row.mean is None or None in row.values or self.benchmark in _MEANS_OF_SOMETHING_ELSE:
            return False
        known = [v for v in row.values if v is not None]
        # Half a unit of the last digit for the mean itself, half a unit on average for its columns.
        return abs(sum(known) / len(known) - row.mean) > 1.0001 * 10**-self.decimals


_MEANS_OF_SOMETHING_ELSE = {"gr1_sim_and_real"}


@cache
def all_published() -> tuple[PublishedTable, ...]:
    """Every table shipped with this package, by file and number."""
    return tuple(table for path in sorted(FOLDER.glob("*.yaml")) for table in _read(path))


def published_tables(benchmark: str, columns: set[str]) -> list[PublishedTable]:
    """Tables of success that can stand beside a table of `benchmark`: they share two columns or more, half of ours.

    A table whose paper names no grid ("simpler_google" alone) stands beside each grid's, one of "metaworld" beside each
    subset's.
    """
    return [
        table
        for table in all_published()
        if table.measure == "success"
        and (benchmark == table.benchmark or benchmark.startswith((f"{table.benchmark}/", f"{table.benchmark}_")))
        and len(columns & set(table.columns)) >= max(2, len(columns) / 2)
    ]


def published_table(paper: str, table: str) -> PublishedTable:
    """One table of one paper.

    Raises:
        ValueError: it is not among those shipped.
    """
    for known in all_published():
        if (known.paper, known.table) == (paper, table):
            return known
    there = ", ".join(f"{known.paper} {known.table}" for known in all_published())
    raise ValueError(f"table {table!r} of {paper!r} is not known; there are {there}")


def _read(path: Path) -> list[PublishedTable]:
    loaded = yaml.safe_load(path.read_text())
    return [_table(loaded, entry) for entry in loaded["tables"]]


def _table(paper: dict[str, Any], entry: dict[str, Any]) -> PublishedTable:
    columns = tuple(entry["columns"])
    return PublishedTable(
        paper["name"],
        paper["title"],
        str(entry["table"]),
        entry["about"],
        entry["benchmark"],
        entry.get("measure", "success"),
        float(entry["top"]),
        int(entry["decimals"]),
        entry["protocol"],
        columns,
        tuple(_row(row, len(columns)) for row in entry["rows"]),
    )


def _row(row: dict[str, Any], width: int) -> PublishedRow:
    values, errors = tuple(row["values"]), tuple(row.get("errors", ()))
    assert len(values) == width, f"{row['method']}: {len(values)} values for {width} columns"
    assert len(errors) in (0, width), f"{row['method']}: {len(errors)} errors for {width} columns"
    return PublishedRow(row["method"], values, errors, row.get("mean"), row.get("section", ""), row.get("note", ""))
