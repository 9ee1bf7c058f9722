"""Quantiles of endless streams in bounded memory: a hierarchy of sorted buffers that halve into the next.

Values first fill level 0. A level that holds `capacity` values or more is sorted and every other one of them moves up
a level, where each stands for twice as many (Manku, Rajagopalan and Lindsay, SIGMOD 1998; Karnin, Lang and Liberty,
FOCS 2016). One halving at level l misplaces a rank by 2^l at most, and no stream of n values, in whatever order and
however merged, halves level l more than n / (capacity 2^l) times; a value of the top level stands for 2 n / capacity
ranks at most. So the rank error is never above

    (levels + 2) / capacity,   levels = log2(n / capacity) + 1        (2.6e-4 at 10^9 values, for any data)

and in practice far below, since which half is kept alternates and the errors cancel. While a dimension has seen fewer
values than `capacity` it holds all of them and its quantiles are numpy's. Nothing is random: the result is a function
of the values in their order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

CAPACITY = 1 << 16
_BLOCK = 1 << 14  # rows taken in at a time; fixed, so that the result does not depend on how a stream was cut


@dataclass
class _Column:
    """One dimension: level l holds values that stand for 2^l each, in pieces that are joined when it is halved."""

    levels: list[list[np.ndarray]] = field(default_factory=lambda: [[]])
    halvings: list[int] = field(default_factory=lambda: [0])
    count: int = 0
    lowest: float = np.inf
    highest: float = -np.inf
    mean: float = 0.0
    squares: float = 0.0  # sum of squared distances from the mean

    def add(self, values: np.ndarray, capacity: int) -> None:
        wide = values.astype(np.float64)
        mean = float(wide.mean())
        wide -= mean
        self._pool(len(values), mean, float(wide @ wide), float(values.min()), float(values.max()))
        self.levels[0].append(values)
        self._shrink(capacity)

    def merge(self, other: "_Column", capacity: int) -> None:
        if other.count == 0:
            return
        self._pool(other.count, other.mean, other.squares, other.lowest, other.highest)
        self._reach(len(other.levels))
        for level, pieces in enumerate(other.levels):
            self.levels[level] += pieces
            self.halvings[level] += other.halvings[level]
        self._shrink(capacity)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """What is kept, float32 [k], and how many values each stands for, int64 [k]."""
        sizes = [sum(map(len, pieces)) for pieces in self.levels]
        kept = [piece for pieces in self.levels for piece in pieces]
        values = np.concatenate(kept) if kept else np.empty(0, dtype=np.float32)
        return values, np.repeat(1 << np.arange(len(sizes), dtype=np.int64), sizes)

    def _pool(self, count: int, mean: float, squares: float, lowest: float, highest: float) -> None:
        """Join two sets' moments (Chan, Golub and LeVeque, 1979)."""
        total, apart = self.count + count, mean - self.mean
        self.squares += squares + apart * apart * (self.count / total * count)
        self.mean += apart * (count / total)
        self.count = total
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)

    def _reach(self, count: int) -> None:
        while len(self.levels) < count:
            self.levels.append([])
            self.halvings.append(0)

    def _shrink(self, capacity: int) -> None:
        level = 0
        while level < len(self.levels):
            if sum(map(len, self.levels[level])) >= capacity:
                self._reach(level + 2)
                self._halve(level)
            level += 1

    def _halve(self, level: int) -> None:
        values = np.sort(np.concatenate(self.levels[level]))
        even = len(values) // 2 * 2
        self.levels[level] = [values[even:]] if even < len(values) else []  # one without a partner stays
        self.levels[level + 1].append(values[self.halvings[level] % 2 : even : 2].copy())
        self.halvings[level] += 1


class QuantileSketch:
    """Counts, moments, extremes (all exact) and quantiles of every dimension of a stream of rows.

    Args:
        dim: dimensions of a row.
        capacity: values a level holds, even. A dimension takes 4 bytes x capacity x levels at most (1.8 MB at 10^7
            values, 3.9 MB at 10^9), and nothing while no value of it was seen.
    """

    def __init__(self, dim: int, capacity: int = CAPACITY) -> None:
        if dim < 1:
            raise ValueError(f"dim is {dim}: it must be at least 1")
        if capacity < 2 or capacity % 2:
            raise ValueError(f"capacity is {capacity}: it must be even and at least 2")
        self.dim, self.capacity = dim, capacity
        self._columns = [_Column() for _ in range(dim)]
        self._values = np.empty((_BLOCK, dim), dtype=np.float32)
        self._mask = np.empty((_BLOCK, dim), dtype=bool)
        self._waiting = 0

    def add(self, values: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Take in rows.

        Args:
            values: [n, dim], kept as float32 (what the unified numerics are).
            mask: bool [n, dim], False for what does not count; None counts everything.

        Raises:
            ValueError: the shapes disagree, or a value that counts is NaN or infinite.
        """
        if values.ndim != 2 or values.shape[1] != self.dim or (mask is not None and mask.shape != values.shape):
            shape = None if mask is None else mask.shape
            raise ValueError(f"values are {values.shape} with mask {shape}: both must be [n, {self.dim}]")
        first = 0
        while first < len(values):
            taken = min(_BLOCK - self._waiting, len(values) - first)
            place = slice(self._waiting, self._waiting + taken)
            self._values[place] = values[first : first + taken]
            self._mask[place] = True if mask is None else mask[first : first + taken]
            self._waiting += taken
            first += taken
            if self._waiting == _BLOCK:
                self._take_in()

    def merge(self, other: "QuantileSketch") -> None:
        """Take in what another sketch has seen (another rank's, another data set's); `other` stays as it is."""
        if (other.dim, other.capacity) != (self.dim, self.capacity):
            raise ValueError(
                f"a sketch of {other.dim} dimensions and capacity {other.capacity} cannot be merged into one of "
                f"{self.dim} and {self.capacity}: make both with the same"
            )
        self._take_in()
        other._take_in()
        for column, more in zip(self._columns, other._columns, strict=True):
            column.merge(more, self.capacity)

    @property
    def count(self) -> np.ndarray:
        """Values seen of every dimension, int64 [dim]."""
        return np.array([column.count for column in self._read()], dtype=np.int64)

    @property
    def lowest(self) -> np.ndarray:
        """The smallest value of every dimension, float64 [dim]; 0 where nothing was seen."""
        return np.array([column.lowest if column.count else 0.0 for column in self._read()])

    @property
    def highest(self) -> np.ndarray:
        """The largest value of every dimension, float64 [dim]; 0 where nothing was seen."""
        return np.array([column.highest if column.count else 0.0 for column in self._read()])

    @property
    def mean(self) -> np.ndarray:
        """The mean of every dimension, float64 [dim]; 0 where nothing was seen."""
        return np.array([column.mean for column in self._read()])

    @property
    def std(self) -> np.ndarray:
        """The standard deviation (of the values, not of a population) of every dimension, float64 [dim]."""
        return np.array([np.sqrt(column.squares / max(column.count, 1)) for column in self._read()])

    def quantiles(self, q: Sequence[float]) -> np.ndarray:
        """Quantiles at q in [0, 1] of every dimension: float64 [len(q), dim], linear in between; 0 where unseen."""
        return pooled_quantiles([self], q)

    def share_above(self, limit: float, dimension: int) -> float:
        """The share of a dimension's values v with |v| > limit, to the sketch's rank error."""
        column = self._read()[dimension]
        values, weights = column.points()
        return float(weights[np.abs(values) > limit].sum() / max(column.count, 1))

    def state(self) -> dict[str, np.ndarray]:
        """Everything as arrays, for `numpy.savez`; `from_state` is the inverse."""
        columns = self._read()
        levels = max(len(column.levels) for column in columns)
        sizes, halvings = np.zeros((2, self.dim, levels), dtype=np.int64)
        for dimension, column in enumerate(columns):
            sizes[dimension, : len(column.levels)] = [sum(map(len, pieces)) for pieces in column.levels]
            halvings[dimension, : len(column.levels)] = column.halvings
        return {
            "capacity": np.array(self.capacity),
            "values": np.concatenate([column.points()[0] for column in columns]),
            "sizes": sizes,
            "halvings": halvings,
            "count": self.count,
            "moments": np.array([[c.lowest, c.highest, c.mean, c.squares] for c in columns]),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> "QuantileSketch":
        """The sketch that `state` was taken from.

        Raises:
            ValueError: an array is missing, or they do not fit together.
        """
        missing = {"capacity", "values", "sizes", "halvings", "count", "moments"} - set(state)
        if missing:
            raise ValueError(f"the sketch lacks {sorted(missing)}: it was not written by this project, compute it anew")
        sizes, halvings, values = state["sizes"], state["halvings"], state["values"]
        weighed = (sizes * (1 << np.arange(sizes.shape[-1], dtype=np.int64))).sum(-1)
        if sizes.shape != halvings.shape or sizes.sum() != len(values) or not np.array_equal(weighed, state["count"]):
            raise ValueError("the sketch's levels do not add up to its counts: the file is damaged, compute it anew")
        sketch = cls(len(sizes), int(state["capacity"]))
        ends = np.cumsum(sizes).reshape(sizes.shape)
        for dimension, column in enumerate(sketch._columns):
            column._reach(sizes.shape[1])
            for level, (size, end) in enumerate(zip(sizes[dimension].tolist(), ends[dimension].tolist(), strict=True)):
                column.levels[level] = [values[end - size : end]] if size else []
            column.halvings = halvings[dimension].tolist()
            column.count = int(state["count"][dimension])
            column.lowest, column.highest, column.mean, column.squares = state["moments"][dimension].tolist()
        return sketch

    def _read(self) -> list[_Column]:
        """The columns, up to date."""
        self._take_in()
        return self._columns

    def _take_in(self) -> None:
        """Move the waiting rows into the columns."""
        values, mask = self._values[: self._waiting], self._mask[: self._waiting]
        self._waiting = 0
        counted = mask.sum(axis=0)
        for dimension in np.flatnonzero(counted).tolist():
            seen = values[:, dimension]
            seen = seen.copy() if counted[dimension] == len(seen) else seen[mask[:, dimension]]
            if not np.isfinite(seen).all():
                raise ValueError(f"dimension {dimension} has a value that counts and is {seen[~np.isfinite(seen)][0]}")
            self._columns[dimension].add(seen, self.capacity)


def pooled_quantiles(
    sketches: Sequence[QuantileSketch], q: Sequence[float], weights: Sequence[float] | None = None
) -> np.ndarray:
    """Quantiles of several streams as one.

    Args:
        sketches: at least one, all of the same dimensions.
        q: in [0, 1].
        weights: how much a value of each stream counts against one of the others; > 0; all alike when None. A stream
            of weight 2 counts as if every value of it had come twice.

    Returns:
        float64 [len(q), dim]; 0 for a dimension that none has seen.
    """
    if any(not 0 <= x <= 1 for x in q):
        raise ValueError(f"q is {list(q)}: quantiles lie between 0 and 1")
    if weights is not None and (len(weights) != len(sketches) or not all(w > 0 for w in weights)):
        raise ValueError(f"weights are {list(weights)} for {len(sketches)} streams: give each one above 0")
    factors = [1.0] * len(sketches) if weights is None else [weight / min(weights) for weight in weights]
    columns = zip(*(sketch._read() for sketch in sketches), strict=True)
    return np.stack([_quantiles_of(parts, factors, q) for parts in columns], axis=1)


def _quantiles_of(columns: Sequence[_Column], factors: Sequence[float], q: Sequence[float]) -> np.ndarray:
    seen = [(column, factor) for column, factor in zip(columns, factors, strict=True) if column.count]
    if not seen:
        return np.zeros(len(q))
    points = [(*column.points(), factor) for column, factor in seen]
    values = np.concatenate([values for values, _, _ in points])
    weights = np.concatenate([weights * factor for _, weights, factor in points])
    if (weights == 1).all():
        return np.quantile(values, np.asarray(q, dtype=np.float64))
    found = _weighted_quantiles(values, weights, np.asarray(q, dtype=np.float64))
    lowest, highest = min(column.lowest for column, _ in seen), max(column.highest for column, _ in seen)
    return np.where(np.equal(q, 0), lowest, np.where(np.equal(q, 1), highest, found))


def _weighted_quantiles(values: np.ndarray, weights: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Quantiles as if each value came `weight` >= 1 times: numpy's linear ones where the weights are whole numbers."""
    order = np.argsort(values)
    values, after = values[order].astype(np.float64), np.cumsum(weights[order])
    places = q * (after[-1] - 1)
    # value i fills the places after[i - 1] .. after[i] - 1; from there to after[i] it runs over to the next
    left = np.minimum(np.searchsorted(after, places, side="right"), len(values) - 1)
    right = np.minimum(left + 1, len(values) - 1)
    part = np.clip(places - (after[left] - 1), 0, 1)
    return values[left] + (values[right] - values[left]) * part
