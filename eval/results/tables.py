"""Success rates in the papers' form: a line for each policy, a column for each task or suite, published rows below."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eval.intervals import Mean, Rate, mean_of
from eval.results.benchmarks import Benchmark, Column, benchmark_key, benchmark_of
from eval.results.published import PublishedTable, published_tables
from eval.results.reading import Played, grouped
from eval.results.returns import NORMALISED, is_measured_by_return
from eval.results.unequal import difference_of, refuse_unequal

REFERENCES = ("expert", "random", "hold")
"""Policies that are no policy under test; their lines stand last."""

# What may differ between the suites of one benchmark under one protocol.
_OF_A_SUITE = {"suite", "task", "tasks", "max_steps", "episodes", "grid"}


@dataclass(frozen=True)
class Line:
    """One policy: a rate in each column where it played, and their mean or why there is none."""

    contestant: str
    rates: tuple[Rate | None, ...]
    mean: Mean | None
    no_mean: str = ""


@dataclass(frozen=True)
class Table:
    """One table: one benchmark under one protocol with one kind of assets.

    Attributes:
        benchmark: Its form.
        protocol: The protocol's name.
        assets: "official", "stand-in" or "own".
        quoted: The reading the rates quote.
        lines: Ours.
        published: Tables of papers with columns of this one; empty where none may stand beside it.
        no_published: Why there are none, "" where none are known.
        episodes: What was counted.
    """

    benchmark: Benchmark
    protocol: str
    assets: str
    quoted: str
    lines: tuple[Line, ...]
    published: tuple[PublishedTable, ...]
    no_published: str
    episodes: tuple[Played, ...]

    @property
    def averaged(self) -> bool:
        """Whether there is a column for the mean."""
        return sum(column.averaged for column in self.benchmark.columns) > 1

    @cached_property
    def terms(self) -> dict[str, str]:
        """What stands above the table, in words."""
        rows = [p.row for p in self.episodes]
        reading = {"any": "solved at any step", "final": "solved at the last step"}[self.quoted]
        limits, chunks = sorted({r.max_steps for r in rows}), sorted({r.execute for r in rows})
        return {
            "protocol": self.protocol,
            "assets": self.assets,
            "reading": f"{self.quoted} ({reading})",
            "episodes": f"{len(rows):,}",
            "actions at most": _range(limits),
            "executed of a chunk": _range(chunks),
            "protocol hash": ", ".join(sorted({r.protocol_hash[:12] for r in rows})),
        }


def tables_of(episodes: Sequence[Played]) -> list[Table]:
    """Every table these episodes make.

    Two policies stand in one table only where every suite both played had the same protocol, assets and reading.

    Raises:
        ValueError: episodes that would have to be averaged are not of one kind (see eval/results/unequal.py), or have
            no success to count.
    """
    if returns := next((p for p in episodes if is_measured_by_return(p.row)), None):
        raise ValueError(
            f"{returns.file}: {returns.row.suite} is measured by return, and no episode of it succeeds or fails; make "
            f"its table with a recipe, `stage: table` and `measure: {NORMALISED}`"
        )
    refuse_unequal(episodes)
    tables = []
    for key, members in grouped(episodes, lambda p: benchmark_key(p.row)).items():
        kinds = grouped(members, lambda p: (p.row.protocol, p.row.assets, p.row.quoted))
        for of_a_kind in kinds.values():
            tables += [_table(key, comparable) for comparable in _comparable(of_a_kind)]
    return tables


def counted(episodes: Iterable[Played], whole: int = 0) -> Rate | None:
    """The rate of these episodes; None where there is none."""
    outcomes = [p.success for p in episodes]
    return Rate(sum(outcomes), len(outcomes), whole) if outcomes else None


def _table(key: str, episodes: Sequence[Played]) -> Table:
    benchmark = benchmark_of(key, [p.row for p in episodes])
    players = grouped(episodes, lambda p: p.contestant)
    last = {name for name, members in players.items() if members[0].row.policy in REFERENCES}
    ordered = sorted(players, key=lambda name: name in last)
    row = episodes[0].row
    known = published_tables(key, {c.key for c in benchmark.columns})
    withheld = ""
    if known and row.assets == "stand-in":
        withheld = (
            "Published rows are left out: these episodes were played with stand-in assets, which look different from "
            "the official ones, so the two are different benchmarks."
        )
    return Table(
        benchmark,
        row.protocol,
        row.assets,
        row.quoted,
        tuple(_line(name, players[name], benchmark.columns) for name in ordered),
        () if withheld else tuple(known),
        withheld,
        tuple(episodes),
    )


def _line(name: str, episodes: Sequence[Played], columns: Sequence[Column]) -> Line:
    cells = [[p for p in episodes if column.holds(p.row)] for column in columns]
    rates = tuple(counted(cell, column.whole * _plays(cell)) for cell, column in zip(cells, columns, strict=True))
    averaged = [
        (cell, rate, column) for cell, rate, column in zip(cells, rates, columns, strict=True) if column.averaged
    ]
    if len(averaged) < 2:
        return Line(name, rates, None)
    if absent := [column.title for _, rate, column in averaged if rate is None]:
        return Line(name, rates, None, f"no mean: {', '.join(absent)} not played")
    if why := _unlike([cell for cell, _, _ in averaged]):
        return Line(name, rates, None, f"no mean: {why}")
    return Line(name, rates, mean_of([rate for _, rate, _ in averaged if rate is not None]))


def _plays(episodes: Sequence[Played]) -> int:
    """How often these play the benchmark: once for each training and each seed of the policy."""
    return len({(p.train_seed, p.repeat) for p in episodes})


def _unlike(cells: Sequence[Sequence[Played]]) -> str:
    """Why columns are not averaged, "" where they may be: other weights, or protocols unequal beyond the suite."""
    first = cells[0][0]
    weights = {p.train_seed: p.row.checkpoint for p in cells[0]}
    for played in (p for cell in cells for p in cell):
        if weights.setdefault(played.train_seed, played.row.checkpoint) != played.row.checkpoint:
            return f"{first.row.suite} and {played.row.suite} were played by different checkpoints"
        if played.row.protocol_hash != first.row.protocol_hash and (
            found := difference_of(_shared(first.row.protocol_json), _shared(played.row.protocol_json))
        ):
            return f"{found[0]} is {found[1]!r} in {first.row.suite} and {found[2]!r} in {played.row.suite}"
    return ""


def _shared(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in protocol.items() if name not in _OF_A_SUITE}


def _comparable(episodes: Sequence[Played]) -> list[list[Played]]:
    """Policies that never met under unequal protocols, put together."""
    classes: list[tuple[dict[str, Mapping[str, Any]], list[Played]]] = []
    for members in grouped(episodes, lambda p: p.contestant).values():
        protocols = {p.row.suite: p.row.protocol_json for p in members}
        for known, together in classes:
            if not any(difference_of(known.get(suite, one), one) for suite, one in protocols.items()):
                known.update(protocols)
                together += members
                break
        else:
            classes.append((protocols, [*members]))
    return [together for _, together in classes]


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
