"""The report's intervals, differences and sentences: what it may claim from the rows it has."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from eval.intervals import wilson_interval
from eval.report.markup import duration, interval, number, share, signed, size
from eval.report.results import Facet, Rollout, facets
from eval.report.run_folder import Step
from eval.report.verdict import headline, verdict
from eval.results.differences import difference, newcombe_paired

STEP = Step("rollout", "rollout", "Roll out", Path("rollout"))


def episodes(arm: str, solved: Iterator[bool] | list[bool], demos: int | None = 2, seeds: int = 1) -> list[Rollout]:
    """Rows of one arm: the outcomes run over training seeds, then over episodes of one task."""
    outcomes = list(solved)
    each = len(outcomes) // seeds
    trained = [None] * seeds if arm in ("expert", "random") else list(range(seeds))
    return [
        Rollout(arm, "metaworld", "door", i % each, demos, trained[i // each], o, o, 10, None, STEP)
        for i, o in enumerate(outcomes)
    ]


def ratio(yes: int, no: int) -> list[bool]:
    return [True] * yes + [False] * no


def judged(*arms: list[Rollout]) -> Facet:
    return facets([r for rows in arms for r in rows])[0]


def test_newcombe_s_own_examples() -> None:
    # Newcombe 1998 (Statistics in Medicine 17): paired, method 10, 36/12/2/0; unpaired, method 10, 56/70 and 48/80.
    paired = newcombe_paired([(True, True)] * 36 + [(True, False)] * 12 + [(False, True)] * 2)
    assert paired == pytest.approx((0.0569, 0.3404), abs=5e-5)
    apart = [Rollout("scratch", "metaworld", "other", i, 2, 0, i < 48, False, 1, None, STEP) for i in range(80)]
    unpaired = difference(episodes("distilled", ratio(56, 14)), apart)
    assert unpaired is not None
    assert unpaired.pairs == 0
    assert (unpaired.low, unpaired.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_disagreement_between_training_seeds_widens_the_interval() -> None:
    steady = difference(
        episodes("distilled", ratio(30, 10) * 3, seeds=3), episodes("scratch", ratio(10, 30) * 3, seeds=3)
    )
    moody = difference(
        episodes("distilled", ratio(40, 0) + ratio(40, 0) + ratio(10, 30), seeds=3),
        episodes("scratch", ratio(10, 30) * 3, seeds=3),
    )
    assert steady is not None
    assert moody is not None
    assert steady.mean == pytest.approx(moody.mean) == 0.5
    assert moody.high - moody.low > 1.5 * (steady.high - steady.low)
    assert moody.low <= 0 < steady.low  # one seed in three gained nothing


def test_few_agreeing_episodes_do_not_make_certainty() -> None:
    same = difference(episodes("distilled", ratio(4, 0)), episodes("scratch", ratio(4, 0)))
    assert same is not None
    assert same.low < -0.3
    assert same.high > 0.3
    assert same.outcome == "open"


def test_a_reference_is_paired_with_every_training_seed() -> None:
    d = difference(episodes("distilled", ratio(9, 1) * 2, seeds=2), episodes("random", ratio(0, 10), demos=None))
    assert d is not None
    assert (d.pairs, d.mean) == (20, 0.9)
    assert difference([], episodes("random", ratio(1, 1))) is None


@pytest.mark.parametrize(
    ("others", "line"),
    [
        ({"scratch": (10, 90), "bc": (20, 80), "pca": (20, 80)}, "Distillation beats every control"),
        ({"scratch": (10, 90), "bc": (20, 80)}, "Distillation beats training from scratch and plain behaviour cloning"),
        ({"scratch": (10, 90)}, "Distillation beats training from scratch"),
        (
            {"scratch": (10, 90), "pca": (68, 32)},
            "Distillation beats training from scratch; against the PCA control it is undecided",
        ),
        ({"bc": (99, 1)}, "Distillation loses to plain behaviour cloning"),
        (
            {"scratch": (10, 90), "bc": (99, 1), "pca": (68, 32)},
            "Distillation beats training from scratch and loses to plain behaviour cloning; "
            "against the PCA control it is undecided",
        ),
        ({"scratch": (72, 28), "pca": (68, 32)}, "Distillation is not shown to differ from any control"),
        ({"pca": (68, 32)}, "Distillation is not shown to differ from the PCA control"),
        ({"expert": (100, 0)}, "The distilled student was rolled out without controls"),
    ],
)
def test_the_headline_says_what_the_intervals_say(others: dict[str, tuple[int, int]], line: str) -> None:
    rows = [episodes(arm, ratio(*counts)[::-1], demos=2) for arm, counts in others.items()]
    assert headline([judged(episodes("distilled", mixed(70, 30)), *rows)]) == line


def mixed(yes: int, no: int) -> list[bool]:
    """Outcomes in an order unlike `ratio`'s, so pairs agree about as often as chance has it."""
    return [bool(b) for b in np.random.default_rng(1).permutation(ratio(yes, no))]


def test_the_headline_names_the_demonstrations_where_they_differ() -> None:
    two = [*episodes("distilled", mixed(70, 30)), *episodes("scratch", ratio(10, 90))]
    five = [*episodes("distilled", mixed(90, 10), 5), *episodes("scratch", ratio(88, 12), 5)]
    ten = [*episodes("distilled", mixed(90, 10), 10), *episodes("scratch", ratio(10, 90), 10)]
    assert headline(facets(two + five)) == "With 2 demonstrations a task, distillation beats training from scratch"
    both = headline(facets(two + five + ten))
    assert both == "With 2 and 10 demonstrations a task, distillation beats training from scratch"


def test_the_verdict_quotes_each_difference_with_its_interval() -> None:
    method, scratch, pca = (
        episodes("distilled", mixed(70, 30) * 2, seeds=2),
        episodes("scratch", ratio(20, 80) * 2, seeds=2),
        episodes("pca", ratio(68, 32)[::-1] * 2, seeds=2),
    )
    text = verdict(judged(method, scratch, pca)).striptags().replace("\N{NO-BREAK SPACE}", " ")
    beats, undecided = difference(method, scratch), difference(method, pca)
    assert beats is not None
    assert undecided is not None
    assert text == (
        f"With 2 demonstrations a task the distilled student solves .70 {interval(*wilson_interval(140, 200))} of "
        f"200 episodes (2 training seeds). It beats training from scratch by .50 {interval(beats.low, beats.high)}. "
        f"Against the PCA control (+.02 {interval(undecided.low, undecided.high)}) the interval includes zero. "
        "Not compared: plain behaviour cloning."
    )


def test_a_loss_is_called_a_loss_and_the_floor_is_named() -> None:
    text = verdict(
        judged(
            episodes("distilled", ratio(2, 98)), episodes("bc", ratio(60, 40)), episodes("random", ratio(1, 99), None)
        )
    ).striptags()
    assert "It loses to plain behaviour cloning by .58" in text
    assert "It is not shown to beat the random policy (+.01" in text
    assert "beats" not in text
    alone = verdict(judged(episodes("distilled", ratio(9, 1)))).striptags()
    assert "nothing can be credited to distillation" in alone
    assert "Not compared: training from scratch, plain behaviour cloning and the PCA control." in alone
    assert "One training seed says nothing of how much training itself varies." in alone


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (share(0.714), ".71"),
        (share(1.0), "1.00"),
        (share(0.0), ".00"),
        (share(-0.05), "−.05"),
        (share(-0.001), ".00"),
        (signed(0.24), "+.24"),
        (signed(0.001), ".00"),
        (interval(0.65, 0.76), "[.65, .76]"),
        (interval(0.004, 0.31), "[.004, .310]"),  # rounding must not put an end on zero
        (interval(0.0, 0.31), "[.00, .31]"),
        (number(0.4567), ".457"),
        (number(-0.25), "−.25"),
        (number(1.5e-5), "1.5e-05"),
        (number(12345), "12,345"),
        (number(float("nan")), "nan"),
        (number(True), "yes"),
        (duration(3.21), "3.2 s"),
        (duration(125), "2 min 05 s"),
        (duration(3725), "1 h 02 min"),
        (size(2**20 * 812), "812 MiB"),
        (size(2**30 * 1.42), "1.42 GiB"),
    ],
)
def test_numbers_are_set_the_house_s_way(written: str, expected: str) -> None:
    assert written == expected
