"""The sketch against numpy: exact while small, within its bound on hostile streams, merged in any order, stored."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from data_mixtures.statistics.quantile_sketch import CAPACITY, QuantileSketch, pooled_quantiles

GRID = np.linspace(0, 1, 1001).tolist()
COUNT = 400_000


def hostile(name: str) -> np.ndarray:
    rng, steps = np.random.default_rng(0), np.arange(COUNT)
    streams = {
        "rising": lambda: steps,
        "falling": lambda: steps[::-1],
        "cauchy": lambda: rng.standard_cauchy(COUNT),
        "two spikes": lambda: np.where(steps % 3 == 0, 1.0, 7.0),
        "constant": lambda: np.full(COUNT, 3.25),
        "huge and small by turns": lambda: np.where(steps % 2, 1e30, 1e-30) * rng.uniform(1, 2, COUNT),
        "outwards": lambda: steps // 2 * np.where(steps % 2, 1, -1),
        "sawtooth": lambda: steps % 1000,
        "mostly zero": lambda: np.where(rng.random(COUNT) < 0.011, rng.standard_normal(COUNT) * 1e6, 0),
        "late tail": lambda: np.where(steps < 0.985 * COUNT, rng.random(COUNT), 1e9 + steps),
    }
    return streams[name]().astype(np.float32)


def rank_error(values: np.ndarray, found: np.ndarray, q: np.ndarray) -> float:
    """How far, in shares of all values, the quantiles found are from places where they would be right."""
    ordered = np.sort(values).astype(np.float64)
    # a quantile between two neighbours is right for the places of both
    low = (np.searchsorted(ordered, found, "left") - 1) / len(values)
    high = (np.searchsorted(ordered, found, "right") + 1) / len(values)
    return float(np.maximum(np.maximum(low - q, q - high), 0).max())


def sketch_of(values: np.ndarray, chunk: int = 50_000, capacity: int = CAPACITY) -> QuantileSketch:
    sketch = QuantileSketch(1, capacity)
    for first in range(0, len(values), chunk):
        sketch.add(values[first : first + chunk, None])
    return sketch


def test_small_streams_are_numpys_quantiles_and_moments() -> None:
    rng = np.random.default_rng(1)
    values = (rng.standard_normal((CAPACITY - 1, 3)) * [1, 1e-3, 1e5]).astype(np.float32)
    mask = rng.random(values.shape) < [1.0, 0.3, 0.0]
    sketch = QuantileSketch(3)
    for first in range(0, len(values), 777):
        sketch.add(values[first : first + 777], mask[first : first + 777])
    found = sketch.quantiles(GRID)
    for dimension in (0, 1):
        seen = values[mask[:, dimension], dimension]
        np.testing.assert_array_equal(found[:, dimension], np.quantile(seen, np.array(GRID)))
        assert sketch.count[dimension] == len(seen)
        assert sketch.lowest[dimension] == seen.min()
        assert sketch.highest[dimension] == seen.max()
        np.testing.assert_allclose(sketch.mean[dimension], seen.mean(dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(sketch.std[dimension], seen.std(dtype=np.float64), rtol=1e-12)
    for figures in (found[:, 2], sketch.count[2], sketch.lowest[2], sketch.highest[2], sketch.mean[2], sketch.std[2]):
        assert not np.any(figures), "nothing was seen"


@pytest.mark.parametrize(
    "name",
    ["rising", "falling", "cauchy", "two spikes", "constant", "huge and small by turns", "outwards", "sawtooth"]
    + ["mostly zero", "late tail"],
)
def test_hostile_streams_stay_within_the_bound(name: str) -> None:
    """A small sketch on a long stream, so that values are halved six times: (levels + 2) / capacity is the promise."""
    values, capacity = hostile(name), 1 << 13
    sketch = sketch_of(values, capacity=capacity)
    levels = np.log2(COUNT / capacity) + 1
    assert rank_error(values, sketch.quantiles(GRID)[:, 0], np.array(GRID)) < 0.3 * (levels + 2) / capacity
    assert rank_error(values, sketch_of(values).quantiles(GRID)[:, 0], np.array(GRID)) < 1e-4
    assert sketch.quantiles([0, 1])[:, 0].tolist() == [values.min(), values.max()]
    assert sketch.count[0] == COUNT
    np.testing.assert_allclose(sketch.mean[0], values.mean(dtype=np.float64), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(sketch.std[0], values.std(dtype=np.float64), rtol=1e-9)


def test_the_result_does_not_depend_on_chunks_and_memory_is_bounded() -> None:
    values = hostile("cauchy")
    one, other = sketch_of(values, 100_000, 1 << 12), sketch_of(values, 333, 1 << 12)
    for name, array in one.state().items():
        np.testing.assert_array_equal(array, other.state()[name], err_msg=name)
    assert len(one.state()["values"]) <= 8 * (1 << 12)


def test_merging_in_any_order_stays_within_the_bound() -> None:
    values = hostile("late tail")
    parts = np.split(values, [1000, 150_000, 150_010, 300_000])
    for order in list(itertools.permutations(range(5)))[::17]:
        whole = QuantileSketch(1, 1 << 13)
        for index in order:
            part = sketch_of(parts[index], capacity=1 << 13)
            before = part.state()
            whole.merge(part)
            assert all(np.array_equal(before[name], array) for name, array in part.state().items())
        assert rank_error(values, whole.quantiles(GRID)[:, 0], np.array(GRID)) < 5e-4
        assert whole.count[0] == COUNT
        assert (whole.lowest[0], whole.highest[0]) == (values.min(), values.max())
        np.testing.assert_allclose(whole.mean[0], values.mean(dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(whole.std[0], values.std(dtype=np.float64), rtol=1e-9)


def test_small_sketches_merge_exactly() -> None:
    values = hostile("cauchy")[:3000]
    whole = QuantileSketch(1)
    for part in np.split(values, [7, 7, 2000]):
        whole.merge(sketch_of(part))
    np.testing.assert_array_equal(whole.quantiles(GRID)[:, 0], np.quantile(values, np.array(GRID)))


def test_weights_count_like_repetitions() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal(500).astype(np.float32), rng.uniform(3, 9, 300).astype(np.float32)
    parts = [sketch_of(first), sketch_of(second)]
    repeated = np.concatenate([first, np.repeat(second, 3)])
    for weights in ((1, 3), (0.25, 0.75)):
        found = pooled_quantiles(parts, GRID, weights)[:, 0]
        np.testing.assert_allclose(found, np.quantile(repeated.astype(np.float64), GRID), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(
        pooled_quantiles(parts, GRID, (5, 5))[:, 0], np.quantile(np.concatenate([first, second]), np.array(GRID))
    )
    long = [sketch_of(part, capacity=1 << 12) for part in (hostile("cauchy"), hostile("rising")[:100_000])]
    repeated = np.concatenate([hostile("cauchy"), np.repeat(hostile("rising")[:100_000], 4)])
    assert rank_error(repeated, pooled_quantiles(long, GRID, (1, 4))[:, 0], np.array(GRID)) < 1e-3


def test_a_stored_sketch_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    values = hostile("outwards")
    sketch = sketch_of(values[:250_001], capacity=1 << 12)
    np.savez(tmp_path / "sketch.npz", allow_pickle=False, **sketch.state())
    with np.load(tmp_path / "sketch.npz") as stored:
        again = QuantileSketch.from_state(stored)
    for one in (sketch, again):
        one.add(values[250_001:, None])
    for name, array in sketch.state().items():
        np.testing.assert_array_equal(array, again.state()[name], err_msg=name)


def test_bad_input_is_refused() -> None:
    sketch = QuantileSketch(2)
    with pytest.raises(ValueError, match=r"values are \(3, 3\) with mask None: both must be \[n, 2\]"):
        sketch.add(np.zeros((3, 3)))
    sketch.add(np.array([[np.nan, 1.0]]), np.array([[False, True]]))
    assert sketch.count.tolist() == [0, 1]
    sketch.add(np.array([[0.0, np.inf]]))
    with pytest.raises(ValueError, match="dimension 1 has a value that counts and is inf"):
        sketch.quantiles([0.5])
    with pytest.raises(ValueError, match="cannot be merged"):
        QuantileSketch(2).merge(QuantileSketch(2, 64))
    with pytest.raises(ValueError, match=r"weights are \[1, 0\] for 2 streams"):
        pooled_quantiles([QuantileSketch(1)] * 2, [0.5], [1, 0])
    with pytest.raises(ValueError, match=r"q is \[1.5\]"):
        QuantileSketch(1).quantiles([1.5])
    state = sketch_of(hostile("rising")[:100]).state()
    with pytest.raises(ValueError, match="do not add up"):
        QuantileSketch.from_state(state | {"values": state["values"][:-1]})
    with pytest.raises(ValueError, match=r"lacks \['halvings'\]"):
        QuantileSketch.from_state({name: array for name, array in state.items() if name != "halvings"})


def test_two_million_values_a_second() -> None:
    values, spent = np.random.default_rng(0).standard_normal((100_000, 4)).astype(np.float32), []
    for _ in range(3):
        sketch, started = QuantileSketch(4), time.thread_time()  # of this thread: other processes do not count
        sketch.add(values)
        sketch.quantiles([0.01, 0.99])
        spent.append(time.thread_time() - started)
    assert values.size / min(spent) > 2e6
