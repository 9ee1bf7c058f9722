"""The search on problems whose answer is known."""

from itertools import islice, pairwise

import numpy as np
import pytest

from eval.locomotion.ars import LinearPolicy, Moments, SearchConfig, search

WANTED = np.array([[1.0, -2.0, 0.5]])
CONFIG = SearchConfig(60, 8, 4, step_size=0.1, noise=0.1, decisions=1, measured=1, judged_at=0, least_return=0.0)


def trial(policy: LinearPolicy, start: int) -> tuple[float, np.ndarray]:
    """Minus the squared distance of what the policy does from what is wanted, on 20 observations."""
    observations = np.random.default_rng(start).normal(size=(20, 3))
    done = np.array([policy(row) for row in observations])
    return -float(np.square(done - observations @ WANTED.T).sum()), observations


def test_it_finds_a_linear_policy() -> None:
    policies = list(search(CONFIG, (3, 1), trial, [0]))
    assert len(policies) == CONFIG.rounds + 1
    np.testing.assert_array_equal(policies[0].weights, np.zeros((1, 3)))
    np.testing.assert_allclose(policies[-1].weights / policies[-1].std, WANTED, atol=0.25)
    assert trial(policies[-1], 1)[0] > 0.02 * trial(policies[0], 1)[0]


def test_it_repeats_and_differs_by_seed() -> None:
    first, again, other = (
        next(islice(search(CONFIG, (3, 1), trial, seed), 5, None)).weights for seed in ([1, 0], [1, 0], [1, 1])
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_policy_stays_what_it_was() -> None:
    policies = search(CONFIG, (3, 1), trial, [0])
    early = next(policies)
    kept = early.mean.copy()
    for _ in policies:
        pass
    np.testing.assert_array_equal(early.mean, kept)


def test_moments_of_parts_are_moments_of_all() -> None:
    rows = np.random.default_rng(0).normal(3.0, [0.5, 2.0], size=(90, 2))
    moments = Moments(2)
    for first, last in pairwise([0, 1, 40, 90]):
        moments.add(rows[first:last])
    np.testing.assert_allclose(moments.mean, rows.mean(0))
    np.testing.assert_allclose(moments.std, rows.std(0))


def test_an_observation_that_never_changes_is_not_divided_by_zero() -> None:
    moments = Moments(1)
    moments.add(np.full((5, 1), 2.0))
    assert moments.std[0] == pytest.approx(0.01)
