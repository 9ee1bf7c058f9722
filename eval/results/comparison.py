"""Two policies of one table compared on the initial states both played."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from eval.results.differences import Difference, difference, mcnemar, pair_up, repeated
from eval.results.reading import Played
from eval.results.tables import REFERENCES, Table

_MOST_POLICIES = 5  # ten pairs; with more only the first is compared with the others


@dataclass(frozen=True)
class Comparison:
    """`first` minus `second`.

    Attributes:
        first: A contestant.
        second: Another.
        difference: Of success, with its 95 % interval.
        both: Initial states both solved; the three others likewise. All 0 where no initial state was shared.
        only_first: ...
        only_second: ...
        neither: ...
        p: McNemar's exact two-sided p, not corrected for the number of comparisons; None where none is to be had.
        no_p: Why, "" where there is one.
    """

    first: str
    second: str
    difference: Difference
    both: int
    only_first: int
    only_second: int
    neither: int
    p: float | None
    no_p: str = ""


def comparisons(table: Table) -> list[Comparison]:
    """Every pair of a table's policies under test, each also against the references; see `_MOST_POLICIES`."""
    names = [line.contestant for line in table.lines]
    players = {name: [p for p in table.episodes if p.contestant == name] for name in names}
    tested = [n for n in names if players[n][0].row.policy not in REFERENCES]
    pairs = list(itertools.combinations(names, 2))
    if len(names) > _MOST_POLICIES:
        pairs = [(names[0], other) for other in names[1:]]
    return [compare(one, other, players[one], players[other]) for one, other in pairs if one in tested]


def compare(one: str, other: str, first: Sequence[Played], second: Sequence[Played]) -> Comparison:
    """Compare two policies' episodes, neither empty."""
    swapped = _untrained(first) and not _untrained(second)  # one without training seeds is paired with every seed
    pairs = pair_up(second, first) if swapped else pair_up(first, second)
    outcomes = [(b.success, a.success) if swapped else (a.success, b.success) for a, b in pairs]
    found = difference(second, first) if swapped else difference(first, second)
    assert found is not None
    if swapped:
        found = Difference(-found.mean, -found.high, -found.low, found.pairs)
    only_first, only_second = sum(a and not b for a, b in outcomes), sum(b and not a for a, b in outcomes)
    seeds = {p.train_seed for p in (*first, *second)} - {None}
    no_p = ""
    if not pairs:
        no_p = "no initial state was played by both"
    elif len(seeds) > 1:
        no_p = "several trainings play the same initial states, which are then not independent: see the interval"
    elif repeated(pairs):
        no_p = "initial states were played several times, which is then not independent: see the interval"
    return Comparison(
        one,
        other,
        found,
        sum(a and b for a, b in outcomes),
        only_first,
        only_second,
        sum(not a and not b for a, b in outcomes),
        None if no_p else mcnemar(only_first, only_second),
        no_p,
    )


def _untrained(episodes: Sequence[Played]) -> bool:
    return all(p.train_seed is None for p in episodes)
