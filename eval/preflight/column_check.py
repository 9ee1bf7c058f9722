"""Are the numbers a policy takes and gives the numbers the suite means: place by place, by name and unit."""

from collections.abc import Iterator, Mapping, Sequence
from math import isclose, isfinite

from data_mixtures.spaces.embodiments import Embodiment
from eval.preflight.checkpoint import Checkpoint
from eval.preflight.columns import Meaning, action_columns, meaning, state_columns
from eval.preflight.findings import Finding
from eval.suite import Column, Suite

_SAME = 0.02  # relative difference of two scales that are the same
_WORDS = {"delta": "a change for each step", "target": "a target", "": "unsaid"}


def check_columns(suite: Suite, checkpoint: Checkpoint) -> list[Finding]:
    """Compare the suite's columns with those of the policy's robot."""
    robot = checkpoint.robot
    if robot is None:
        return [
            Finding(
                "actions",
                "refused",
                "robot",
                "the checkpoint was trained on several robots and speaks the unified spaces, not this suite's columns",
                "a mixture of robots",
                "name the suite's robot where the policy is loaded",
            )
        ]
    if robot.recorded is not None:
        widths = (("state", len(robot.recorded.state or []), suite.state), ("action", robot.action_width, suite.action))
        return [_same_width(side, width, columns) for side, width, columns in widths]
    found = [*_not_commands(checkpoint.robot)] if checkpoint.robot else []
    for side, wanted, known, columns in (
        ("state", robot.state_width, state_columns(robot), suite.state),
        ("action", robot.action_width, action_columns(robot), suite.action),
    ):
        found += _compare(side, wanted, known, columns)
    return found


def _not_commands(robot: Embodiment) -> Iterator[Finding]:
    """Actions that are differences between recorded frames cannot be turned back into what the robot was told."""
    kinds = {arm.action.kind for arm in robot.arms.values()} - {"delta"}
    if kinds:
        words = (
            f"the actions of the policy's robot {robot.robot_type!r} are {sorted(kinds)}: differences between frames"
        )
        cause = "it was trained on what the robot did, not on what it was told"
        fix = "train on the commands (an embodiment whose action is `kind: delta`), which the simulator takes"
        yield Finding("actions", "refused", "action", words, cause, fix)


def _same_width(side: str, width: int, columns: Sequence[Column]) -> Finding:
    words = f"the suite has {len(columns)} numbers, the checkpoint's robot {width}"
    if width != len(columns):
        return Finding(
            "actions", "refused", side, words, "another robot or control mode", "evaluate on the suite trained for"
        )
    return Finding("actions", "passed", side, f"{words}; taken as recorded, so only the width can be compared")


def _compare(side: str, wanted: int, known: Mapping[int, Column], columns: Sequence[Column]) -> list[Finding]:
    """One finding for every place that differs, or one that says how many agree."""
    if wanted != len(columns):
        words = f"the suite has {len(columns)} numbers {_names(columns)}, the policy's robot {wanted} {_names(known)}"
        cause = "another robot or control mode" if side == "action" else "the state is not sent, or only a part of it"
        return [Finding("actions", "refused", side, words, cause, "name the robot that the suite drives")]
    found = [
        finding
        for place, column in sorted(known.items())
        if (finding := _difference(side, place, columns[place], column)) is not None
    ]
    agreeing = len(known) - sum(finding.verdict == "refused" for finding in found)
    if agreeing == len(known):
        found.append(Finding("actions", "passed", side, f"all {agreeing} columns mean what the policy's robot means"))
    return found


def _names(columns: Sequence[Column] | Mapping[int, Column]) -> str:
    values = columns.values() if isinstance(columns, Mapping) else columns
    return "(" + ", ".join(column.name for column in values) + ")"


def _difference(side: str, place: int, there: Column, here: Column) -> Finding | None:
    """What differs between the suite's column and the policy's at one place; None if nothing does."""
    suite, policy = meaning(there), meaning(here)
    where = f"{side} {place}, {there.name} ({there.unit})"
    if suite.quantity in ("unknown", "rotation") and suite.quantity != policy.quantity:
        words = f"the suite's column is called {there.name!r}, which does not say what the policy's {here.name!r} is"
        return Finding("actions", "not checked", where, words)
    for words, cause, fix in _faults(suite, policy, there, here):
        return Finding("actions", "refused", where, words, cause, fix, {"suite": str(there), "policy": str(here)})
    if policy.quantity == "gripper" and side == "action" and suite.open_at is None:
        return Finding("actions", "not checked", where, "the suite does not say which value opens; see the replay")
    return None


def _faults(suite: Meaning, policy: Meaning, there: Column, here: Column) -> list[tuple[str, str, str]]:
    """(what, cause, fix) of each way in which two columns of one place do not mean the same, the gravest first."""
    both = f"the suite means {there.name!r} in {there.unit!r}, the policy {here.name!r} in {here.unit!r}"
    faults: list[tuple[str, str, str]] = []
    if (suite.quantity == "joint") != (policy.quantity == "joint"):
        faults.append((both, "joint and end-effector control mixed up", "use the suite's own control mode"))
    elif suite.quantity != policy.quantity:
        cause = "one rotation form is taken for another" if _is_rotation(suite) and _is_rotation(policy) else ""
        faults.append((both, cause or "columns in another order", "describe the robot's columns as the suite has them"))
    elif suite.kind and policy.kind and suite.kind != policy.kind:
        words = f"{both}: {_WORDS[suite.kind]} against {_WORDS[policy.kind]}"
        faults.append((words, "delta and absolute actions mixed up", "train on, or evaluate with, the same kind"))
    elif suite.part and policy.part and suite.part != policy.part and suite.quantity != "gripper":
        order = "quaternion order (wxyz or xyzw)" if suite.quantity == "quaternion" else "order of the axes"
        faults.append((both, f"another {order}", "give `indices` in the suite's order"))
    elif suite.quantity == "gripper":
        faults += _gripper_faults(suite, policy, there)
    elif suite.metres_or_rad and policy.metres_or_rad and not _near(suite.metres_or_rad, policy.metres_or_rad):
        factor = policy.metres_or_rad / suite.metres_or_rad
        faults.append((f"{both}: {factor:g} times as much", "another unit or scale", "correct `unit` or `scale`"))
    return faults


def _gripper_faults(suite: Meaning, policy: Meaning, there: Column) -> list[tuple[str, str, str]]:
    if policy.open_at is None or policy.closed_at is None:
        return []
    said = f"the policy's robot is open at {policy.open_at:g} and closed at {policy.closed_at:g}"
    if suite.open_at is not None and suite.closed_at is not None:
        theirs = f"the suite's gripper is open at {suite.open_at:g} and closed at {suite.closed_at:g}, {said}"
        if (suite.open_at > suite.closed_at) != (policy.open_at > policy.closed_at):
            return [(theirs, "gripper polarity is flipped", "swap `open` and `closed` of the robot's gripper")]
        span = abs(suite.open_at - suite.closed_at)
        if max(abs(suite.open_at - policy.open_at), abs(suite.closed_at - policy.closed_at)) > 0.05 * span:
            return [(theirs, "gripper range", "take `open` and `closed` from the joint's limits")]
        return []
    low, high = sorted((policy.open_at, policy.closed_at))
    span = high - low
    if not (isfinite(there.low) and isfinite(there.high)):
        return []
    if abs(there.low - low) > 0.05 * span or abs(there.high - high) > 0.05 * span:
        words = f"the suite's gripper goes from {there.low:g} to {there.high:g}, {said}"
        return [(words, "gripper range", "take `open` and `closed` from the joint's limits")]
    return []


def _is_rotation(one: Meaning) -> bool:
    return one.quantity in ("axis-angle", "euler", "quaternion", "6d")


def _near(one: float, other: float) -> bool:
    return isclose(one, other, rel_tol=_SAME)
