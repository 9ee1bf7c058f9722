"""Do cases begin as they say: the same one alike each time, different ones differently."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from eval.preflight.findings import Finding
from eval.preflight.playing import Player
from eval.suite import Case, Suite, View

_PIXELS = 2.0  # mean difference, levels of 255, that repeated drawing may make
_STATE = 1e-4  # m, rad


def check_listed(suite: Suite) -> list[Finding]:
    """The list alone: it is the same each time it is asked for, and names no case twice."""
    cases, again = suite.cases(), suite.cases()
    if cases != again:
        words = "the list of cases differs each time it is made"
        cause = "placements or settings are drawn at random where the protocol has a grid"
        return [Finding("cases", "refused", "cases", words, cause, "keep the grid as data, and take it in order")]
    twice = [key for key, count in Counter(case.key for case in cases).items() if count > 1]
    if twice:
        words = f"{len(twice)} cases are there twice, {twice[0]} among them"
        return [Finding("cases", "refused", "cases", words, "", "number initial states through")]
    inits = Counter((case.task, case.setting) for case in cases)
    same = [task for (task, _), count in inits.items() if count > 1 and _one_state(cases, task)]
    if same:
        words = f"every case of {same[0]} names the same initial state and seed"
        cause = "the same initial state is played again and again"
        return [Finding("cases", "refused", "cases", words, cause, "give each case its own init")]
    return [Finding("cases", "passed", "cases", f"{len(cases)} cases of {len(inits)} tasks and settings, none twice")]


def _one_state(cases: Sequence[Case], task: str) -> bool:
    own = [case for case in cases if case.task == task]
    return len({(case.init, case.seed, case.setting, str(sorted(case.options.items()))) for case in own}) == 1


def check_begun(player: Player, suite: Suite) -> tuple[list[Finding], list[View]]:
    """Begin the first case twice and the next one of its task once: the findings, and what was seen."""
    cases = suite.cases()
    first = cases[0]
    others = [case for case in cases if case.task == first.task and case.setting == first.setting and case != first]
    view, again = player.reset(first), player.reset(first)
    views = [view]
    where = f"initial state of {first.key}"
    if not _alike(view, again):
        words = f"begun twice, it is not the same: {_difference(suite, view, again)}"
        cause = "the simulator draws at random and takes no notice of the case's seed or initial state"
        return [Finding("cases", "refused", where, words, cause, "seed and place from the case alone")], views
    found = [Finding("cases", "passed", where, "begun twice, it is the same to the pixel")]
    if others:
        other = player.reset(others[0])
        views.append(other)
        if _alike(view, other, exactly=True):
            words = f"it looks just like {others[0].key}: states and pictures are equal"
            cause = "the same initial state is played again and again"
            fix = "pass the case's init and seed to the simulator"
            found = [Finding("cases", "refused", where, words, cause, fix)]
    return found, views


def _alike(one: View, other: View, exactly: bool = False) -> bool:
    """Whether two views are of the same moment, but for how exactly pictures repeat."""
    if one.state.shape != other.state.shape or np.abs(one.state - other.state).max(initial=0) > (
        0 if exactly else _STATE
    ):
        return False
    pixels = 0.0 if exactly else _PIXELS
    return all(_apart(image, other.images[camera]) <= pixels for camera, image in one.images.items())


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        return np.inf
    return float(np.abs(one.astype(np.int16) - other).mean())


def _difference(suite: Suite, one: View, other: View) -> str:
    gaps = np.abs(one.state - other.state)
    if gaps.max(initial=0) > _STATE:
        column = suite.state[int(gaps.argmax())]
        place = int(gaps.argmax())
        return f"{column.name} is {one.state[place]:.4g} and then {other.state[place]:.4g} {column.unit}"
    camera = max(one.images, key=lambda name: _apart(one.images[name], other.images[name]))
    apart = _apart(one.images[camera], other.images[camera])
    return f"the pictures of camera {camera!r} differ by {apart:.1f} levels (of 255) in the mean"
