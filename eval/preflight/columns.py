"""What a raw column is, read from its name and unit: which quantity, a change or a target, which axis, open or closed.

Suites name their columns in the field's words ("delta_x", "axis_angle_z", "joint_3", "gripper_opening") with a unit
("m", "rad", "0.05 m" where a raw 1 stands for 0.05 m, "-1 open, 1 closed"). A robot's description becomes the same
words here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data_mixtures.spaces.arm_columns import Gripper, Position, Rotation
from data_mixtures.spaces.embodiments import Arm, ArmAction, Embodiment
from eval.suite import Column

Quantity = Literal["position", "axis-angle", "euler", "quaternion", "6d", "rotation", "joint", "gripper", "unknown"]
Kind = Literal["delta", "target", ""]

_PARTS = {"x", "y", "z", "w", "roll", "pitch", "yaw"}
_AXES = ("x", "y", "z")
_CHANGES = {"delta", "change", "d", "dx", "dy", "dz", "droll", "dpitch", "dyaw", "displacement"}
_NUMBER = r"[+-]?\d+(?:\.\d+)?"
_METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_RADIANS = {"rad": 1.0, "deg": 0.017453292519943295}


@dataclass(frozen=True)
class Meaning:
    """What one column is.

    Attributes:
        quantity: "rotation" is one whose form is not said; "unknown" what the words do not tell.
        kind: A change or a target; "" where the name does not say, as in states.
        part: The axis, as "x" or "yaw"; "" where there is none.
        metres_or_rad: What a raw 1 stands for; None where the unit does not say.
        open_at: The raw value of an open gripper; None where that is not said.
        closed_at: Of a closed one.
    """

    quantity: Quantity
    kind: Kind = ""
    part: str = ""
    metres_or_rad: float | None = None
    open_at: float | None = None
    closed_at: float | None = None


def meaning(column: Column) -> Meaning:
    """Read a column's name and unit."""
    words = [word for word in re.split(r"[^a-z0-9]+", column.name.lower()) if word]
    quantity, part = _quantity(words), _part(words)
    kind: Kind = "delta" if _CHANGES & set(words) else "target" if {"target", "absolute"} & set(words) else ""
    if quantity != "gripper":
        return Meaning(quantity, kind, part, _factor(column.unit))
    if "opening" in words:
        open_at, closed_at = column.high, column.low
    elif {"closing", "closedness"} & set(words):
        open_at, closed_at = column.low, column.high
    else:
        text = f"{column.name} {column.unit}".lower()
        open_at, closed_at = _at(text, "open"), _at(text, "clos")
    return Meaning(quantity, kind, part, _factor(column.unit), open_at, closed_at)


def _quantity(words: Sequence[str]) -> Quantity:
    there = set(words)
    if there & {"gripper", "finger", "fingers"}:
        return "gripper"
    if there & {"joint", "joints", "qpos", "qvel"}:
        return "joint"
    if {"axis", "angle"} <= there or there & {"axisangle", "rotvec"}:
        return "axis-angle"
    if any(word.startswith("quat") for word in there):
        return "quaternion"
    if there & {"6d", "rot6d"}:
        return "6d"
    if any(word.startswith("euler") for word in there) or there & {"roll", "pitch", "yaw", "droll", "dpitch", "dyaw"}:
        return "euler"
    if there & {"rotation", "rot", "orientation"}:
        return "rotation"
    if there & {"position", "pos", "translation", "xyz", "x", "y", "z", "dx", "dy", "dz", "displacement"}:
        return "position"
    return "unknown"


def _part(words: Sequence[str]) -> str:
    for word in reversed(words):
        if word in _PARTS or word.isdigit():
            return word
        if word.startswith("d") and word[1:] in _PARTS:
            return word[1:]
    return ""


def _factor(unit: str) -> float | None:
    """From "0.05 m" 0.05, from "deg" 0.01745; None for "1" and for what is no length or angle."""
    match = re.fullmatch(rf"\s*({_NUMBER})?\s*([a-z]+)\s*", unit.lower())
    if match is None:
        return None
    size = (_METRES | _RADIANS).get(match[2])
    return None if size is None else float(match[1] or 1) * size


def _at(text: str, word: str) -> float | None:
    """The number that stands before a word, as in "-1 open", or after it, as in "open -1"."""
    before = re.search(rf"({_NUMBER})\s*(?:is|=|:)?\s*{word}", text)
    after = re.search(rf"{word}\w*\s*(?:is|at|=|:)?\s*({_NUMBER})", text)
    found = before or after
    return float(found[1]) if found else None


def state_columns(robot: Embodiment) -> dict[int, Column]:
    """The places of the raw state that a robot's description reads, in the words above; none of recorded columns."""
    arms = [] if robot.recorded else list(robot.arms.values())
    return {place: column for arm in arms for place, column in _columns(arm, "").items()}


def action_columns(robot: Embodiment) -> dict[int, Column]:
    """Likewise of the raw action; without a pose in the description (`from_state`) only its gripper."""
    low, high = robot.action_range or (float("-inf"), float("inf"))
    found: dict[int, Column] = {}
    for arm in [] if robot.recorded else robot.arms.values():
        kind = {"delta": "delta ", "absolute": "target ", "from_state": ""}[arm.action.kind]
        for place, column in _columns(arm.action, kind).items():
            found[place] = Column(column.name, column.unit, low, high)
    return found


def _columns(owner: Arm | ArmAction, kind: str) -> dict[int, Column]:
    found: dict[int, Column] = {}
    for part in (owner.position, owner.rotation, owner.gripper):
        if part is not None and part.column is None:
            found |= _part_columns(part, kind)
    return found


def _part_columns(part: Position | Rotation | Gripper, kind: str) -> dict[int, Column]:
    infinite = float("inf")
    if isinstance(part, Gripper):
        low, high = sorted((part.open, part.closed))
        return {part.index or 0: Column("gripper", f"{part.open:g} open, {part.closed:g} closed", low, high)}
    unit = part.unit if part.scale == 1 else f"{part.scale:g} {part.unit}"
    if isinstance(part, Position):
        places = enumerate(part.indices or [])
        return {
            at: Column(f"{kind}position {_AXES[i]}", unit, -infinite, infinite) for i, at in places if at is not None
        }
    names = _rotation_names(part)
    unit = unit if len(names) == 3 else "1"
    return {
        at: Column(f"{kind}{name}", unit, -infinite, infinite)
        for at, name in zip(part.indices or [], names, strict=True)
    }


def _rotation_names(part: Rotation) -> list[str]:
    if part.form == "axis_angle":
        return [f"axis-angle {axis}" for axis in _AXES]
    if part.form.startswith("euler_"):
        order = part.form.removeprefix("euler_").lower()
        return [f"{part.form} {['roll', 'pitch', 'yaw']['xyz'.index(axis)]}" for axis in order]
    if part.form.startswith("quaternion_"):
        return [f"{part.form} {axis}" for axis in part.form.removeprefix("quaternion_")]
    return [f"{part.form} {place}" for place in range(part.width)]
