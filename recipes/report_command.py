"""`vla report`: the page of a pipeline's run, or tables and a page of benchmark results."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.loading import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.results.reading import Results
    from eval.results.tables import Table

_EPILOG = """examples:
  vla report runs/demo                                    a pipeline's page again: runs/demo/report.html
  vla report runs/mt10-mine runs/mt10-theirs              tables, tests between policies, films: report.html
  vla report runs/spatial-1of2 runs/spatial-2of2          shards of one evaluation are merged
  vla report runs/mt10-mine --format md                   the tables alone, on the terminal

Episodes are averaged only where protocol, assets, weights and reading of success are equal; else the field is named.
Policies that played the same initial states are compared state by state. Published rows stand beside ours, marked.
"""

FORMATS = ("html", "md", "csv", "json")


def add_report_command(commands: Any) -> None:
    """Add `report` to the command line."""
    words = "write a pipeline's report again, or tables and a page of benchmark results"
    command = commands.add_parser(
        "report",
        help=words,
        description=words.capitalize() + ".",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "results",
        type=Path,
        nargs="+",
        metavar="RESULTS",
        help="a pipeline's run folder; or folders that `vla eval` wrote, or their .parquet and .jsonl files",
    )
    command.add_argument(
        "--format",
        choices=FORMATS,
        default="html",
        help="html (default): a page, and the tables on the terminal; md, csv or json: the tables in that form",
    )
    command.add_argument(
        "--out",
        type=Path,
        help="the file to write (default: report.html in the one folder given, else here; text is printed)",
    )
    command.set_defaults(handler=_report)


def _report(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    if overrides:
        raise RecipeError(f"`vla report` takes no overrides, but got {', '.join(overrides)}.")
    if len(options.results) == 1 and (options.results[0] / "pipeline.json").is_file():
        _pipeline(options)
    else:
        _benchmark(options)


def _pipeline(options: argparse.Namespace) -> None:
    from eval.report import write_report

    folder = options.results[0]
    if options.format != "html":
        raise RecipeError(
            f"--format {options.format}: a pipeline's report is a page; give its rollouts' folders instead."
        )
    sys.stdout.write(f"{write_report(folder, options.out or folder / 'report.html')}\n")


def _benchmark(options: argparse.Namespace) -> None:
    from eval.results.reading import read_results
    from eval.results.tables import tables_of

    results = read_results(options.results)
    if not results.episodes:
        places = ", ".join(map(str, options.results))
        raise RecipeError(" ".join([f"{places}: no episode was played; there is nothing to report.", *results.notes]))
    tables = tables_of(results.episodes)
    if options.format == "html":
        from eval.report.benchmark_page import write_benchmark_report

        show(tables, results)
        sys.stdout.write(f"{write_benchmark_report(results, tables, _page(options))}\n")
        return
    text = _text(options.format, tables, results)
    if options.out is None:
        sys.stdout.write(text)
        return
    from data_mixtures.storage.whole_file import write_whole

    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.out, text)


def _page(options: argparse.Namespace) -> Path:
    if options.out is not None:
        return options.out
    alone = options.results[0]
    return alone / "report.html" if len(options.results) == 1 and alone.is_dir() else Path("report.html")


def _text(form: str, tables: "Sequence[Table]", results: "Results") -> str:
    from eval.results import written

    if form == "csv":
        return written.as_csv(tables)
    return written.as_markdown(tables, results) if form == "md" else written.as_json(tables, results)


def show(tables: "Sequence[Table]", results: "Results") -> None:
    """Print the tables, with published rows, comparisons and what was left out, on standard output."""
    from rich.console import Console

    from eval.results.comparison import comparisons
    from eval.results.written import ODD_MEAN, compared_line, terms_line

    console = Console(file=sys.stdout, highlight=False, markup=False, soft_wrap=True)
    for table in tables:
        console.print(f"\n{table.benchmark.title}", style="bold")
        console.print(terms_line(table), style="dim")
        Console(file=sys.stdout, highlight=False, markup=False).print(_drawn(table))
        for sentence in (
            *(f"{line.contestant}: {line.no_mean}" for line in table.lines if line.no_mean),
            *([table.no_published] if table.no_published else []),
            *([ODD_MEAN] if any(t.odd_mean(row) for t in table.published for row in t.rows) else []),
            *(compared_line(c) for c in comparisons(table)),
        ):
            console.print(f"  {sentence}")
    for note in results.notes:
        console.print(note, style="dim")


def _drawn(table: "Table") -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Drawn
    from rich.text import Text

    from eval.results.written import heads, line_cells, published_cells, source

    drawn = Drawn(box=SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("Policy", overflow="fold")
    for head in heads(table):
        drawn.add_column(head, justify="right", overflow="fold")
    for line in table.lines:
        drawn.add_row(Text(line.contestant, style="bold"), *line_cells(table, line, "\n"))
    for published in table.published:
        drawn.add_section()
        drawn.add_row(Text(source(published), style="italic dim"))
        for row in published.rows:
            drawn.add_row(Text(published.named(row)), *published_cells(table, published, row), style="dim")
    return drawn
