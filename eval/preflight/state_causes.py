"""What could have happened to a state on its way: every change that is undone here, and fits afterwards, is a cause."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_mixtures.spaces.rotations import (
    antipodal_axis_angle,
    axis_angle_from_matrix,
    euler_from_matrix,
    matrix_from_axis_angle,
    matrix_from_euler,
    matrix_from_xyzw,
    xyzw_from_matrix,
)
from eval.preflight.columns import Quantity, meaning
from eval.suite import Column

Cause = tuple[str, str, np.ndarray]
_QUARTER = np.pi / 2


@dataclass(frozen=True)
class Group:
    """Columns that belong together: three of a position, three or four of a rotation, a gripper's."""

    quantity: Quantity
    places: tuple[int, ...]


def groups(columns: Sequence[Column]) -> list[Group]:
    """Neighbouring columns of the same quantity."""
    found: list[Group] = []
    for place, column in enumerate(columns):
        quantity = meaning(column).quantity
        if found and found[-1].quantity == quantity and found[-1].places[-1] == place - 1:
            found[-1] = Group(quantity, (*found[-1].places, place))
        else:
            found.append(Group(quantity, (place,)))
    return found


def causes(group: Group, states: np.ndarray, centre: np.ndarray | None) -> Iterator[Cause]:
    """(cause, fix, states [n, d] with that undone) of everything that could have befallen one group of columns.

    Args:
        group: The columns.
        states: [n, d], raw.
        centre: The middle of what the checkpoint saw in these columns, or what each state should be [n, k]; None where
            that is not known in their units.
    """
    places = list(group.places)
    own = states[:, places].astype(np.float64)
    if group.quantity == "position" and len(places) == 3:
        changes = _of_position(own, centre)
    elif group.quantity in ("axis-angle", "rotation", "euler") and len(places) == 3:
        changes = _of_three_angles(own, centre)
    elif group.quantity in ("quaternion", "rotation") and len(places) == 4:
        changes = _of_quaternion(own)
    elif group.quantity == "gripper":
        changes = _of_gripper(own)
    else:
        return
    for cause, fix, changed in changes:
        whole = states.astype(np.float64)
        whole[:, places] = changed
        yield cause, fix, whole.astype(np.float32)


def _of_position(own: np.ndarray, centre: np.ndarray | None) -> Iterator[Cause]:
    for factor, unit in ((0.001, "millimetres"), (0.01, "centimetres")):
        yield f"positions come in {unit}", "give metres, or set `unit`", own * factor
        yield f"positions were trained on in {unit}", "give what the checkpoint was trained on", own / factor
    order = "give the axes in the checkpoint's order and directions"
    yield "x and y are swapped", order, own[:, [1, 0, 2]]
    yield "x and y have the opposite sign (a base turned by 180 degrees)", order, own * [-1, -1, 1]
    yield "a base turned by 90 degrees", order, own[:, [1, 0, 2]] * [1, -1, 1]
    yield "a base turned by -90 degrees", order, own[:, [1, 0, 2]] * [-1, 1, 1]
    if centre is not None:
        shift = np.median(centre - own, axis=0)
        words = ", ".join(f"{-value:+.3f}" for value in shift)
        yield (
            f"another origin, {words} m away: the world's in place of the robot's base, or another point of the hand",
            "compute the end effector's pose in the base frame that the checkpoint's data has",
            own + shift,
        )


def _of_three_angles(own: np.ndarray, centre: np.ndarray | None) -> Iterator[Cause]:
    name = "convert with the function of data_mixtures/spaces/rotations.py that is named for the convention"
    yield (
        "a quaternion's sign was flipped before it became axis-angle (robosuite does not do that)",
        f"{name}: robosuite_axis_angle_from_xyzw",
        _either_way(own, centre),
    )
    from_euler = axis_angle_from_matrix(matrix_from_euler(own))
    yield "Euler angles are sent where axis-angle was trained on", name, _either_way(from_euler, centre)
    yield "axis-angle is sent where Euler angles were trained on", name, euler_from_matrix(matrix_from_axis_angle(own))
    yield "degrees are sent where radians were trained on", "give radians, or set `unit`", np.deg2rad(own)
    yield "radians are sent where degrees were trained on", "give degrees, or set `unit`", np.rad2deg(own)
    for words, turned in _turned(matrix_from_axis_angle(own)):
        yield (*words, _either_way(axis_angle_from_matrix(turned), centre))


def _either_way(vectors: np.ndarray, centre: np.ndarray | None) -> np.ndarray:
    """The same rotations, each the way round that lies nearer to the checkpoint's; the other one if that is unknown."""
    others = antipodal_axis_angle(vectors)
    if centre is None:
        return others
    nearer = np.linalg.norm(others - centre, axis=1) < np.linalg.norm(vectors - centre, axis=1)
    return np.where(nearer[:, None], others, vectors)


def _of_quaternion(own: np.ndarray) -> Iterator[Cause]:
    order = "give quaternions in the order their column names say: use xyzw_from_wxyz"
    yield "the quaternion comes as wxyz where xyzw was trained on", order, np.roll(own, -1, axis=1)
    yield "the quaternion comes as xyzw where wxyz was trained on", order, np.roll(own, 1, axis=1)
    yield "the quaternion has the opposite sign", "keep the sign the data set has", -own
    yield "the quaternion is inverted (base to hand)", "give the hand's rotation in the base", own * [-1, -1, -1, 1]
    for words, turned in _turned(matrix_from_xyzw(own)):
        yield (*words, xyzw_from_matrix(turned))


def _turned(matrices: np.ndarray) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """The hand's rotation if it were that of a frame turned against it."""
    fix = "take the orientation from the source that the data set was recorded from (LIBERO has two, 90 degrees apart)"
    for index, axis in enumerate("xyz"):
        for turns in (1, -1, 2):
            quarter = np.zeros(3)
            quarter[index] = turns * _QUARTER
            turn = matrix_from_axis_angle(quarter)
            angle = -90 * turns if turns != 2 else 180
            words = f"the orientation is from another source, turned by {angle} degrees about the hand's {axis}"
            yield (words, fix), matrices @ turn


def _of_gripper(own: np.ndarray) -> Iterator[Cause]:
    yield "the gripper's polarity is flipped", "swap open and closed, once: two flips cancel", 1 - own
    yield "the gripper's sign is flipped", "swap open and closed, once: two flips cancel", -own
    low, high = own.min(), own.max()
    yield "the gripper's polarity is flipped", "swap open and closed, once: two flips cancel", low + high - own
    for width in (0.04, 0.08, 0.037):
        words = "the gripper comes as a joint's position in metres where 0 to 1 was trained on"
        yield words, "read the joint's limits and scale to 0 (closed) .. 1 (open)", own / width
        words = "the gripper comes as 0 to 1 where a joint's position in metres was trained on"
        yield words, "give the joint's position in metres", own * width
    words = "the WidowX gripper's range is [0.015, 0.037] m, not [0, 0.037]"
    fix = "read the joint's limits and scale to 0 (closed) .. 1 (open)"
    yield words, fix, (own * 0.037 - 0.015) / 0.022
    yield words, fix, (own * 0.022 + 0.015) / 0.037
