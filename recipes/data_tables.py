"""What `vla data` prints: reports of `data_mixtures` as tables for a terminal."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from data_mixtures.summaries.inspection import DimensionRange, Inspection, TextCount
from data_mixtures.summaries.mixture_summary import MixtureSummary, SetRow

_WIDTH_OF_A_FILE = 140  # columns, where the output is no terminal
_DEFECTS_SHOWN = 12


def terminal() -> Console:
    """Standard output; as wide as a table needs where it is a file or a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH_OF_A_FILE)


def inspection_table(found: Inspection) -> RenderableType:
    """A data set's report."""
    parts: list[RenderableType] = [_facts(found)]
    parts += _spaces(found.dimensions)
    parts.append(_texts("Tasks", "episodes", found.tasks, found.top_tasks))
    if found.subtasks.spans:
        named = f"Sub-tasks: {found.subtasks.spans:,} spans in {found.subtasks.episodes:,} episodes, "
        words = f"{named}{found.subtasks.mean_seconds:.1f} s on average"
        parts.append(_texts(words, "spans", found.subtasks.distinct, found.subtasks.top))
    else:
        parts.append(_none("Sub-tasks: none named"))
    parts.append(_suspected(found))
    return Group(*parts)


def statistics_table(path: str, dimensions: Sequence[DimensionRange], suspicions: Sequence[str]) -> RenderableType:
    """A data set's statistics, and what looks wrong in them."""
    lines = [f"[yellow]suspected[/]  {escape(note)}" for note in suspicions]
    found = Text.from_markup("\n" + ("\n".join(lines) or "Suspected defects: [green]none found[/]"))
    return Group(f"[b]{escape(path)}[/b]", *_spaces(dimensions), found)


def _spaces(dimensions: Sequence[DimensionRange]) -> Iterable[RenderableType]:
    for space, note in (("state", ""), ("action", ": changes from a frame to the next; grippers absolute")):
        ranges = [d for d in dimensions if d.space == space]
        title = space.capitalize()
        yield _dimensions(title + note, ranges) if ranges else _none(f"{title}: none, it is video only")


def _facts(found: Inspection) -> Table:
    table = Table(
        title=f"[b]{escape(found.path)}[/b]", title_justify="left", box=None, show_header=False, padding=(0, 2)
    )
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in _fact_rows(found):
        table.add_row(name, escape(value))
    return table


def _fact_rows(found: Inspection) -> Iterable[tuple[str, str]]:
    sampled = found.episodes_read < found.episodes
    yield "format", found.format
    yield "robot", _counted(found.robot_types, found.episodes_usable) or "not named"
    read = f"; {found.episodes_read:,} of them read, spread out, and all figures below are of these" if sampled else ""
    yield "episodes", f"{found.episodes:,}{read}"
    if found.lengths:
        low, middle, high = found.lengths
        spread = f"{low:,} to {high:,}, half of them {middle:,} or more" if low < high else f"{low:,}"
        yield "frames", f"{found.frames:,}; an episode has {spread}"
    whole = f" read; about {_hours(found.estimated_hours)} in the whole set" if sampled else ""
    yield "duration", f"{_hours(found.hours)}{whole}"
    yield "rate", _counted({f"{rate} Hz": count for rate, count in found.rates_hz.items()}, found.episodes_usable)
    cameras = [
        f"{c.name} {' '.join(c.sizes)}" + (f" (in {c.episodes} episodes)" if c.episodes < found.episodes_usable else "")
        for c in found.cameras
    ]
    yield "cameras", ", ".join(cameras) + " (height x width)" if cameras else "none"
    if found.info:
        yes = {key: f"{key} (yes in {count:,})" for key, count in found.info_yes.items()}
        info = {yes.get(key, key): count for key, count in found.info.items()}
        yield "beside it", _counted(info, found.episodes_usable)
    yield "fingerprint", found.fingerprint


def _counted(counts: dict[str, int], total: int) -> str:
    """`franka`, or `franka (30), ur5 (2)` where not every episode says the same."""
    named = {name or "not named": count for name, count in counts.items()}
    return ", ".join(name if count == total else f"{name} ({count:,})" for name, count in named.items())


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


def _dimensions(title: str, ranges: Sequence[DimensionRange]) -> Table:
    table = _table(title)
    table.add_column("#", justify="right", style="dim")
    table.add_column("dimension")
    table.add_column("unit", style="dim")
    for name in ("min", "q01", "mean", "q99", "max", "std", "frames"):
        table.add_column(name, justify="right")
    for d in ranges:
        values = [f"{value:.4g}" for value in (d.low, d.q01, d.mean, d.q99, d.high, d.std)]
        share = "all" if d.share == 1 else f"{100 * d.share:.1f} %"
        table.add_row(str(d.index), d.name, d.unit, *values, share, style="yellow" if d.q01 == d.q99 else None)
    return table


def _texts(title: str, counted: str, distinct: int, top: Sequence[TextCount]) -> RenderableType:
    if not top:
        return _none(f"{title}: none named")
    shown = top[:10]
    rest = f", the {len(shown)} most frequent" if distinct > len(shown) else ""
    table = _table()
    table.add_column(counted, justify="right")
    table.add_column("text", overflow="fold")
    for text in shown:
        table.add_row(f"{text.count:,}", escape(text.text))
    # above the table rather than its title, which would wrap at the table's width
    return Group(f"\n[b]{title}; {distinct:,} different{rest}[/b]", table)


def _suspected(found: Inspection) -> RenderableType:
    lines = [f"[yellow]suspected[/]  {escape(note)}" for note in found.suspicions]
    lines += [
        f"[red]left out[/]   [b]{escape(d.key)}[/] ({d.kind}): {escape(d.detail)}"
        for d in found.defects[:_DEFECTS_SHOWN]
    ]
    if len(found.defects) > _DEFECTS_SHOWN:
        lines.append(f"[red]left out[/]   and {len(found.defects) - _DEFECTS_SHOWN:,} more; --json lists them all")
    title = "\n[b]Suspected defects[/b]" if lines else "\nSuspected defects: [green]none found[/]"
    return Text.from_markup("\n".join([title, *lines]))


def mixture_table(summary: MixtureSummary, name: str) -> RenderableType:
    """A mixture's sets, and what to do about those that are not there."""
    table = _table(f"{escape(name)}: shares over {summary.draws:,} samples drawn with seed {summary.seed}")
    table.add_column("data set", overflow="fold")
    for column in ("weight", "wanted %", "drawn %", "duration", "episodes", "Hz", "epochs per 1e6"):
        table.add_column(column, justify="right")
    table.add_column("embodiment")
    for row in summary.rows:
        table.add_row(*_mixture_cells(row), style=None if row.size else "dim")
    parts: list[RenderableType] = [table]
    if any(row.size and row.size.estimated for row in summary.rows):
        parts.append(Text("≈: from a spread-out sample of the set's episodes.", style="dim"))
    if summary.missing:
        parts.append(_missing(summary))
    return Group(*parts)


def _mixture_cells(row: SetRow) -> list[str]:
    cells = [escape(row.name), f"{row.weight:g}", f"{100 * row.share:.3f}", f"{100 * row.drawn:.3f}"]
    if row.size is None or row.epochs_per_million is None:
        return [*cells, "", "", "", "", "not found"]
    about = "≈ " if row.size.estimated else ""
    sizes = [f"{about}{_hours(row.size.hours)}", f"{row.size.episodes:,}", f"{row.size.rate_hz:.3g}"]
    epochs = row.epochs_per_million
    return [
        *cells,
        *sizes,
        f"{about}{epochs:,.0f}" if epochs >= 100 else f"{about}{epochs:.3g}",
        escape(row.size.robot_type) or "not named",
    ]


def _missing(summary: MixtureSummary) -> Text:
    lines = [f"\n[b]{len(summary.missing)} of {len(summary.rows)} data sets cannot be opened:[/b]"]
    for row in summary.missing:
        source = f"; get it from {escape(row.source)}" if row.source else ""
        lines.append(f"[b]{escape(row.name)}[/]: {escape(row.problem)}{source}")
    lines.append("Put each where it is looked for, or change its path in the mixture.")
    text = Text.from_markup("\n".join(lines))
    text.no_wrap, text.overflow = True, "ignore"  # a line each: the terminal wraps what is too long
    return text


def _table(title: str | None = None) -> Table:
    named = None if title is None else f"\n[b]{title}[/b]"
    return Table(title=named, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def _none(words: str) -> Text:
    return Text(f"\n{words}", style="dim")
