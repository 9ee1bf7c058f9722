"""Skills on what stays in its place: knobs, drawers, doors, and plates that are pushed rather than picked."""

import numpy as np

from eval.libero.experts.moves import Move, about, downward
from eval.libero.experts.names import thing_text
from eval.libero.experts.scene import Array, Scene
from eval.libero.experts.skills import CLOSE_STEPS, OPEN_STEPS, Firm, Moves, above, stay

_BELOW_BLADE_TOP_M = 0.008
_ON_RAD = 0.7  # a stove is on from 0.5

# Where a plate's rim is taken, how long it is dragged at most, and when it is there.
_INSIDE_RIM_M, _OVER_RIM_M = 0.006, 0.006
_DRAG_STEPS, _ON_SPOT_M = 60, 0.01


def turn_knob(scene: Scene, name: str) -> Moves:
    """Turn a stove's knob on: take its blade between the fingers and turn the hand about the knob's axis."""
    joint = scene.joints_of(name)[0]
    anchor, axis = scene.joint_axis(joint)
    blade = max(scene.boxes(name, scene.body_of_joint(joint)), key=lambda box: float(box[:, 2].max()))
    along = _horizontal_length(blade)
    across = np.array([-along[1], along[0], 0.0])
    rotation = downward(across if across @ scene.hand_rotation[:, 0] > 0 else -across)
    grip = np.array([*anchor[:2], blade[:, 2].max() - _BELOW_BLADE_TOP_M])
    reach, turn = "reach for the knob of the stove", "turn the knob of the stove"
    yield Move(reach, above(grip, 0.06), rotation, "open", near=0.025)
    yield Move(reach, grip, rotation, "open", near=0.008, max_steps=30)
    yield Move(turn, grip, rotation, "close", until=Firm(name), max_steps=CLOSE_STEPS)
    for angle in (0.5, 1.0, 1.5):
        turned = about(axis, angle) @ rotation
        yield Move(turn, grip, turned, "close", turned=0.15, until=lambda now: now.joint(joint) > _ON_RAD, max_steps=12)
    yield stay(scene, "let go of the knob", "open", OPEN_STEPS)
    yield Move("let go of the knob", above(scene.hand_position, 0.06), scene.hand_rotation, "open", near=0.03)


def _horizontal_length(box: Array) -> Array:
    """Unit vector [3] along the longer horizontal edge of a box."""
    edges = [box[4] - box[0], box[2] - box[0], box[1] - box[0]]
    flat = [np.array([*edge[:2], 0.0]) for edge in edges]
    longest = max(flat, key=lambda edge: float(np.linalg.norm(edge)))
    return longest / np.linalg.norm(longest)


def drag(scene: Scene, name: str, spot: Array, text: str) -> Moves:
    """Move a plate over the table, held by its rim on the side it is to go to, until its body is at `spot`."""
    reach, act = f"reach for {thing_text(name)}", f"push {thing_text(name)} {text}"
    way = _direction(scene.position(name), spot)
    points = scene.points(name)
    radius = float((points @ way).max() - scene.position(name) @ way)
    rim = scene.position(name) + (radius - _INSIDE_RIM_M) * way
    rim[2] = points[:, 2].max() + _OVER_RIM_M
    rotation = downward(way if way @ scene.hand_rotation[:, 0] > 0 else -way)
    yield Move(reach, above(rim, 0.07), rotation, "open", near=0.025)
    yield Move(reach, rim, rotation, "open", near=0.008, max_steps=30)
    yield Move(reach, rim, rotation, "close", until=Firm(name), max_steps=CLOSE_STEPS)
    for _ in range(_DRAG_STEPS):
        left = (spot - scene.position(name))[:2]
        if np.linalg.norm(left) < _ON_SPOT_M:
            break
        goal = scene.hand_position + np.array([*left, 0.0])
        goal[2] = rim[2]
        yield Move(act, goal, rotation, "close", near=0.0, max_steps=1)
    yield stay(scene, f"let go of {thing_text(name)}", "open", OPEN_STEPS)
    yield Move(f"let go of {thing_text(name)}", above(scene.hand_position, 0.07), rotation, "open", near=0.03)


def _direction(start: Array, end: Array) -> Array:
    """Unit vector [3] from start to end over the table."""
    flat = np.array([*(end - start)[:2], 0.0])
    return flat / max(float(np.linalg.norm(flat)), 1e-9)


def pull_drawer(scene: Scene, region: str, opened: bool) -> Moves:
    """Open or close the drawer of a cabinet by its handle."""
    joint = scene.joints_of(region)[0]
    _, slide = scene.joint_axis(joint)
    raise NotImplementedError(f"{region} {opened} {joint} {slide}")
    yield  # pragma: no cover
