"""Paired tests against numbers known from elsewhere."""

import numpy as np
import pytest
from scipy import stats

from eval.results.comparison import compare, comparisons
from eval.results.differences import mcnemar, newcombe_paired
from eval.results.tables import tables_of


def test_mcnemar_against_the_binomial_test():
    draw = np.random.default_rng(0)
    for _ in range(50):
        first, second = (int(n) for n in draw.integers(0, 60, 2))
        expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
        assert mcnemar(first, second) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_known_numbers():
    assert mcnemar(59, 121) == pytest.approx(4.434e-6, rel=1e-3)  # statsmodels' own example, exact=True
    assert mcnemar(0, 6) == 2 / 64
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(3000, 3000) == 1.0  # no overflow where floats would have one
    with pytest.raises(ValueError, match="only_first=-1"):
        mcnemar(-1, 3)


def test_newcombes_paired_interval_is_his():
    # Newcombe 1998 (Statistics in Medicine 17, 2635), table III, method 10.
    table = [(True, True)] * 36 + [(True, False)] * 12 + [(False, True)] * 2 + [(False, False)] * 0
    assert newcombe_paired(table) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_two_policies_on_the_same_initial_states(played):
    one = played([True, True, True, False, False])
    other = played([True, False, False, True, False, True], policy="scratch")  # one more state than the first
    c = compare("distilled", "scratch", one, other)
    assert (c.both, c.only_first, c.only_second, c.neither) == (1, 2, 1, 1)
    assert c.difference.mean == pytest.approx(0.2)
    assert c.difference.pairs == 5
    assert c.p == 1.0
    back = compare("scratch", "distilled", other, one)
    assert back.difference.mean == pytest.approx(-0.2)
    assert (back.only_first, back.only_second) == (1, 2)


def test_settings_and_seeds_are_part_of_the_initial_state(played):
    one = played([True], setting="visual_matching/a") + played([True], setting="visual_matching/b")
    other = played([False], setting="visual_matching/b", policy="scratch")
    assert compare("x", "y", one, other).difference.pairs == 1
    apart = compare("x", "y", played([True], seed=1), played([False], seed=2))
    assert apart.difference.pairs == 0
    assert apart.p is None
    assert apart.no_p == "no initial state was played by both"


def test_no_test_where_trainings_share_initial_states(played):
    one = [p for s in (0, 1) for p in played([True] * 5, labels={"train_seed": s}, checkpoint=f"{s}" * 64)]
    reference = played([False] * 5, policy="expert", checkpoint="none")
    c = compare("distilled", "expert", one, reference)
    assert c.difference.pairs == 10  # the expert's episodes serve both trainings
    assert c.p is None
    assert "not independent" in c.no_p
    swapped = compare("expert", "distilled", reference, one)
    assert swapped.difference.mean == -c.difference.mean == -1.0
    assert (swapped.difference.low, swapped.difference.high) == (-c.difference.high, -c.difference.low)
    assert swapped.only_second == 10


def test_repeats_of_an_initial_state_meet_repeats_and_are_no_more_states(played):
    def repeats(*outcomes, **changes):
        return [p for seed, of in enumerate(outcomes) for p in played(of, policy_seed=seed, **changes)]

    half = [True] * 4 + [False] * 4
    one = repeats(half, half, half)
    other = repeats([False] * 8, [False] * 8, [True] * 8, policy="scratch")  # the last seed alone solves all
    c = compare("distilled", "scratch", one, other)
    assert c.difference.pairs == 24
    assert c.difference.mean == pytest.approx(1 / 2 - 1 / 3)
    assert compare("scratch", "distilled", other, one).difference.mean == pytest.approx(1 / 3 - 1 / 2)
    assert c.p is None
    assert "several times" in c.no_p
    thrice = compare("distilled", "none", one, repeats([False] * 8, [False] * 8, [False] * 8, policy="none")).difference
    as_if_24_states = newcombe_paired([(o, False) for o in half * 3])
    assert thrice.low < as_if_24_states[0] - 0.1
    steady = played([False] * 8, policy="expert", policy_seed=None, checkpoint="none")
    assert compare("distilled", "expert", one, steady).difference.pairs == 24
    alone = compare("distilled", "scratch", one, played([False] * 8, policy="scratch", policy_seed=9))
    assert (alone.difference.pairs, alone.p) == (8, 0.125)  # other seeds, the same initial states


def test_every_pair_of_few_and_references_only_against_policies(played):
    names = ("a", "b", "expert", "random")
    (table,) = tables_of([p for name in names for p in played([True, False], policy=name)])
    assert [(c.first, c.second) for c in comparisons(table)] == [
        ("a", "b"), ("a", "expert"), ("a", "random"), ("b", "expert"), ("b", "random"),
    ]  # fmt: skip
    (table,) = tables_of([p for name in "abcdefg" for p in played([True, False], policy=name)])
    assert [c.first for c in comparisons(table)] == ["a"] * 6
