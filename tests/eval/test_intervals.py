import pytest

from eval.intervals import wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Brown, Cai and DasGupta (2001) conventions; agrees with R's prop.test(correct = FALSE) to four digits.
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),
        (1, 20, 0.0089, 0.2361),
    ],
)
def test_known_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_more_confidence_is_wider() -> None:
    narrow, wide = wilson_interval(7, 20, 0.8), wilson_interval(7, 20, 0.99)
    assert wide[0] < narrow[0] < 7 / 20 < narrow[1] < wide[1]


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, trials)
