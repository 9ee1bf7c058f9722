"""Tables as Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from eval.intervals import Mean, Rate
from eval.results.comparison import Comparison, comparisons
from eval.results.published import PublishedRow, PublishedTable
from eval.results.reading import Results
from eval.results.tables import Line, Table

ODD_MEAN = "* a printed mean that is not the mean of the printed columns"


def as_markdown(tables: Sequence[Table], results: Results) -> str:
    """Headings, terms, tables and comparisons."""
    blocks = [block for table in tables for block in _markdown(table)]
    blocks += ["\n".join(f"- {plain(note)}" for note in results.notes)] if results.notes else []
    return "\n\n".join(blocks) + "\n"


def as_csv(tables: Sequence[Table]) -> str:
    """One line a number: ours with counts and interval, published ones as printed, marked so."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(CSV_COLUMNS)
    for table in tables:
        terms = (table.benchmark.title, table.protocol, table.assets, table.quoted)
        for line in table.lines:
            for column, rate in zip(table.benchmark.columns, line.rates, strict=True):
                if rate is not None:
                    write((*terms, "ours", line.contestant, column.key, *_numbers(rate)))
            if line.mean is not None:
                write((*terms, "ours", line.contestant, "mean", *_numbers(line.mean)))
        for published in table.published:
            for name, method, value in _published_numbers(published):
                write((table.benchmark.title, "", "", "", source(published), method, name, value, "", "", "", ""))
    return out.getvalue()


CSV_COLUMNS = (
    *("benchmark", "protocol", "assets", "reading", "source", "policy", "column"),
    *("percent", "low", "high", "successes", "episodes"),
)


def as_json(tables: Sequence[Table], results: Results) -> str:
    """Everything the tables hold, shares between 0 and 1."""
    content = {
        "tables": [_json_table(table) for table in tables],
        "not_played": [p.row.to_json() for p in results.errors],
        "notes": list(results.notes),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def heads(table: Table) -> list[str]:
    """The titles of the columns beside the policy's name."""
    return [c.title for c in table.benchmark.columns] + (["Mean"] if table.averaged else [])


def line_cells(table: Table, line: Line, separator: str = " ") -> list[str]:
    """One of our lines as text: `72.0 [58.3, 82.5] 36/50`, "–" where nothing was played."""
    cells = [_text(rate, separator) for rate in line.rates]
    return [*cells, _text(line.mean, separator)] if table.averaged else cells


def published_cells(table: Table, published: PublishedTable, row: PublishedRow) -> list[str]:
    """A published row in the columns of our table: `98.6`, `69 ± 5`, "–" where the paper has none."""
    cells = []
    for column in table.benchmark.columns:
        place = published.columns.index(column.key) if column.key in published.columns else None
        value = None if place is None else row.values[place]
        error = f" ± {published.percent(row.errors[place])}" if row.errors and place is not None else ""
        cells.append("–" if value is None else published.percent(value) + error)
    mean = "–" if row.mean is None else published.percent(row.mean) + ("*" if published.odd_mean(row) else "")
    return [*cells, mean] if table.averaged else cells


def source(published: PublishedTable) -> str:
    """`published: LatBot, table 3`."""
    return f"published: {published.paper}, table {published.table}"


def terms_line(table: Table) -> str:
    """What stands above a table, in one line."""
    return "; ".join(f"{name}: {value}" for name, value in table.terms.items())


def compared_line(c: Comparison) -> str:
    """One comparison as a sentence."""
    d = c.difference
    test = f"McNemar's exact p = {p_value(c.p)}" if c.p is not None else f"no test: {c.no_p}"
    counts = (
        f"both {c.both}, only the first {c.only_first}, only the second {c.only_second}, neither {c.neither}"
        if d.pairs
        else "not paired"
    )
    return (
        f"{c.first} minus {c.second}: {100 * d.mean:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}] points; "
        f"{counts}; {test}"
    )


def p_value(p: float) -> str:
    """`0.031`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _markdown(table: Table) -> Iterator[str]:
    yield f"## {plain(table.benchmark.title)}"
    yield plain(terms_line(table))
    rows = [[line.contestant, *line_cells(table, line)] for line in table.lines]
    for published in table.published:
        rows += [
            [f"{published.named(r)} ({source(published)})", *published_cells(table, published, r)]
            for r in published.rows
        ]
    head = ["Policy", *heads(table)]
    lines = ["| " + " | ".join(map(plain, cells)) + " |" for cells in [head, *rows]]
    lines.insert(1, "|" + "---|" * len(head))
    yield "\n".join(lines)
    said = [plain(f"{line.contestant}: {line.no_mean}") for line in table.lines if line.no_mean]
    said += [table.no_published] if table.no_published else []
    said += [plain(ODD_MEAN)] if any(t.odd_mean(row) for t in table.published for row in t.rows) else []
    said += [plain(compared_line(c)) for c in comparisons(table)]
    if said:
        yield "\n".join(f"- {sentence}" for sentence in said)


def plain(text: str) -> str:
    """Text that cannot end a cell of a Markdown table or begin markup."""
    return "".join("\\" + c if c in "\\|`*_<>[]#" else c for c in " ".join(text.split()))


def _text(figure: Rate | Mean | None, separator: str) -> str:
    if figure is None:
        return "–"
    low, high = figure.interval
    parts = [f"{100 * figure.mean:.1f}", f"[{100 * low:.1f}, {100 * high:.1f}]"]
    if isinstance(figure, Rate):
        whole = f" of {figure.whole}" if figure.whole and figure.trials < figure.whole else ""
        parts.append(f"{figure.successes}/{figure.trials}{whole}")
    return separator.join(parts)


def _numbers(figure: Rate | Mean) -> tuple[Any, ...]:
    ends = [f"{100 * end:.3f}" for end in figure.interval]
    return (f"{100 * figure.mean:.3f}", *ends, getattr(figure, "successes", ""), figure.trials)


def _published_numbers(published: PublishedTable) -> Iterator[tuple[str, str, str]]:
    for row in published.rows:
        for name, value in zip(published.columns, row.values, strict=True):
            if value is not None:
                yield name, published.named(row), published.percent(value)
        if row.mean is not None:
            yield "mean", published.named(row), published.percent(row.mean)


def _json_table(table: Table) -> dict[str, Any]:
    keys = [c.key for c in table.benchmark.columns]
    return {
        "benchmark": table.benchmark.key,
        "title": table.benchmark.title,
        "terms": table.terms,
        "protocols": {p.row.suite: p.row.protocol_json for p in table.episodes},
        "columns": keys,
        "ours": [
            {
                "policy": line.contestant,
                "rates": {k: _json_figure(r) for k, r in zip(keys, line.rates, strict=True)},
                "mean": _json_figure(line.mean),
                "no_mean": line.no_mean,
            }
            for line in table.lines
        ],
        "published": [asdict(p) for p in table.published],
        "no_published": table.no_published,
        "comparisons": [asdict(c) for c in comparisons(table)],
    }


def _json_figure(figure: Rate | Mean | None) -> dict[str, Any] | None:
    if figure is None:
        return None
    return {
        "success": figure.mean,
        "interval": list(figure.interval),
        "successes": getattr(figure, "successes", None),
        "episodes": figure.trials,
        "whole": getattr(figure, "whole", None) or None,
    }
