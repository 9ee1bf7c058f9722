"""Augmented random search (Mania, Guy and Recht, 2018, algorithm V2-t): linear policies without a gradient.

A policy is one matrix over observations standardised by what was seen so far. Each round tries the matrix moved both
ways along random directions and steps towards those that paid, the best few of them, in units of the returns' spread.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

# Seeds of the episodes that are tried: none that a recording or a rollout uses.
_STARTS = (10**9, 2**31)

_SMALLEST_SPREAD = 1e-2  # of an observation that hardly changes, in its own units


@dataclass(frozen=True)
class LinearPolicy:
    """action = weights @ (observation - mean) / std.

    Attributes:
        weights: [actions, observations] float64.
        mean: [observations] float64.
        std: [observations] float64, above 0.
    """

    weights: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def __call__(self, observation: NDArray[np.floating]) -> NDArray[np.float64]:
        """The action [actions], not cut to its range."""
        return self.weights @ ((observation - self.mean) / self.std)


@dataclass(frozen=True)
class SearchConfig:
    """One search.

    Attributes:
        rounds: Updates.
        directions: Tried in each round, both ways.
        best: Of them used, those with the highest return either way.
        step_size: Length of an update in units of noise.
        noise: Standard deviation of a direction's entries.
        decisions: Length of the episodes that are tried.
        measured: Whole episodes each round's policy is measured by.
        judged_at: The round after which a search that goes nowhere is begun anew with other draws.
        least_return: What it must have reached by then.
    """

    rounds: int
    directions: int
    best: int
    step_size: float
    noise: float
    decisions: int
    measured: int
    judged_at: int
    least_return: float


class Moments:
    """Mean and variance of every observation met (Welford's sums, merged rollout by rollout)."""

    def __init__(self, width: int) -> None:
        self.count, self.mean, self._squares = 0, np.zeros(width), np.zeros(width)

    def add(self, rows: NDArray[np.floating]) -> None:
        """Count observations [n, width]."""
        mean, total = rows.mean(0), self.count + len(rows)
        apart = mean - self.mean
        self._squares += np.square(rows - mean).sum(0) + apart**2 * self.count * len(rows) / total
        self.mean = self.mean + apart * len(rows) / total
        self.count = total

    @property
    def std(self) -> NDArray[np.float64]:
        """[width]; 1 before two observations were met."""
        if self.count < 2:
            return np.ones_like(self.mean)
        return np.maximum(np.sqrt(self._squares / self.count), _SMALLEST_SPREAD)


Trial = Callable[[LinearPolicy, int], tuple[float, NDArray[np.floating]]]
"""Plays a policy from the initial state of a seed: what counts as its return, and the observations [n, width] met."""


def search(config: SearchConfig, widths: tuple[int, int], trial: Trial, seed: Sequence[int]) -> Iterator[LinearPolicy]:
    """The policy before each round, then the last one.

    Args:
        config: The search.
        widths: Of observations and of actions.
        trial: Plays a policy.
        seed: Of the directions and of the initial states.
    """
    draws, moments = np.random.default_rng(seed), Moments(widths[0])
    policy = LinearPolicy(np.zeros((widths[1], widths[0])), moments.mean, moments.std)
    for _ in range(config.rounds):
        yield policy
        directions = draws.standard_normal((config.directions, *policy.weights.shape))
        starts = draws.integers(*_STARTS, config.directions)
        returns = np.zeros((config.directions, 2))
        for index, (direction, start) in enumerate(zip(directions, starts, strict=True)):
            for way, sign in enumerate((1.0, -1.0)):
                moved = replace(policy, weights=policy.weights + sign * config.noise * direction)
                returns[index, way], observations = trial(moved, int(start))
                moments.add(observations)
        weights = policy.weights + _update(config, directions, returns)
        policy = LinearPolicy(weights, moments.mean, moments.std)
    yield policy


def _update(config: SearchConfig, directions: NDArray[np.float64], returns: NDArray[np.float64]) -> NDArray[np.float64]:
    chosen = np.argsort(-returns.max(1), kind="stable")[: config.best]
    spread = max(float(returns[chosen].std()), 1e-6)
    gains = returns[chosen, 0] - returns[chosen, 1]
    return config.step_size / (config.best * spread) * np.tensordot(gains, directions[chosen], axes=1)
