"""Methods trained several times: one number a method and task, with what changing only the training's seed does to it.

A cell is the mean over training seeds of what each training reached, and its standard error: the papers' form, and
what says whether a method would do it again. `vla report`'s tables count episodes instead (eval/results/tables.py).
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eval.intervals import Rate, mean_of, wilson_interval
from eval.results.benchmarks import benchmark_key, benchmark_of
from eval.results.reading import Played, grouped
from eval.results.returns import mean_return
from eval.results.unequal import difference_of, refuse_unequal

SUCCESS = "success"
AVERAGE = "average"

Setting = int | float | str | None
"""A sweep's value, as 50 labelled trajectories; None in a table."""


@dataclass(frozen=True)
class Cell:
    """What one method reached on one task.

    Attributes:
        by_seed: Training seed -> mean over its episodes; None is the key of what was not trained.
        episodes: Training seed -> how many.
        alone: Where there is one training: 95 % Wilson interval of its successes; None of a return.
    """

    by_seed: Mapping[int | None, float]
    episodes: Mapping[int | None, int]
    alone: tuple[float, float] | None = None

    @property
    def mean(self) -> float:
        """The mean over trainings, each counted alike."""
        return statistics.fmean(self.by_seed.values())

    @property
    def error(self) -> float | None:
        """The standard error over trainings; None where there is one."""
        values = list(self.by_seed.values())
        return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Mean and error, or `alone`."""
        return self.alone if self.error is None else (self.mean - self.error, self.mean + self.error)


@dataclass(frozen=True)
class Study:
    """Cells by method, column and setting.

    Attributes:
        measure: "success", or the reading that was averaged.
        methods: Policy -> title, in the order of lines.
        columns: Keys, as published tables have them, in order.
        settings: A sweep's values in order; (None,) of a table. Cells of None in a sweep do not depend on it.
        cells: (policy, column, setting) -> cell, where episodes were played.
        episodes: What was counted.
    """

    measure: str
    methods: Mapping[str, str]
    columns: tuple[str, ...]
    settings: tuple[Setting, ...]
    cells: Mapping[tuple[str, str, Setting], Cell]
    episodes: tuple[Played, ...]

    def cell(self, method: str, column: str, setting: Setting = None) -> Cell | None:
        """One cell; of the column "average" the mean of all columns, None where one is missing or differs in seeds."""
        if column != AVERAGE:
            return self.cells.get((method, column, setting))
        cells = [self.cells.get((method, each, setting)) for each in self.columns]
        there = [cell for cell in cells if cell is not None]
        if len(there) < len(cells) or len({frozenset(cell.by_seed) for cell in there}) > 1:
            return None
        return _average(there)

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns, and their average where there are several."""
        return (*self.columns, AVERAGE) if len(self.columns) > 1 else self.columns

    @property
    def seeds(self) -> list[int]:
        """How many trainings the cells have, fewest and most; of trained methods."""
        return _ends(len(cell.by_seed) for cell in self.cells.values() if None not in cell.by_seed)

    @property
    def rollouts(self) -> list[int]:
        """How many episodes each training played on a task, fewest and most."""
        return _ends(count for cell in self.cells.values() for count in cell.episodes.values())


def study_of(
    episodes: Sequence[Played],
    methods: Mapping[str, str],
    measure: str = SUCCESS,
    sweep: str | None = None,
    order: Sequence[str] = (),
) -> Study:
    """Gather episodes into cells.

    Args:
        episodes: Of one benchmark; those of policies that `methods` does not name are left out.
        methods: Policy -> title.
        measure: "success" (the quoted reading) or a reading of the rows, as "normalised_return".
        sweep: The label of the rows that is the sweep's axis; rows without it do not depend on it.
        order: Columns that come first.

    Raises:
        ValueError: none is left; they are of several benchmarks; a cell would average what differs in its protocol,
            its weights or its labels.
    """
    kept = [played for played in episodes if played.row.policy in methods]
    if not kept:
        there = ", ".join(sorted({played.row.policy for played in episodes})) or "none"
        raise ValueError(f"no episode of {', '.join(methods)} was played; there are episodes of: {there}")
    keys = sorted({benchmark_key(played.row) for played in kept})
    if len(keys) > 1:
        raise ValueError(f"episodes of {keys[0]} and {keys[1]} do not make one table; give results of one benchmark")
    columns = benchmark_of(keys[0], [played.row for played in kept]).columns
    cells: dict[tuple[str, str, Setting], Cell] = {}
    for column in columns:
        members = [played for played in kept if column.holds(played.row)]
        _refuse_unequal(members)
        for (method, setting), of_cell in grouped(members, lambda p: (p.row.policy, _setting(p, sweep))).items():
            _refuse_other_labels(of_cell, sweep)
            cells[method, column.key, setting] = _cell(of_cell, measure)
    names = [column.key for column in columns]
    ordered = (*(name for name in order if name in names), *(name for name in names if name not in order))
    settings = _in_order(setting for _, _, setting in cells) if sweep else (None,)
    present = {method: title for method, title in methods.items() if any(key[0] == method for key in cells)}
    return Study(measure, present, ordered, settings, cells, tuple(kept))


def _in_order(found: Iterable[Setting]) -> tuple[Setting, ...]:
    """Numbers by size, then words as they came."""
    distinct = dict.fromkeys(found)
    numbers = sorted(setting for setting in distinct if isinstance(setting, int | float))
    return (*numbers, *(setting for setting in distinct if isinstance(setting, str)))


def _setting(played: Played, sweep: str | None) -> Setting:
    return None if sweep is None else played.row.labels.get(sweep)


def _cell(episodes: Sequence[Played], measure: str) -> Cell:
    trainings = grouped(episodes, lambda p: p.train_seed)
    counts = {seed: len(members) for seed, members in trainings.items()}
    if measure != SUCCESS:
        return Cell({seed: mean_return([p.row for p in m], measure) for seed, m in trainings.items()}, counts)
    solved = {seed: sum(p.success for p in members) for seed, members in trainings.items()}
    alone = wilson_interval(sum(solved.values()), sum(counts.values())) if len(counts) == 1 else None
    return Cell({seed: solved[seed] / counts[seed] for seed in counts}, counts, alone)


def _average(cells: Sequence[Cell]) -> Cell:
    seeds = list(cells[0].by_seed)
    by_seed = {seed: statistics.fmean(cell.by_seed[seed] for cell in cells) for seed in seeds}
    episodes = {seed: sum(cell.episodes[seed] for cell in cells) for seed in seeds}
    alone = None
    if all(cell.alone for cell in cells):
        counts = [(cell.by_seed[seeds[0]], cell.episodes[seeds[0]]) for cell in cells]
        alone = mean_of([Rate(round(share * count), count) for share, count in counts]).interval
    return Cell(by_seed, episodes, alone)


def _refuse_unequal(members: Sequence[Played]) -> None:
    """Everything in one column is one measurement, whoever played it."""
    refuse_unequal(members)
    first = members[0]
    for other in members:
        for name in ("quoted", "assets"):
            if getattr(first.row, name) != getattr(other.row, name):
                raise ValueError(_apart(name, getattr(first.row, name), getattr(other.row, name), first, other))
        if found := difference_of(first.row.protocol_json, other.row.protocol_json):
            raise ValueError(_apart(f"protocol.{found[0]}", found[1], found[2], first, other))


def _apart(field: str, one: object, other: object, first: Played, second: Played) -> str:
    return (
        f"{field} is {one!r} in {first.file} and {other!r} in {second.file}; these do not stand in one column. "
        "Play them again alike, or leave one out of `results`."
    )


def _refuse_other_labels(members: Sequence[Played], sweep: str | None) -> None:
    """Trainings in one cell differ in their seed alone."""
    kinds = grouped(members, lambda p: _labels(p, sweep))
    if len(kinds) > 1:
        one, other, *_ = kinds
        raise ValueError(
            f"{members[0].row.policy} on {members[0].row.task}: episodes labelled {dict(one)} and {dict(other)} would "
            "be averaged; give `results` of one of them, or sweep over what differs."
        )


def _labels(played: Played, sweep: str | None) -> tuple[tuple[str, object], ...]:
    labels = played.row.labels.items()
    return tuple(sorted((k, v) for k, v in labels if k not in ("train_seed", sweep) and v is not None))


def _ends(counts: Iterable[int]) -> list[int]:
    ordered = sorted(set(counts))
    return ordered if len(ordered) < 2 else [ordered[0], ordered[-1]]
