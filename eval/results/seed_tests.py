"""Two methods of a study compared training by training: Student's t on the differences of equal seeds."""

import itertools
import math
import statistics
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

from eval.results.study import Cell, Setting, Study


@dataclass(frozen=True)
class SeedTest:
    """`first` minus `second` in one column.

    Attributes:
        first: A policy.
        second: Another.
        column: Where.
        setting: At which value of a sweep; None in a table.
        difference: Mean over the seeds both have.
        low: Of its 95 % interval.
        high: ...
        p: Two-sided, not corrected for the number of comparisons; None where every seed gives the same difference.
        seeds: How many both have.
    """

    first: str
    second: str
    column: str
    setting: Setting
    difference: float
    low: float
    high: float
    p: float | None
    seeds: int


def seed_tests(study: Study) -> list[SeedTest]:
    """Every pair of methods whose intervals (mean and standard error) are apart, in every column shown.

    The t-test asks whether trainings would differ again, not episodes; with 5 seeds it has 4 degrees of freedom, and
    takes the seeds' differences for normal.
    """
    found = []
    for setting, column in itertools.product(study.settings, study.shown):
        for first, second in itertools.combinations(study.methods, 2):
            one, other = study.cell(first, column, setting), study.cell(second, column, setting)
            if one is not None and other is not None and _apart(one, other):
                difference = paired(one, other)
                if difference is not None:
                    found.append(SeedTest(first, second, column, setting, *difference))
    return found


def paired(one: Cell, other: Cell) -> tuple[float, float, float, float | None, int] | None:
    """Difference, its 95 % interval, p and number of seeds; None with less than two seeds in common."""
    seeds = [seed for seed in one.by_seed if seed is not None and seed in other.by_seed]
    if len(seeds) < 2:
        return None
    differences = [one.by_seed[seed] - other.by_seed[seed] for seed in seeds]
    mean, spread = statistics.fmean(differences), statistics.stdev(differences)
    if spread < 1e-12:
        return mean, mean, mean, None, len(seeds)
    error, freedom = spread / math.sqrt(len(seeds)), len(seeds) - 1
    reach = float(stdtrit(freedom, 0.975)) * error
    return mean, mean - reach, mean + reach, 2 * float(stdtr(freedom, -abs(mean / error))), len(seeds)


def _apart(one: Cell, other: Cell) -> bool:
    if one.interval is None or other.interval is None:
        return False
    return one.interval[0] > other.interval[1] or other.interval[0] > one.interval[1]
