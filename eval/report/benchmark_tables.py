"""A benchmark's tables on the page: success as the papers print it, comparisons, tasks one by one."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from eval.intervals import Mean, Rate
from eval.report.markup import MINUS, fill, folded, join, missing, plural, section
from eval.results.comparison import Comparison, comparisons
from eval.results.published import PublishedTable
from eval.results.reading import grouped
from eval.results.tables import Line, Table, counted
from eval.results.written import heads, p_value, published_cells, source

_FOLD_ABOVE = 10  # tasks

HOW = (
    "Per cent of episodes solved, with the 95 % Wilson interval and the count; a mean is of the columns, each "
    "counted alike. Published rows are as printed in the paper, under its own protocol, and are in no "
    "mean of ours; * marks a printed mean that is not the mean of the printed columns."
)


def table_sections(tables: Sequence[Table]) -> list[tuple[str, str, Markup]]:
    """(anchor, title, section) of every table; tables of one benchmark are numbered by their protocol."""
    found = []
    for index, table in enumerate(tables):
        title = table.benchmark.title
        if sum(t.benchmark.key == table.benchmark.key for t in tables) > 1:
            title = f"{title}: {table.protocol}, {table.assets} assets"
        anchor = f"table-{index}"
        compared = comparisons(table)
        parts = [_terms(table), _main_table(table), _sentences(table), _compared(compared), _readings(table)]
        found.append((anchor, title, section(anchor, title, *parts, _tasks(table), note=HOW if index == 0 else "")))
    return found


def _terms(table: Table) -> Markup:
    pairs = join(fill("<div><dt>{k}</dt><dd>{v}</dd></div>", k=k, v=v) for k, v in table.terms.items())
    kind = "terms stand-in" if table.assets == "stand-in" else "terms"
    return fill('<dl class="{k}">{p}</dl>', k=kind, p=pairs)


def _main_table(table: Table) -> Markup:
    rows = [_row(line.contestant, _cells(table, line)) for line in table.lines]
    wide = len(heads(table)) + 1
    for published in table.published:
        words = f"{source(published)} – {published.about}. {published.protocol}"
        rows.append(fill('<tr class="source"><th scope="rowgroup" colspan="{w}">{s}</th></tr>', w=wide, s=words))
        rows += _published_rows(table, published)
    return _grid(["Policy", *heads(table)], rows)


def _cells(table: Table, line: Line) -> list[Markup]:
    cells = [_cell(rate) for rate in line.rates]
    return [*cells, _cell(line.mean, "total", line.no_mean)] if table.averaged else cells


def _cell(figure: Rate | Mean | None, kind: str = "", why: str = "") -> Markup:
    if figure is None:
        return fill('<td class="none"{t}>–</td>', t=fill(' title="{w}"', w=why) if why else Markup())
    low, high = figure.interval
    count = Markup()
    if isinstance(figure, Rate):
        part = f" of {figure.whole}" if figure.whole and figure.trials < figure.whole else ""
        count = fill("<small>{s}/{n}{p}</small>", s=figure.successes, n=figure.trials, p=part)
    return fill(
        '<td class="{k}" style="--p:{p:.3f}"><b>{m:.1f}</b><small>[{l:.1f}, {h:.1f}]</small>{c}</td>',
        k=kind,
        p=figure.mean,
        m=100 * figure.mean,
        l=100 * low,
        h=100 * high,
        c=count,
    )


def _published_rows(table: Table, published: PublishedTable) -> Iterable[Markup]:
    for row in published.rows:
        name = published.named(row)
        about = " · ".join(part for part in (row.section, row.note) if part)
        words = fill("{n}<small>{a}</small>", n=name, a=about) if about else name
        cells = [fill("<td>{c}</td>", c=cell) for cell in published_cells(table, published, row)]
        yield _row(words, cells, "published")


def _row(name: Markup | str, cells: Iterable[Markup], kind: str = "") -> Markup:
    return fill('<tr class="{k}"><th scope="row">{n}</th>{c}</tr>', k=kind, n=name, c=join(cells))


def _grid(head: Sequence[str], rows: Iterable[Markup]) -> Markup:
    columns = join(fill('<th scope="col">{c}</th>', c=c) for c in head)
    return fill(
        '<div class="scroll"><table class="success bench"><thead><tr>{h}</tr></thead><tbody>{r}</tbody></table></div>',
        h=columns,
        r=join(rows),
    )


def _sentences(table: Table) -> Markup:
    said = [f"{line.contestant}: {line.no_mean}." for line in table.lines if line.no_mean]
    said += [table.no_published] if table.no_published else []
    return join(missing(sentence) for sentence in said)


def _compared(compared: Sequence[Comparison]) -> Markup:
    if not compared:
        return Markup()
    rows = [_row(f"{c.first} {MINUS} {c.second}", _comparison_cells(c)) for c in compared]
    note = (
        "On the initial states both played, in points of per cent. The interval is the wider, at each end, of "
        "Newcombe’s for paired proportions and a bootstrap over initial states and training seeds; p is McNemar’s "
        "exact test, two-sided, not corrected for the number of comparisons."
    )
    head = ["Policies", "Difference", "Both solve", "Only the first", "Only the second", "Neither", "p"]
    return fill("<h3>Policies compared</h3><p class='note'>{n}</p>{t}", n=note, t=_grid(head, rows))


def _comparison_cells(c: Comparison) -> list[Markup]:
    d = c.difference
    shown = fill(
        '<td class="final {o}"><b>{m}</b><small>[{l}, {h}]</small><small>{p}</small></td>',
        o=d.outcome,
        m=_points(d.mean),
        l=_points(d.low),
        h=_points(d.high),
        p=plural(d.pairs, "pair") if d.pairs else "not paired",
    )
    counts = [c.both, c.only_first, c.only_second, c.neither] if d.pairs else ["–"] * 4
    p = fill('<td class="final">{p}</td>', p=p_value(c.p)) if c.p is not None else _no_p(c.no_p)
    return [shown, *(fill('<td class="final">{n}</td>', n=n) for n in counts), p]


def _no_p(why: str) -> Markup:
    return fill('<td class="none">–<small>{w}</small></td>', w=why)


def _points(share: float) -> str:
    text = f"{100 * share:+.1f}"
    return text.replace("-", MINUS)


def _readings(table: Table) -> Markup:
    """Every reading of success, where they differ or anything could hang on them."""
    names = ("success_any", "success_final", "success_first")
    rows = []
    for line in table.lines:
        members = [p for p in table.episodes if p.contestant == line.contestant]
        rates = [Rate(sum(getattr(p.row, name) for p in members), len(members)) for name in names]
        rows.append(_row(line.contestant, [_cell(rate) for rate in rates]))
    head = ["Policy", "At any step", "At the last step", "Stopped at the first success"]
    words = f"Every reading of success; the table quotes “{table.quoted}”"
    return folded(words, _grid(head, rows))


def _tasks(table: Table) -> Markup:
    """Tasks one by one, a column for each policy."""
    tasks = list(dict.fromkeys((p.row.suite, p.row.task) for p in table.episodes))
    if len(tasks) == len(table.benchmark.columns) and len({s for s, _ in tasks}) == 1:
        return Markup()  # the table above has a column for each already
    names = [line.contestant for line in table.lines]
    places = grouped(table.episodes, lambda p: (p.row.suite, p.row.task, p.contestant))
    rows = [
        _row(task, [_cell(counted(places.get((suite, task, name), []))) for name in names]) for suite, task in tasks
    ]
    if len({suite for suite, _ in tasks}) > 1:
        rows = _with_suites(tasks, rows, len(names) + 1)
    shown = _grid(["Task", *names], rows)
    title = f"Task by task ({len(tasks)})"
    return folded(title, shown) if len(tasks) > _FOLD_ABOVE else fill("<h3>{t}</h3>{s}", t=title, s=shown)


def _with_suites(tasks: Sequence[tuple[str, str]], rows: Sequence[Markup], wide: int) -> list[Markup]:
    """The rows with a heading where a suite begins."""
    out: list[Markup] = []
    for index, ((suite, _), row) in enumerate(zip(tasks, rows, strict=True)):
        if index == 0 or tasks[index - 1][0] != suite:
            out.append(fill('<tr class="source"><th scope="rowgroup" colspan="{w}">{s}</th></tr>', w=wide, s=suite))
        out.append(row)
    return out
