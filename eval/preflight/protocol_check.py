"""Does the protocol hold together, and is it the one the policy and the demonstrations are made for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data_mixtures.statistics.normalisation import Quantiles
from eval.preflight.checkpoint import Checkpoint
from eval.preflight.demonstrations import Demonstration
from eval.preflight.findings import Finding
from eval.suite import Suite, View

_SAME_RATE = 0.05  # relative difference of two control rates that are the same, rounded differently
_ANOTHER_RATE = 0.2
_SPARE = 1.1  # steps an episode should have beyond its longest demonstration, as a factor
_FEWEST = 200  # moving values a dimension needs before its ends are judged
_TELLING = 1.15  # how much wider min..max must be than q01..q99 for the two to be told apart


def check_protocol(
    suite: Suite, checkpoint: Checkpoint | None, demonstrations: Sequence[Demonstration], view: View | None
) -> list[Finding]:
    """Everything that is written down: chunk, readings, steps, rate, cameras, gripper, words."""
    found = [*_chunk(suite, checkpoint), *_readings(suite), *_sticky(suite), *_steps(suite, demonstrations)]
    found += _rates(suite, checkpoint, demonstrations)
    if view is not None:
        found += _cameras(checkpoint, view) if checkpoint else []
        found += _words(view)
    return found


def _chunk(suite: Suite, checkpoint: Checkpoint | None) -> Iterator[Finding]:
    where, stated = "execute (actions)", suite.protocol.get("execute")
    if stated is not None and stated != suite.execute:
        words = f"{suite.execute} actions of each chunk are carried out, and the protocol says {stated}"
        yield Finding("protocol", "refused", where, words, "", "write the number that is carried out in the protocol")
    elif checkpoint is not None and suite.execute > checkpoint.horizon:
        words = (
            f"{suite.execute} actions of each chunk are to be carried out, and the policy gives {checkpoint.horizon}"
        )
        cause = "another model, or a protocol of another one's horizon"
        yield Finding("protocol", "refused", where, words, cause, f"set execute to at most {checkpoint.horizon}")
    elif checkpoint is not None:
        words = f"{suite.execute} of {checkpoint.horizon} actions of each chunk are carried out"
        values = {"execute": suite.execute, "horizon": checkpoint.horizon}
        if suite.execute == 1 and checkpoint.horizon > 1:
            cause = "a protocol for models without chunks; a policy of chunks is trained on carrying several out"
            yield Finding("protocol", "warning", where, words, cause, "compare with execute: 5 or more", values)
        else:
            yield Finding("protocol", "passed", where, words, values=values)


def _readings(suite: Suite) -> Iterator[Finding]:
    where = "success reading"
    if suite.quoted not in ("any", "final"):
        words = f"the quoted reading is {suite.quoted!r}, and must be 'any' or 'final'"
        yield Finding("protocol", "refused", where, words, "", "name the reading that tables quote")
    elif suite.quoted == "final" and suite.past_success == 0:
        words = (
            "episodes stop at their first success, and the reading of the last step is quoted: it is always yes then"
        )
        cause = "success at the last step is confused with success at any step"
        yield Finding(
            "protocol", "refused", where, words, cause, "let episodes run on (past_success: null), or quote 'any'"
        )
    else:
        yield Finding("protocol", "passed", where, f"'{suite.quoted}' is quoted; every row holds all of them")


def _sticky(suite: Suite) -> Iterator[Finding]:
    """The Google robot's gripper holds a command for several steps: without that nothing is ever grasped."""
    if "google" not in suite.name:
        return
    steps = _found(suite.protocol, "sticky")
    if not steps:
        words = "the protocol of a Google robot names no sticky gripper"
        cause = "the repeat of gripper commands was left to the policy"
        fix = "hold a gripper command for 15 steps in the suite (`sticky_steps` in its protocol)"
        yield Finding("protocol", "refused", "sticky gripper (steps)", words, cause, fix)
    else:
        yield Finding("protocol", "passed", "sticky gripper (steps)", f"gripper commands are held for {steps} steps")


def _steps(suite: Suite, demonstrations: Sequence[Demonstration]) -> Iterator[Finding]:
    limits = {case.task: case.max_steps for case in suite.cases()}
    longest: dict[str, int] = {}
    for one in demonstrations:
        longest[one.case.task] = max(longest.get(one.case.task, 0), len(one))
    short = {task: steps for task, steps in longest.items() if steps * _SPARE > limits[task]}
    for task, steps in short.items():
        words = f"episodes end after {limits[task]} actions, and a recorded demonstration takes {steps}"
        verdict = "refused" if steps > limits[task] else "warning"
        cause = "max steps too low, or counted in another unit (simulator steps, chunks)"
        fix = f"raise max_steps to {int(steps * 1.5)} or more; never compare numbers of unequal limits"
        yield Finding("protocol", verdict, f"max steps of {task}", words, cause, fix)
    if longest and not short:
        words = f"limits of {min(limits.values())} to {max(limits.values())}; demonstrations take up to "
        yield Finding("protocol", "passed", "max steps", f"{words}{max(longest.values())}")


def _rates(suite: Suite, checkpoint: Checkpoint | None, demonstrations: Sequence[Demonstration]) -> Iterator[Finding]:
    where, stated = "control rate (Hz)", suite.protocol.get("control_hz")
    trained = checkpoint.seen.control_hz if checkpoint is not None and checkpoint.seen is not None else ()
    known = {"the checkpoint was trained at": trained, "the demonstrations were recorded at": ()}
    if demonstrations:
        known["the demonstrations were recorded at"] = (demonstrations[0].fps,)
    known = {words: rates for words, rates in known.items() if rates}
    if not isinstance(stated, int | float) or not known:
        lacking = "the protocol names no control_hz" if stated is None else "nothing says at which rate was trained"
        yield Finding("protocol", "not checked", where, lacking)
        return
    found = [_rate(where, float(stated), words, rates) for words, rates in known.items()]
    wrong = [finding for finding in found if finding is not None]
    yield from wrong or [Finding("protocol", "passed", where, f"{stated:g} here, as in training")]


def _rate(where: str, stated: float, words: str, rates: Sequence[float]) -> Finding | None:
    """What is wrong with the control rate, by the nearest of the rates that were trained at."""
    rate = min(rates, key=lambda one: abs(one / stated - 1))
    apart = abs(rate / stated - 1)
    if apart <= _SAME_RATE:
        return None
    text = f"the simulator takes {stated:g} actions a second, {words} {rate:g}"
    cause = "another control period: each action moves the robot for too long or too short a time"
    fix = "set the suite's action repeat, or resample the data (window.stride_s)"
    verdict = "refused" if apart > _ANOTHER_RATE else "warning"
    return Finding("protocol", verdict, where, text, cause, fix, {"simulator": stated, "other": rate})


def _cameras(checkpoint: Checkpoint, view: View) -> Iterator[Finding]:
    shown, known = sorted(view.images), list(checkpoint.cameras)
    unknown = [camera for camera in shown if camera not in known]
    missing = [camera for camera in known if camera not in shown]
    if unknown:
        words = f"the suite shows {shown}, the policy looks through {known}"
        fix = f"say which of the policy's cameras {unknown} are (`cameras:` in the recipe)"
        yield Finding("protocol", "refused", f"camera {unknown[0]!r}", words, "cameras have other names", fix)
    elif missing:
        words = f"the policy looks through {known}, and the suite does not show {missing}: they will be black"
        fix = f"have the suite draw {missing}, or train without"
        yield Finding("protocol", "refused", f"camera {missing[0]!r}", words, "a camera is missing", fix)
    else:
        yield Finding("protocol", "passed", "cameras", f"{shown}, as in training")


def _words(view: View) -> Iterator[Finding]:
    if not view.instruction.strip():
        yield Finding("protocol", "refused", "instruction", "the suite says nothing to the policy", "", "give the text")


def check_instructions(begun: Sequence[tuple[Demonstration, View]]) -> list[Finding]:
    """Are the texts the suite says those that were recorded."""
    other = [(one, view) for one, view in begun if _plain(one.instruction) != _plain(view.instruction)]
    if other:
        one, view = other[0]
        words = f"the suite says {view.instruction!r}, the demonstrations {one.instruction!r}"
        cause = "another wording than was trained on"
        return [
            Finding("protocol", "warning", f"instruction of {one.case.task}", words, cause, "say it as in training")
        ]
    return [Finding("protocol", "passed", "instructions", "as recorded")] if begun else []


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")


def check_statistics(checkpoint: Checkpoint, labels: np.ndarray) -> list[Finding]:
    """Are the checkpoint's ranges 1 % and 99 % quantiles of its actions, rather than their ends.

    Only 98 % of the training data lie inside of q01..q99. Where the demonstrations' own minima and maxima stand well
    beyond their own quantiles, it is told which of the two the checkpoint's ranges are.

    Args:
        checkpoint: With its quantiles.
        labels: Actions [n, A] of demonstrations like those it was trained on, raw columns.
    """
    where = "statistics of the actions"
    robot = checkpoint.robot
    if not len(labels) or robot is None:
        return [Finding("statistics", "not checked", where, "there are no demonstrations to compare with")]
    if labels.shape[1] != robot.action_width:
        return [Finding("statistics", "not checked", where, "the demonstrations are another robot's; see `actions`")]
    unified = robot.to_unified_action(labels)
    quantiles = checkpoint.normalisation.action
    kept = set(checkpoint.normalisation.kept_action)
    verdicts = [
        _ends(unified[:, place], quantiles, place)
        for place in np.flatnonzero(robot.action_mask).tolist()
        if place not in kept
    ]
    told = [verdict for verdict in verdicts if verdict is not None]
    if not told:
        words = (
            "the demonstrations are too few, or end where their quantiles do, to tell quantiles from minima and maxima"
        )
        return [Finding("statistics", "not checked", where, words)]
    return [_kind(told, where)]


def _ends(values: np.ndarray, quantiles: Quantiles, place: int) -> tuple[float, float, float] | None:
    """(width of the checkpoint, of the values' q01..q99, of their min..max); None where those two are alike."""
    if len(values) < _FEWEST:
        return None
    low, high = np.quantile(values, (0.01, 0.99))
    inner, outer = float(high - low), float(np.ptp(values))
    if inner <= 0 or outer < _TELLING * inner:
        return None
    return quantiles.q99[place] - quantiles.q01[place], inner, outer


def _kind(told: Sequence[tuple[float, float, float]], where: str) -> Finding:
    """By the geometric mean over dimensions: are the widths nearer to min..max or to q01..q99."""
    own, inner, outer = (np.exp(np.mean(np.log(np.maximum(column, 1e-12)))) for column in zip(*told, strict=True))
    values: Mapping[str, Any] = {"checkpoint": own, "quantiles": inner, "ends": outer}
    said = f"the checkpoint's ranges are {own / inner:.2f} times the demonstrations' q01..q99, whose min..max are "
    said += f"{outer / inner:.2f} times that"
    if abs(np.log(own / outer)) < abs(np.log(own / inner)):
        cause = "the statistics are minima and maxima where the policy was trained with 1 % and 99 % quantiles"
        fix = "take the normalisation.json that was written with the weights"
        return Finding("statistics", "refused", where, said, cause, fix, dict(values))
    return Finding("statistics", "passed", where, said, values=dict(values))


def _found(protocol: Mapping[str, Any], word: str) -> Any:
    """The value of the first key that holds a word, at any depth."""
    for key, value in protocol.items():
        if word in str(key):
            return value
        if isinstance(value, Mapping) and (inner := _found(value, word)):
            return inner
    return None
