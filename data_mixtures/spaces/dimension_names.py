"""The unified dimensions by name and unit, for tables, plots and warnings; the layout itself is in `unified.py`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM, NumericSpace

Space = Literal["state", "action"]

FINGERS = ("thumb", "index", "middle", "ring", "little")
_AXES = ("x", "y", "z")
_TURNS = ("roll", "pitch", "yaw")


@dataclass(frozen=True)
class DimensionName:
    """One unified dimension in words.

    Attributes:
        space: "state" (46 dimensions) or "action" (44, changes per frame; grippers are absolute in both).
        index: its place in that space.
        group: the quantity it is a part of, as "left arm position"; groups are whole and in order.
        part: what tells it from the others of its group, as "x"; '' for a gripper, which is alone.
        unit: "m", "rad", "" for parts of a unit quaternion, or "0 closed, 1 open".
    """

    space: Space
    index: int
    group: str
    part: str
    unit: str

    def __str__(self) -> str:
        return f"{self.group} {self.part}".rstrip()


def _state_parts() -> Iterator[tuple[str, str, str]]:
    for side in ("left", "right"):
        yield from ((f"{side} arm position", axis, "m") for axis in _AXES)
        yield from ((f"{side} arm quaternion", part, "") for part in ("x", "y", "z", "w"))
        yield f"{side} gripper", "", "0 closed, 1 open"
    for side in ("left", "right"):
        yield from ((f"{side} {finger} tip", axis, "m") for finger in FINGERS for axis in _AXES)


def _action_parts() -> Iterator[tuple[str, str, str]]:
    for side in ("left", "right"):
        yield from ((f"{side} arm translation", axis, "m") for axis in _AXES)
        yield from ((f"{side} arm rotation", turn, "rad") for turn in _TURNS)
        yield f"{side} gripper", "", "0 closed, 1 open"
    for side in ("left", "right"):
        yield from ((f"{side} {finger} tip change", axis, "m") for finger in FINGERS for axis in _AXES)


STATE_NAMES = tuple(DimensionName("state", index, *parts) for index, parts in enumerate(_state_parts()))
ACTION_NAMES = tuple(DimensionName("action", index, *parts) for index, parts in enumerate(_action_parts()))


def dimension_names(part: Space, space: NumericSpace) -> tuple[DimensionName, ...]:
    """The names of all state or action dimensions; a robot's own columns are only numbered."""
    if space == "unified":
        return STATE_NAMES if part == "state" else ACTION_NAMES
    count = STATE_DIM if part == "state" else ACTION_DIM
    return tuple(DimensionName(part, index, f"{part} {index}", "", "as recorded") for index in range(count))
