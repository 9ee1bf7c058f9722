"""The difference in success between two policies: an interval and a test that claim no more than episodes allow."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from eval.intervals import wilson_interval

_RESAMPLES = 4000


class Outcome(Protocol):
    """What is compared: how one episode from one starting state ended."""

    @property
    def train_seed(self) -> int | None:
        """The policy's training; None for one that was not trained, which is paired with every training seed."""
        ...

    @property
    def start(self) -> tuple[str, str, int | str]:
        """Suite, task and starting state: what two policies share."""
        ...

    @property
    def repeat(self) -> int | None:
        """Which of several plays of one starting state this is, by the policy's seed; None where there is one."""
        ...

    @property
    def success(self) -> bool:
        """Solved, in the reading that is quoted."""
        ...


@dataclass(frozen=True)
class Difference:
    """`mean` = success of the first arm minus that of the second, over `pairs` episodes both arms ran.

    `pairs` is 0 where no episode was shared and the interval is the unpaired one.
    """

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def outcome(self) -> str:
        """`beats`, `loses` or `open` (the interval includes zero)."""
        return "beats" if self.low > 0 else "loses" if self.high < 0 else "open"


def difference(first: Sequence[Outcome], second: Sequence[Outcome]) -> Difference | None:
    """First minus second, paired on (training seed, task, starting state); None where an arm has no episode.

    The interval is the wider, at each end, of two: a bootstrap that resamples training seeds and, within each task,
    starting states (both are crossed, so one draw of starting states serves every training seed: Owen 2007,
    "The pigeonhole bootstrap"), and Newcombe's score interval for paired proportions (1998, method 10). The bootstrap
    knows that episodes of one trained policy go together; Newcombe does not shrink to a point when few episodes
    disagree. A reference without training seeds is paired with every training seed. Repeats of a starting state are
    drawn together with it.
    """
    if not first or not second:
        return None
    pairs = pair_up(first, second)
    if not pairs:
        one, other = sum(a.success for a in first), sum(b.success for b in second)
        mean = one / len(first) - other / len(second)
        return Difference(mean, *_score_interval(one, len(first), other, len(second), 0.0), pairs=0)
    both = [(a.success, b.success) for a, b in pairs]
    low, high = newcombe_paired(both)
    boot_low, boot_high = _bootstrap(pairs)
    mean = sum(a - b for a, b in both) / len(both)
    return Difference(mean, min(low, boot_low), max(high, boot_high), len(both))


def newcombe_paired(outcomes: Sequence[tuple[bool, bool]]) -> tuple[float, float]:
    """Newcombe's 95 % interval (method 10) for the difference of two paired proportions."""
    n = len(outcomes)
    yes_yes = sum(a and b for a, b in outcomes)
    yes_no = sum(a and not b for a, b in outcomes)
    no_yes = sum(b and not a for a, b in outcomes)
    no_no = n - yes_yes - yes_no - no_yes
    product = yes_yes * no_no - yes_no * no_yes
    product = max(product - n / 2, 0.0) if product > 0 else float(product)
    margins = (yes_yes + yes_no) * (no_yes + no_no) * (yes_yes + no_yes) * (yes_no + no_no)
    correlation = product / math.sqrt(margins) if margins else 0.0
    return _score_interval(yes_yes + yes_no, n, yes_yes + no_yes, n, correlation)


def _score_interval(s1: int, n1: int, s2: int, n2: int, correlation: float) -> tuple[float, float]:
    """Newcombe's square-and-add of two Wilson intervals."""
    p1, p2 = s1 / n1, s2 / n2
    (l1, u1), (l2, u2) = wilson_interval(s1, n1), wilson_interval(s2, n2)

    def reach(one: float, two: float) -> float:
        return math.sqrt(max(one**2 - 2 * correlation * one * two + two**2, 0.0))

    theta = p1 - p2
    return max(theta - reach(p1 - l1, u2 - p2), -1.0), min(theta + reach(u1 - p1, p2 - l2), 1.0)


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test of two paired proportions (1947; exact: the binomial, not its chi-square approximation).

    Args:
        only_first: Episodes that only the first policy solved, from a starting state both had.
        only_second: Those that only the second solved.

    Returns:
        The two-sided p-value: how often a fair coin, thrown once for each episode in which the two disagree, falls at
        least so unevenly. 1.0 where they never disagree. It takes the episodes for independent: not so where one
        trained policy plays many starting states and others of its kind were trained too.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"only_first={only_first}, only_second={only_second}: counts are 0 or more")
    thrown, fewer = only_first + only_second, min(only_first, only_second)
    tail = ways = 1
    for k in range(fewer):
        ways = ways * (thrown - k) // (k + 1)  # thrown choose k + 1
        tail += ways
    return min(1.0, 2 * tail / 2**thrown)


def pair_up(first: Sequence[Outcome], second: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Episodes of both policies from one starting state (and one training seed, where the second has them).

    Where a starting state was played several times the plays go together in the order of their seeds, as many as both
    have; one play of a policy that draws nothing stands beside each of the other's.
    """
    ours, theirs = _plays(first), _plays(second)
    pairs: list[tuple[Outcome, Outcome]] = []
    for (train_seed, start), plays in ours.items():
        others = theirs.get((train_seed, start)) or theirs.get((None, start)) or []
        if _settled(others):
            others = others * len(plays)
        pairs += zip(plays * len(others) if _settled(plays) else plays, others, strict=False)
    return pairs


def repeated(pairs: Sequence[tuple[Outcome, Outcome]]) -> bool:
    """Whether a starting state is in several pairs of one training, which then are not independent."""
    return len({(a.train_seed, a.start) for a, _ in pairs}) < len(pairs)


def _plays(outcomes: Sequence[Outcome]) -> dict[tuple[int | None, tuple[str, str, int | str]], list[Outcome]]:
    """By training and starting state, each in the order of repeats."""
    found: dict[tuple[int | None, tuple[str, str, int | str]], list[Outcome]] = {}
    for one in outcomes:
        found.setdefault((one.train_seed, one.start), []).append(one)
    for plays in found.values():
        plays.sort(key=lambda one: -1 if one.repeat is None else one.repeat)
    return found


def _settled(plays: Sequence[Outcome]) -> bool:
    """One play that another seed would not change."""
    return len(plays) == 1 and plays[0].repeat is None


def _bootstrap(pairs: list[tuple[Outcome, Outcome]]) -> tuple[float, float]:
    """Percentile interval of the mean difference under resampled training seeds and starting states."""
    seeds = list(dict.fromkeys(a.train_seed for a, _ in pairs))
    starts = sorted({a.start for a, _ in pairs})  # sorted: the starts of a task lie together
    row = {s: i for i, s in enumerate(seeds)}
    column = {s: i for i, s in enumerate(starts)}
    delta, present = np.zeros((len(seeds), len(starts))), np.zeros((len(seeds), len(starts)))
    for a, b in pairs:
        delta[row[a.train_seed], column[a.start]] += a.success - b.success
        present[row[a.train_seed], column[a.start]] += 1
    generator = np.random.default_rng(0)
    per_task = Counter(start[:2] for start in starts).values()
    episode_weight = np.concatenate([_draws(generator, n) for n in per_task], axis=1)
    seed_weight = _draws(generator, len(seeds))
    total = (seed_weight * (episode_weight @ delta.T)).sum(1)
    count = (seed_weight * (episode_weight @ present.T)).sum(1)
    means = total[count > 0] / count[count > 0]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _draws(generator: np.random.Generator, count: int) -> np.ndarray:
    """How often each of `count` things is drawn in each resample, float64 [resamples, count]."""
    return generator.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES).astype(float)
