"""Are the simulator's states the ones the checkpoint was trained on: every dimension against its quantiles, by name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_mixtures.spaces.dimension_names import STATE_NAMES
from data_mixtures.spaces.embodiments import Embodiment
from eval.preflight.checkpoint import Checkpoint
from eval.preflight.findings import Finding, Verdict
from eval.preflight.state_causes import Group, causes, groups
from eval.suite import Suite

_SLACK = 0.5  # widths of the q01..q99 span that a value may lie beyond it
_MANY, _FEW = 0.2, 0.05  # shares of values beyond that: refused, warned of
_STILL = 0.02  # a span below this share of the checkpoint's does not move
_MENDED, _WELL_MENDED = 0.3, 0.03  # of the misfit that a cause may leave to be named; to be taken at once
_COMPARE = "compare where each number of the state comes from, here and in the training data"
# Narrower spans are widened to these: a dimension that hardly moved in training is not off by a hair's breadth.
_NARROWEST = {"m": 0.01, "rad": 0.05, "": 0.05, "0 closed, 1 open": 0.1}
UNKNOWN = "another initial state, or the state from another source"
# How far the same moment's states may lie apart: what storing and drawing lots differently in the last digit makes.
_MOMENT = {"m": 0.005, "rad": 0.02}


@dataclass(frozen=True)
class Dimension:
    """One number the policy is given, with what the checkpoint saw of it."""

    name: str
    unit: str
    low: float
    high: float

    @property
    def width(self) -> float:
        """Of the span, never so narrow that noise would leave it."""
        return max(self.high - self.low, _NARROWEST.get(self.unit, 0.02))


def check_states(
    suite: Suite,
    checkpoint: Checkpoint,
    states: np.ndarray,
    moving: bool,
    known: tuple[str, str] | None = None,
) -> list[Finding]:
    """Compare raw states with the checkpoint's quantiles.

    Args:
        suite: Whose columns they are.
        checkpoint: With the quantiles, and the robot that reads the columns.
        states: float32 [n, state_dim], at resets and along replays.
        moving: Whether they are from whole episodes, so that what moved in training must move.
        known: Cause and fix, where comparing with demonstrations has told them already.

    Returns:
        A finding for each dimension that is off, the causes named; or one that says that all fit.
    """
    if checkpoint.robot is None or states.shape[1] < checkpoint.robot.state_width:
        return [Finding("states", "not checked", "state", "the columns do not fit the policy's robot; see `actions`")]
    if not np.isfinite(states).all():
        place = int(np.flatnonzero(~np.isfinite(states).all(axis=0))[0])
        name = suite.state[place].name
        return [Finding("states", "refused", f"state {place}, {name}", "it is not finite", "a broken simulator")]
    dimensions, values = _dimensions(suite, checkpoint, states)
    if not dimensions:
        return [Finding("states", "not checked", "state", "the checkpoint was trained without states")]
    off = [finding for d, v in zip(dimensions, values.T, strict=True) if (finding := _off(d, v, moving)) is not None]
    if not off:
        words = f"{len(states)} states lie in the checkpoint's q01..q99 in all {len(dimensions)} dimensions"
        return [Finding("states", "passed", "state", words)]
    return _explained(suite, checkpoint, states, off, known)


def compare_states(
    suite: Suite, pairs: Sequence[tuple[np.ndarray, np.ndarray]], robot: Embodiment | None
) -> list[Finding]:
    """Compare the states [d] recorded at the beginning of demonstrations with those the simulator gives there now.

    They are the same moment, so nothing but rounding may lie between them. Where `robot`, the policy's, reads both
    alike (a quaternion's sign means nothing to one in the unified spaces), that is no more than a warning.
    """
    recorded, now = (np.stack(column).astype(np.float64) for column in zip(*pairs, strict=True))
    where = "state at the beginning of demonstrations"
    if recorded.shape != now.shape:
        words = f"{recorded.shape[1]} numbers were recorded, the simulator gives {now.shape[1]}"
        return [Finding("states", "not checked", where, words)]
    gaps = np.abs(now - recorded)
    limits = np.array([_MOMENT.get(column.unit, 0.01) for column in suite.state])
    off = np.flatnonzero((gaps > limits).any(axis=0)).tolist()
    if not off:
        return [Finding("states", "passed", where, f"as recorded, to {gaps.max(initial=0):.2g}")]
    cause = _moment_cause(suite, recorded, now, limits)
    fix = "bring simulator and data to one convention, or record anew"
    verdict: Verdict = "warning" if _read_alike(robot, recorded, now) else "refused"
    found = []
    for place in off:
        column, worst = suite.state[place], int(gaps[:, place].argmax())
        was, is_now = float(recorded[worst, place]), float(now[worst, place])
        words = f"a demonstration began at {_said(was, column.unit)}, here it begins at {_said(is_now, column.unit)}"
        values = {"name": column.name, "unit": column.unit, "recorded": was, "simulator": is_now}
        found.append(Finding("states", verdict, _named(column.name, column.unit), words, cause, fix, values))
    return found


def _read_alike(robot: Embodiment | None, recorded: np.ndarray, now: np.ndarray) -> bool:
    if robot is None or robot.state_width > now.shape[1]:
        return False
    read = [robot.to_unified_state(states.astype(np.float32)) for states in (recorded, now)]
    return bool(np.abs(read[0] - read[1]).max() < _MOMENT["m"])


def _moment_cause(suite: Suite, recorded: np.ndarray, now: np.ndarray, limits: np.ndarray) -> str:
    """The change of one group of columns that brings all of it together: it is the same moment, so it must be exact."""
    if not now.any() or (len(now) > 1 and not np.ptp(now, axis=0).any() and np.ptp(recorded, axis=0).any()):
        return "the state is not sent, or read once and kept"
    for group in groups(suite.state):
        places = list(group.places)
        if (np.abs(now - recorded)[:, places] <= limits[places]).all():
            continue
        for cause, _, changed in causes(group, now.astype(np.float32), recorded[:, places]):
            if len(now) == 1 and "origin" in cause:
                continue  # one moment can always be shifted onto another
            if (np.abs(changed - recorded)[:, places] <= 2 * limits[places]).all():
                return cause
    return UNKNOWN


def _named(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit not in ("", "1") else name


def _said(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}" if unit in ("m", "rad") else f"{value:.4g}"


def _dimensions(suite: Suite, checkpoint: Checkpoint, states: np.ndarray) -> tuple[list[Dimension], np.ndarray]:
    """What the policy makes of the states: the dimensions training saw, and their values float [n, k]."""
    robot, quantiles = checkpoint.robot, checkpoint.normalisation.state
    assert robot is not None
    unified = robot.to_unified_state(states)
    seen = (np.array(quantiles.q01) != 0) | (np.array(quantiles.q99) != 0)
    places = np.flatnonzero(robot.state_mask & seen).tolist()
    recorded = None if robot.recorded is None else (robot.recorded.state or [])
    names = []
    for place in places:
        if recorded is None:
            name, unit = str(STATE_NAMES[place]), STATE_NAMES[place].unit
        else:
            name, unit = suite.state[recorded[place]].name, suite.state[recorded[place]].unit
        names.append(Dimension(name, unit, quantiles.q01[place], quantiles.q99[place]))
    return names, unified[:, places].astype(np.float64)


def _beyond(dimension: Dimension, values: np.ndarray) -> np.ndarray:
    """How many widths each value lies outside of the span."""
    return np.maximum(np.maximum(dimension.low - values, values - dimension.high), 0) / dimension.width


def _off(dimension: Dimension, values: np.ndarray, moving: bool) -> Finding | None:
    """What is wrong with one dimension; None if nothing is."""
    unit = f" {dimension.unit}" if dimension.unit in ("m", "rad") else ""
    low, middle, high = np.quantile(values, (0.01, 0.5, 0.99))
    said = f"the simulator gives {low:.4g} to {high:.4g}{unit} (median {middle:.4g}), the checkpoint was trained on "
    said += f"{dimension.low:.4g} to {dimension.high:.4g}{unit}"
    figures = {
        "name": dimension.name,
        "unit": dimension.unit,
        "simulator": [float(low), float(middle), float(high)],
        "checkpoint": [dimension.low, dimension.high],
    }
    where = _named(dimension.name, dimension.unit)
    narrow = dimension.high - dimension.low < 2 * _NARROWEST.get(dimension.unit, 0.02)
    if moving and not narrow and np.ptp(values) < _STILL * dimension.width:
        said += "; it does not move while the robot does"
        cause = "the state is not sent, or read once and kept"
        return Finding("states", "refused", where, said, cause, "send the state of every moment", figures)
    share = float((_beyond(dimension, values) > _SLACK).mean())
    if share > _FEW:
        verdict = "refused" if share > _MANY else "warning"
        return Finding("states", verdict, where, f"{said}; {share:.0%} of it lies outside", values=figures)
    return None


def _misfit(suite: Suite, checkpoint: Checkpoint, states: np.ndarray) -> float:
    """How far states lie outside, over all dimensions; one that is far out counts no more than five widths."""
    dimensions, values = _dimensions(suite, checkpoint, states)
    columns = zip(dimensions, values.T, strict=True)
    return float(
        sum(np.maximum(np.nan_to_num(_beyond(d, v), nan=5.0).clip(0, 5) - _SLACK, 0).mean() for d, v in columns)
    )


def _explained(
    suite: Suite, checkpoint: Checkpoint, states: np.ndarray, off: Sequence[Finding], known: tuple[str, str] | None
) -> list[Finding]:
    """The same findings with the cause of each group of columns that one change mends."""
    if all(finding.cause for finding in off):
        return list(off)
    cause, fix = known if known is not None else _cause(suite, checkpoint, states)
    return [
        finding
        if finding.cause
        else Finding("states", finding.verdict, finding.where, finding.what, cause, fix, finding.values)
        for finding in off
    ]


def _cause(suite: Suite, checkpoint: Checkpoint, states: np.ndarray) -> tuple[str, str]:
    """The first change of a group of columns that mends nearly all, or the one that mends most."""
    before = _misfit(suite, checkpoint, states)
    best = (_MENDED * before, "another robot, another frame of reference, or the state from another source", _COMPARE)
    for group in groups(suite.state):
        for cause, fix, changed in causes(group, states, _centre(suite, checkpoint, group)):
            left = _misfit(suite, checkpoint, changed)
            if left < _WELL_MENDED * before:
                return cause, fix
            if left < best[0]:
                best = left, cause, fix
    return best[1:]


def _centre(suite: Suite, checkpoint: Checkpoint, group: Group) -> np.ndarray | None:
    """The middle of what the checkpoint saw of some columns, in their unit; None if that is not known."""
    robot, quantiles = checkpoint.robot, checkpoint.normalisation.state
    assert robot is not None
    middle = (np.array(quantiles.q01) + np.array(quantiles.q99)) / 2
    if robot.recorded is not None:
        taken = robot.recorded.state or []
        known = set(group.places) <= set(taken)
        return np.array([middle[taken.index(place)] for place in group.places]) if known else None
    arm = robot.left
    if group.quantity != "position" or arm is None or arm.position is None:
        return None
    return middle[: len(group.places)] / arm.position.factor
