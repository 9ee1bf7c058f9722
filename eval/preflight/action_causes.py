"""What could have happened to actions on their way: whatever makes demonstrations succeed when it is undone, did."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from data_mixtures.spaces.rotations import (
    axis_angle_from_matrix,
    euler_from_matrix,
    matrix_from_axis_angle,
    matrix_from_euler,
)
from eval.preflight.columns import Meaning, meaning
from eval.preflight.demonstrations import Demonstration
from eval.suite import Suite

Change = tuple[str, str, Callable[[Demonstration], np.ndarray]]
"""(cause, fix, demonstration -> actions [T, A] with that undone)."""

_HELD = 15  # steps the Google robot's sticky gripper repeats a command
_CONVERT = "convert rotations once, in the direction their names say"
_FLIP = "swap open and closed, once: two flips cancel"


def changes(suite: Suite) -> Iterator[Change]:
    """Everything that is tried, the most frequent faults first."""
    meanings = [meaning(column) for column in suite.action]
    grippers = [place for place, one in enumerate(meanings) if one.quantity == "gripper"]
    turns = [place for place, one in enumerate(meanings) if one.quantity in ("axis-angle", "euler", "rotation")]
    moves = [place for place, one in enumerate(meanings) if one.quantity == "position"]
    if grippers:
        yield from _of_grippers(suite, grippers)
    if len(turns) == 3:
        yield from _of_turns(turns, meanings[turns[0]].metres_or_rad or 1.0)
    if moves or turns:
        yield from _of_motions(moves, turns)
    if moves and _places(suite, meanings):
        yield (
            "changes are taken for targets (delta and absolute actions mixed up)",
            "set the simulator's controller to the kind of action its name says",
            lambda one: _as_targets(one, suite, meanings),
        )
    if grippers and (moves or turns):
        yield (
            f"gripper commands are not held long enough (no sticky gripper): held {_HELD} steps they suffice",
            "make the sticky gripper part of the suite",
            lambda one: _waiting(one.actions, grippers, [*moves, *turns]),
        )


def _of_grippers(suite: Suite, places: Sequence[int]) -> Iterator[Change]:
    def changed(one: Demonstration, change: Callable[[np.ndarray, float, float], np.ndarray]) -> np.ndarray:
        actions = one.actions.copy()
        for place in places:
            column = suite.action[place]
            actions[:, place] = change(actions[:, place], column.low, column.high)
        return actions

    def binarised(values: np.ndarray, low: float, high: float) -> np.ndarray:
        return np.where(values > (values.min() + values.max()) / 2, high, low)

    yield (
        "gripper polarity is flipped",
        _FLIP,
        lambda one: changed(one, lambda values, low, high: low + high - values),
    )
    said = "the gripper's threshold or range differs from the recording's"
    fix = "scale the gripper to the range its column names, and decide at the middle of it"
    yield said, fix, lambda one: changed(one, binarised)
    yield (
        f"{said}, and its polarity",
        f"{fix}; {_FLIP}",
        lambda one: changed(one, lambda values, low, high: low + high - binarised(values, low, high)),
    )


def _of_turns(places: Sequence[int], scale: float) -> Iterator[Change]:
    def changed(one: Demonstration, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        actions = one.actions.copy()
        actions[:, places] = change(actions[:, places].astype(np.float64) * scale) / scale
        return actions

    def euler(vectors: np.ndarray) -> np.ndarray:
        return euler_from_matrix(matrix_from_axis_angle(vectors))

    def axis_angle(angles: np.ndarray) -> np.ndarray:
        return axis_angle_from_matrix(matrix_from_euler(angles))

    yield "axis-angle is taken for Euler angles", _CONVERT, lambda one: changed(one, euler)
    yield "Euler angles are taken for axis-angle", _CONVERT, lambda one: changed(one, axis_angle)


def _of_motions(moves: Sequence[int], turns: Sequence[int]) -> Iterator[Change]:
    def scaled(one: Demonstration, places: Sequence[int], factor: float) -> np.ndarray:
        actions = one.actions.copy()
        actions[:, places] *= factor
        return actions

    fix = "compare the scale of the actions, and the simulator steps that each is held"
    for factor, words in ((0.5, "twice"), (2.0, "half")):
        said = f"motions arrive {words} as large as recorded (scale, or control period)"
        yield said, fix, lambda one, factor=factor: scaled(one, [*moves, *turns], factor)
    said = "translations arrive with the opposite sign (another frame)"
    yield said, "give actions in the simulator's base frame", lambda one: scaled(one, moves, -1.0)


def _waiting(actions: np.ndarray, grippers: Sequence[int], poses: Sequence[int]) -> np.ndarray:
    """The same, with a pause after each change of the gripper in which nothing else moves."""
    changed = np.any(np.diff(actions[:, grippers], axis=0, prepend=actions[:1, grippers]) != 0, axis=1)
    pieces = []
    for action, pause in zip(actions, changed.tolist(), strict=True):
        still = action.copy()
        still[poses] = 0
        pieces += [action, *([still] * _HELD if pause else [])]
    return np.stack(pieces)


def _places(suite: Suite, meanings: Sequence[Meaning]) -> list[tuple[int, int]]:
    """(place in the action, place in the state) of every pose column that both have."""
    state = [meaning(column) for column in suite.state]
    found = []
    for place, one in enumerate(meanings):
        same = [at for at, other in enumerate(state) if (other.quantity, other.part) == (one.quantity, one.part)]
        if same and one.quantity in ("position", "axis-angle", "euler", "joint"):
            found.append((place, same[0]))
    return found


def _as_targets(one: Demonstration, suite: Suite, meanings: Sequence[Meaning]) -> np.ndarray:
    """Where the recording went, in place of how it changed."""
    actions, reached = one.actions.copy(), np.concatenate([one.states[1:], 2 * one.states[-1:] - one.states[-2:-1]])
    for place, at in _places(suite, meanings):
        actions[:, place] = reached[:, at] / (meanings[place].metres_or_rad or 1.0)
    return actions
