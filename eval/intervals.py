"""Confidence intervals for success rates."""

from math import sqrt
from statistics import NormalDist


def wilson_interval(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a success probability (Wilson 1927); sound at 0 and at `trials` successes too.

    Args:
        successes: 0 .. trials.
        trials: Number of independent trials, at least 1; not whole where it is the effective number of a mean.
        confidence: Coverage, in (0, 1).

    Returns:
        (low, high), both in [0, 1].

    Raises:
        ValueError: an argument is out of range.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"successes={successes}, trials={trials}: need 0 <= successes <= trials and trials >= 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: give a coverage between 0 and 1, such as 0.95")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate, z2 = successes / trials, z * z
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z * sqrt(rate * (1 - rate) / trials + z2 / (4 * trials * trials)) / (1 + z2 / trials)
    # At the ends the score interval touches 0 or 1 exactly; rounding must not leave it just outside.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high
