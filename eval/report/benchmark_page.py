"""`write_benchmark_report`: results of one or many evaluations as one page that needs nothing beside itself."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from data_mixtures.storage.whole_file import write_whole
from eval.report.benchmark_films import film_section
from eval.report.benchmark_made import made_section, speed_section
from eval.report.benchmark_tables import table_sections
from eval.report.document import document, room_for_videos
from eval.report.markup import duration, fill, join, listed, plural
from eval.results.reading import Results
from eval.results.tables import Line, Table, counted


def write_benchmark_report(results: Results, tables: Sequence[Table], out: Path) -> Path:
    """Write the page; the same rows give the same bytes.

    Args:
        results: What was read.
        tables: `tables_of(results.episodes)`, at least one.
        out: The HTML file to write, replaced as a whole.

    Returns:
        `out`.
    """
    sections = table_sections(tables)
    header = _header(results, tables)
    shown = [content for _, _, content in sections]
    rest = [speed_section(results), made_section(results)]
    films = film_section(tables, out, room_for_videos(header, *shown, *rest))
    contents = [(anchor, title) for anchor, title, _ in sections]
    contents += [("videos", "Films"), ("speed", "How fast"), ("made", "What made it")]
    title = _title(tables)
    footer = "All of it is in this file, films that are linked apart."
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, document(f"{title}: results", header, contents, [*shown, films, *rest], footer))
    return out


def _title(tables: Sequence[Table]) -> str:
    return str(listed(list(dict.fromkeys(t.benchmark.title for t in tables))).unescape())


def _header(results: Results, tables: Sequence[Table]) -> Markup:
    claims = join(fill("<p>{s}</p>", s=_sentence(t)) for t in tables)
    if results.errors:
        words = f"{plural(len(results.errors), 'episode')} could not be played and are counted nowhere."
        claims += fill("<p>Incomplete: {w}</p>", w=words)
    return fill(
        '<p class="kicker">Benchmark results</p><h1>{t}</h1><div class="lead">{c}</div>{f}',
        t=_title(tables),
        c=claims,
        f=_facts(results, tables),
    )


def _sentence(table: Table) -> Markup:
    """The policies under test and their rates; what the assets are where they are not the official ones."""
    said = listed([_claim(line, table) for line in table.lines])
    stand_in = " The assets are stand-ins: these are no benchmark numbers." if table.assets == "stand-in" else ""
    return fill("{b}, protocol {p}: {s}.{a}", b=table.benchmark.title, p=table.protocol, s=said, a=stand_in)


def _claim(line: Line, table: Table) -> Markup:
    """The mean of the columns, or of what was played where the columns have none."""
    if line.mean is not None:
        value, (low, high), trials = line.mean.mean, line.mean.interval, line.mean.trials
    else:
        rate = counted(p for p in table.episodes if p.contestant == line.contestant)
        assert rate is not None
        value, (low, high), trials = rate.mean, rate.interval, rate.trials
    columns = zip(table.benchmark.columns, line.rates, strict=True)
    played = [column.title for column, rate in columns if rate is not None]
    where = fill(" ({c} only)", c=", ".join(played)) if len(played) < len(line.rates) else ""
    return fill(
        "{n} solves <b>{m:.1f} %</b>\N{NO-BREAK SPACE}[{l:.1f}, {h:.1f}] of {e}{w}",
        n=line.contestant,
        m=100 * value,
        l=100 * low,
        h=100 * high,
        e=plural(trials, "episode"),
        w=where,
    )


def _facts(results: Results, tables: Sequence[Table]) -> Markup:
    policies = {p.contestant for p in results.episodes}
    tasks = {(p.row.suite, p.row.task) for p in results.episodes}
    facts = [
        (f"{len(results.episodes):,}", "episodes"),
        (str(len(policies)), "policies" if len(policies) != 1 else "policy"),
        (str(len(tasks)), "tasks" if len(tasks) != 1 else "task"),
        (duration(sum(p.row.seconds for p in results.episodes)), "of episodes, one after the other"),
    ]
    items = join(fill("<div><dd><b>{v}</b></dd><dt>{t}</dt></div>", v=v, t=t) for v, t in facts)
    return fill('<dl class="facts">{i}</dl>', i=items)
