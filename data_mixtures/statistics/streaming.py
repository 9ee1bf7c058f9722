"""Statistics of a data set's numerics in one pass: kept beside its index, pooled for a mixture. Video is never read."""

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data_mixtures.spaces.dimension_names import DimensionName, dimension_names
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM, Numerics, NumericSpace
from data_mixtures.statistics.normalisation import Normalisation, Quantiles
from data_mixtures.statistics.quantile_sketch import QuantileSketch, pooled_quantiles
from data_mixtures.storage.whole_file import write_whole

FILE_NAME = "statistics.json"  # for people
SKETCH_NAME = "statistics.npz"  # what it was computed from, to be pooled with others
_SHOWN = (0.01, 0.1, 0.5, 0.9, 0.99)
_ROWS = 1 << 16  # read at a time


class NumericsSource(Protocol):
    """What statistics are taken of; an Index for one."""

    @property
    def num_rows(self) -> int:
        """Frames."""
        ...

    def numerics(self, rows: np.ndarray) -> Numerics:
        """States [n, 46] and actions [n, 44] of rows int64 [n], with masks."""
        ...


class Statistics:
    """What was seen of every unified dimension, in physical units; values that are masked do not count.

    Attributes:
        state: of the 46 state dimensions.
        action: of the 44 action dimensions.
    """

    def __init__(self, state: QuantileSketch | None = None, action: QuantileSketch | None = None) -> None:
        self.state = QuantileSketch(STATE_DIM) if state is None else state
        self.action = QuantileSketch(ACTION_DIM) if action is None else action

    def add(self, numerics: Numerics) -> None:
        """Take in n frames: states [n, 46] and actions [n, 44]."""
        self.state.add(numerics.state, numerics.state_mask)
        self.action.add(numerics.actions, numerics.action_mask)

    def merge(self, other: "Statistics") -> None:
        """Take in what `other` has seen; every frame counts alike."""
        self.state.merge(other.state)
        self.action.merge(other.action)

    def normalisation(self) -> Normalisation:
        """The 1 % and 99 % quantiles."""
        return pooled_normalisation([self])

    def save(self, folder: Path | str, fingerprint: str, space: NumericSpace = "unified") -> None:
        """Write `statistics.json` and `statistics.npz`, each whole.

        Args:
            folder: that exists.
            fingerprint: names the content they are of.
            space: what the dimensions are.
        """
        folder = Path(folder)
        arrays = {
            f"{space}.{name}": values
            for space, sketch in (("state", self.state), ("action", self.action))
            for name, values in sketch.state().items()
        }
        file = BytesIO()
        np.savez(file, allow_pickle=False, fingerprint=np.array(fingerprint), **arrays)
        write_whole(folder / SKETCH_NAME, file.getvalue())
        words = {
            "fingerprint": fingerprint,
            "state": _table(self.state, dimension_names("state", space)),
            "action": _table(self.action, dimension_names("action", space)),
        }
        write_whole(folder / FILE_NAME, json.dumps(words, indent=1))

    @classmethod
    def load(cls, folder: Path | str, fingerprint: str) -> "Statistics":
        """Read what `save` wrote.

        Raises:
            ValueError: there is nothing, it is damaged, or it is of other content than `fingerprint` names.
        """
        path = Path(folder) / SKETCH_NAME
        if not path.exists():
            raise ValueError(f"{path} does not exist: compute the data set's statistics first")
        arrays = _read(path)
        if str(arrays.pop("fingerprint", "")) != fingerprint:
            raise ValueError(f"{path} is of other content than the data set has now: delete it and compute it anew")
        parts = {
            space: {name.removeprefix(f"{space}."): v for name, v in arrays.items() if name.startswith(f"{space}.")}
            for space in ("state", "action")
        }
        try:
            return cls(**{space: QuantileSketch.from_state(part) for space, part in parts.items()})
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}: {error}") from error


def statistics_of(source: NumericsSource, rows: np.ndarray | None = None) -> Statistics:
    """Statistics of a source's rows int64 [n], all of them when None: one pass, 65,536 rows in memory at a time."""
    statistics = Statistics()
    count = source.num_rows if rows is None else len(rows)
    for first in range(0, count, _ROWS):
        place = slice(first, min(first + _ROWS, count))
        statistics.add(source.numerics(np.arange(place.start, place.stop) if rows is None else rows[place]))
    return statistics


def pooled_normalisation(
    parts: Sequence[Statistics], weights: Sequence[float] | None = None, space: NumericSpace = "unified"
) -> Normalisation:
    """The normalisation of a mixture.

    Args:
        parts: one for each data set, at least one.
        weights: how much a frame of each data set counts against one of the others; all alike when None, so that
            the frames of all data sets are pooled.
        space: what the dimensions are, alike in all parts.
    """
    return Normalisation(
        state=_quantiles([part.state for part in parts], weights),
        action=_quantiles([part.action for part in parts], weights),
        space=space,
    )


def _quantiles(sketches: Sequence[QuantileSketch], weights: Sequence[float] | None) -> Quantiles:
    low, high = pooled_quantiles(sketches, (0.01, 0.99), weights).tolist()
    return Quantiles(tuple(low), tuple(high))


def _table(sketch: QuantileSketch, names: Sequence[DimensionName]) -> dict[str, dict[str, Any]]:
    """The figures of every dimension that was seen, by its name."""
    figures = {"lowest": sketch.lowest, "highest": sketch.highest, "mean": sketch.mean, "std": sketch.std}
    figures |= {f"q{round(100 * q):02d}": values for q, values in zip(_SHOWN, sketch.quantiles(_SHOWN), strict=True)}
    count = sketch.count
    return {
        str(name): {"unit": name.unit, "count": int(count[name.index])}
        | {figure: float(values[name.index]) for figure, values in figures.items()}
        for name in names
        if count[name.index]
    }


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # zip, zlib and numpy each have their own words for damage
        raise ValueError(f"{path} is damaged ({error}): delete it and compute it anew") from error
