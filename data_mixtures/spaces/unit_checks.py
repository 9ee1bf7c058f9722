"""Signs of numbers that mean something else than they should: wrong units, wrong order, values out of bounds.

What is found is only suspicious: a hand may move faster than a robot. Nothing is left out because of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Protocol

import numpy as np

from data_mixtures.spaces.dimension_names import ACTION_NAMES, STATE_NAMES, DimensionName
from data_mixtures.spaces.rotations import matrix_from_xyzw, rotation_change
from data_mixtures.spaces.unified import (
    ARM_ACTION_DIM,
    ARM_STATE_DIM,
    LEFT_ROTATION,
    LEFT_TRANSLATION,
    STATE_LEFT_POSITION,
    STATE_LEFT_QUATERNION,
    Numerics,
    NumericSpace,
)
from data_mixtures.statistics.quantile_sketch import QuantileSketch
from data_mixtures.statistics.streaming import NumericsSource, Statistics

FASTEST_M_S = 3.0  # industrial arms reach 2 to 3 m/s at the tool
FASTEST_RAD_S = 4 * pi
FARTHEST_M = 5.0  # from the robot's base
_STEADY = 1e-6  # narrower is constant, as in normalisation
_FAR_SPANS = 50  # an outlier lies this many times the 1..99 % span beyond it
_COMMON = 0.01  # what more than this share of the values does is no outlier
_GRIPPER_SLACK, _NORM_SLACK = 0.01, 0.01
_AGREEING = 0.3  # mean cosine between actions and the changes of the state; about 0 for wrong axes, above 0.7 for right
_FEWEST_CHANGES = 50
_BLOCK, _BLOCKS = 2048, 32  # frames looked at for what single dimensions do not show


@dataclass(frozen=True)
class Suspicion:
    """One thing that looks wrong.

    Attributes:
        dataset: the data set's name.
        dimension: what it is about, with its unit, as "left arm translation x (m)".
        value: the number that looks wrong.
        words: what is suspicious, and what usually is behind it.
    """

    dataset: str
    dimension: str
    value: float
    words: str

    def __str__(self) -> str:
        return f"{self.dataset}: {self.dimension}: {self.words}"


class EpisodeSource(NumericsSource, Protocol):
    """Numerics in episodes; an Index for one."""

    fps: np.ndarray

    @property
    def space(self) -> NumericSpace:
        """What its dimensions are; of a robot's own columns nothing is known that could look wrong."""
        ...

    def episode_of(self, rows: np.ndarray) -> np.ndarray:
        """The episodes that rows lie in."""
        ...

    def camera_rotation(self, rows: np.ndarray) -> np.ndarray | None:
        """Rotations of a moving camera at rows, None where poses are in a frame at rest."""
        ...


def check_units(dataset: str, source: EpisodeSource, statistics: Statistics, constants: bool = True) -> list[Suspicion]:
    """Everything suspicious about a data set, from its statistics and a look at up to 65,536 of its frames.

    Args:
        dataset: its name.
        source: its numerics.
        statistics: of all its frames, or of a spread-out sample.
        constants: name dimensions that never change, too.
    """
    if not source.num_rows or source.space != "unified":
        return []
    found = check_statistics(dataset, statistics, float(np.min(source.fps)), constants)
    rows = _some_rows(source.num_rows)
    numerics, episodes = source.numerics(rows), source.episode_of(rows)
    found += check_quaternions(dataset, numerics)
    if source.camera_rotation(rows[:1]) is None:  # else one frame's pose is not in the next one's axes
        follows = (np.diff(rows) == 1) & (np.diff(episodes) == 0)
        found += check_agreement(dataset, numerics, follows)
    return found


def check_statistics(dataset: str, statistics: Statistics, fps: float, constants: bool = True) -> list[Suspicion]:
    """What the figures of single dimensions show; `fps` is the lowest frame rate, which allows the longest steps."""
    found: list[Suspicion] = []
    for sketch, names in ((statistics.state, STATE_NAMES), (statistics.action, ACTION_NAMES)):
        figures = _Figures(sketch)
        for name in names:
            if not figures.count[name.index]:
                continue
            steady = _constant(figures, name)
            said = steady or _out_of_range(figures, name, fps) or _outlier(figures, name)
            if said is not None and (constants or steady is None):
                value, words = said
                found.append(Suspicion(dataset, _with_unit(name), value, words))
    return found


def check_quaternions(dataset: str, numerics: Numerics) -> list[Suspicion]:
    """Quaternions of states [n, 46] that are not of unit length, or not with w >= 0."""
    found = []
    for side, first in _sides(ARM_STATE_DIM):
        part = slice(STATE_LEFT_QUATERNION.start + first, STATE_LEFT_QUATERNION.stop + first)
        quaternions = numerics.state[numerics.state_mask[:, part].all(axis=1), part].astype(np.float64)
        if not len(quaternions):
            continue
        name, norms = f"{side} arm quaternion", np.linalg.norm(quaternions, axis=1)
        worst = float(norms[np.abs(norms - 1).argmax()])
        if abs(worst - 1) > _NORM_SLACK:
            words = (
                f"the length of a quaternion is {worst:.4g}, not 1: not normalised, or other numbers than a rotation"
            )
            found.append(Suspicion(dataset, name, worst, words))
        lowest = float(quaternions[:, 3].min())
        if lowest < -_NORM_SLACK:
            share = float((quaternions[:, 3] < 0).mean())
            words = (
                f"w is negative ({lowest:.3g}) in {share:.0%} of the frames: w comes first (wxyz), or signs not fixed"
            )
            found.append(Suspicion(dataset, name, lowest, words))
    return found


def check_agreement(dataset: str, numerics: Numerics, follows: np.ndarray) -> list[Suspicion]:
    """Whether actions point where the state goes.

    Args:
        dataset: its name.
        numerics: n frames.
        follows: bool [n - 1], True where frame k + 1 comes after frame k in the same episode.
    """
    found = []
    for (side, action), (_, state) in zip(_sides(ARM_ACTION_DIM), _sides(ARM_STATE_DIM), strict=True):
        for turns, name, least, cause in (
            (False, "translation", 1e-4, "actions in the tool's or another frame, or axes in another order"),
            (True, "rotation", 1e-3, "quaternions in another order (wxyz), or Euler angles of another convention"),
        ):
            cosine = _mean_cosine(*_changes(numerics, follows, state, action, turns), least)
            if cosine is not None and cosine < _AGREEING:
                words = f"actions do not point where the state goes (mean cosine {cosine:.2f}): {cause}"
                found.append(Suspicion(dataset, f"{side} arm {name}", cosine, words))
    return found


class _Figures:
    """A sketch's figures, read once."""

    def __init__(self, sketch: QuantileSketch) -> None:
        self.sketch, self.count = sketch, sketch.count
        self.lowest, self.highest = sketch.lowest, sketch.highest
        self.q01, self.q50, self.q99 = sketch.quantiles((0.01, 0.5, 0.99))


def _constant(figures: _Figures, name: DimensionName) -> tuple[float, str] | None:
    low, high = figures.q01[name.index], figures.q99[name.index]
    if high - low > _STEADY:
        return None
    lowest, highest = figures.lowest[name.index], figures.highest[name.index]
    if highest - lowest <= _STEADY:
        return float(low), f"it is {low:.4g} in every frame: it should be masked if the robot has no such dimension"
    words = f"98 % of the values are {low:.4g}, the others reach from {lowest:.4g} to {highest:.4g}: it normalises to 0"
    return float(low), words


def _out_of_range(figures: _Figures, name: DimensionName, fps: float) -> tuple[float, str] | None:
    lowest, highest = figures.lowest[name.index], figures.highest[name.index]
    farthest = float(lowest if -lowest > highest else highest)
    if name.unit.startswith("0 closed"):
        worst = float(lowest if -lowest > highest - 1 else highest)
        if -_GRIPPER_SLACK <= worst <= 1 + _GRIPPER_SLACK:
            return None
        return worst, f"a gripper goes from 0 (closed) to 1 (open), here from {lowest:.4g} to {highest:.4g}"
    if name.unit == "m" and name.space == "state" and abs(farthest) > FARTHEST_M:
        share = figures.sketch.share_above(FARTHEST_M, name.index)
        return farthest, f"{farthest:.4g} m from the origin ({share:.2%} beyond {FARTHEST_M:g} m): millimetres?"
    if name.space == "action" and name.unit in ("m", "rad"):
        return _too_fast(figures, name, fps, farthest)
    return None


def _too_fast(figures: _Figures, name: DimensionName, fps: float, farthest: float) -> tuple[float, str] | None:
    fastest, wrong = (FASTEST_M_S, "millimetres") if name.unit == "m" else (FASTEST_RAD_S, "degrees")
    if abs(farthest) * fps <= fastest:
        return None
    share = figures.sketch.share_above(fastest / fps, name.index)
    cause = f"{wrong}?" if share > _COMMON else "single jumps in the recording?"
    return farthest, (
        f"a change of {farthest:.4g} {name.unit} in one step at {fps:g} frames/s is {abs(farthest) * fps:.4g} "
        f"{name.unit}/s; {share:.2%} of the steps are faster than {fastest:.4g}: {cause}"
    )


def _outlier(figures: _Figures, name: DimensionName) -> tuple[float, str] | None:
    low, high = figures.q01[name.index], figures.q99[name.index]
    lowest, highest = figures.lowest[name.index], figures.highest[name.index]
    farthest = float(lowest if low - lowest > highest - high else highest)
    spans = max(low - lowest, highest - high) / (high - low)
    if spans <= _FAR_SPANS:
        return None
    return farthest, f"{farthest:.4g} lies {spans:.0f} times the 1..99 % span ({low:.4g} to {high:.4g}) outside of it"


def _with_unit(name: DimensionName) -> str:
    return f"{name} ({name.unit})" if name.unit else str(name)


def _sides(width: int) -> Sequence[tuple[str, int]]:
    return ("left", 0), ("right", width)


def _some_rows(count: int) -> np.ndarray:
    """All rows, or blocks of them spread evenly."""
    if count <= _BLOCK * _BLOCKS:
        return np.arange(count)
    starts = np.linspace(0, count - _BLOCK, _BLOCKS).astype(np.int64)
    return (starts[:, None] + np.arange(_BLOCK)).ravel()


def _changes(
    numerics: Numerics, follows: np.ndarray, state: int, action: int, turns: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The state's changes and the actions, float64 [k, 3] each, where both are known; `turns` for the rotations."""
    kept = STATE_LEFT_QUATERNION if turns else STATE_LEFT_POSITION
    asked = LEFT_ROTATION if turns else LEFT_TRANSLATION
    kept, asked = slice(kept.start + state, kept.stop + state), slice(asked.start + action, asked.stop + action)
    seen: np.ndarray = np.all(numerics.state_mask[:, kept], axis=1)
    told: np.ndarray = np.all(numerics.action_mask[:-1, asked], axis=1)
    pairs = np.flatnonzero(follows & seen[:-1] & seen[1:] & told)
    before, after = (numerics.state[rows, kept].astype(np.float64) for rows in (pairs, pairs + 1))
    actions = numerics.actions[pairs, asked].astype(np.float64)
    if not turns:
        return after - before, actions
    return rotation_change(matrix_from_xyzw(before), matrix_from_xyzw(after)), actions


def _mean_cosine(changes: np.ndarray, actions: np.ndarray, least: float) -> float | None:
    """The mean cosine of changes with actions, of those longer than `least`; None where too few are."""
    shorter: np.ndarray = np.minimum(np.linalg.norm(changes, axis=1), np.linalg.norm(actions, axis=1))
    long = np.greater(shorter, least)
    changes, actions = changes[long], actions[long]
    if len(changes) < _FEWEST_CHANGES:
        return None
    lengths = np.linalg.norm(changes, axis=1) * np.linalg.norm(actions, axis=1)
    return float(((changes * actions).sum(axis=1) / lengths).mean())
