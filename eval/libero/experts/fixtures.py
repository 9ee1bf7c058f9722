"""Skills on what stays in its place: knobs, drawers, doors, and plates that are pushed rather than picked."""

import numpy as np

from eval.libero.experts.moves import Move, about, downward
from eval.libero.experts.names import thing_text
from eval.libero.experts.scene import Array, Scene
from eval.libero.experts.skills import CLOSE_STEPS, OPEN_STEPS, Firm, Moves, above, stay

_BELOW_BLADE_TOP_M = 0.008
_ON_RAD = 0.7  # a stove is on from 0.5

# Pushing: half the closed fingers' depth, how high they are carried, how far the hand leans, and when it is there.
_FINGER_DEPTH_M, _PUSH_HEIGHT_M, _LEAN_RAD = 0.012, 0.021, 0.35
_PUSH_STEPS, _ON_SPOT_M = 60, 0.008

# The hand's tilt from pointing down when it takes a handle, and when a drawer counts as open (it does from 0.14).
_TILT_RAD, _BEFORE_HANDLE_M = 1.5, 0.06
_OPEN_M, _PULL_STEPS = 0.148, 60


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


def push(scene: Scene, name: str, spot: Array, text: str) -> Moves:
    """Push a round, flat thing over the table until its body is at `spot`: first along y, then along x.

    The hand leans forward, so that it also finds room between the thing and a cabinet behind it.
    """
    corner = np.array([scene.position(name)[0], spot[1], 0.0])
    for end in (corner, spot):
        yield from _push_straight(scene, name, end, text)
    up = above(scene.hand_position, 0.07)
    yield Move(f"leave {thing_text(name)}", up, scene.hand_rotation, "close", near=0.03)


def _push_straight(scene: Scene, name: str, end: Array, text: str) -> Moves:
    reach, act = f"reach behind {thing_text(name)}", f"push {thing_text(name)} {text}"
    way = _direction(scene.position(name), end)
    rotation = _leaning(scene, way)
    upright = downward(rotation[:, 0])
    points = scene.points(name)
    behind = float((scene.position(name) @ way) - (points @ way).min()) + _FINGER_DEPTH_M
    height = points[:, 2].min() + _PUSH_HEIGHT_M
    start = scene.position(name) - (behind + 0.006) * way
    yield Move(reach, np.array([*start[:2], height + 0.08]), rotation, "close", near=0.025)
    yield Move(reach, np.array([*start[:2], height]), rotation, "close", near=0.01, max_steps=40)
    for _ in range(_PUSH_STEPS):
        left = (end - scene.position(name)) @ way
        if left < _ON_SPOT_M:
            return
        steer = _direction(scene.position(name), end)
        goal = scene.position(name) + (min(left, 0.03) - behind) * steer
        yield Move(act, np.array([*goal[:2], height]), upright, "close", near=0.0, max_steps=1)


def _leaning(scene: Scene, way: Array) -> Array:
    """Rotation of a hand whose fingers point down and back against `way`, closed across it."""
    across = np.cross([0.0, 0.0, 1.0], way)
    across = across if across @ scene.hand_rotation[:, 0] > 0 else -across
    into = -np.sin(_LEAN_RAD) * way - np.cos(_LEAN_RAD) * np.array([0.0, 0.0, 1.0])
    return np.stack([across, np.cross(into, across), into], axis=1)


def _direction(start: Array, end: Array) -> Array:
    """Unit vector [3] from start to end over the table."""
    flat = np.array([*(end - start)[:2], 0.0])
    return flat / max(float(np.linalg.norm(flat)), 1e-9)


def open_drawer(scene: Scene, region: str) -> Moves:
    """Pull a drawer out by its handle, taken from the front with the hand tilted."""
    joint = scene.joints_of(region)[0]
    drawer = _drawer_text(region)
    out, handle = _handle(scene, region)
    bar = np.cross([0.0, 0.0, 1.0], out)
    into = -np.sin(_TILT_RAD) * out + np.cos(_TILT_RAD) * np.array([0.0, 0.0, -1.0])
    closing = np.cross(into, bar)
    closing = closing if closing @ scene.hand_rotation[:, 0] > 0 else -closing
    rotation = np.stack([closing, np.cross(into, closing), into], axis=1)
    reach, pull = f"reach for the handle of {drawer}", f"pull {drawer} open"
    front = handle - _BEFORE_HANDLE_M * into
    yield Move(reach, above(front, 0.05), rotation, "open", near=0.03, turned=0.3)
    yield Move(reach, front, rotation, "open", near=0.015, turned=0.1, max_steps=40)
    yield Move(reach, handle, rotation, "open", near=0.008, turned=0.1, max_steps=30)
    yield Move(reach, handle, rotation, "close", until=Firm(scene.owner(region)), max_steps=CLOSE_STEPS)
    for _ in range(_PULL_STEPS):
        if abs(scene.joint(joint)) > _OPEN_M:
            break
        goal = scene.hand_position + 0.04 * out
        goal[2] = handle[2]
        yield Move(pull, goal, rotation, "close", near=0.0, max_steps=1)
    let_go = f"let go of {drawer}"
    yield stay(scene, let_go, "open", OPEN_STEPS)
    yield Move(let_go, scene.hand_position + 0.06 * out, rotation, "open", near=0.02)
    yield Move(let_go, above(scene.hand_position, 0.12), rotation, "open", near=0.03)


def close_drawer(scene: Scene, region: str) -> Moves:
    """Push a drawer in with the closed fingers against its handle."""
    drawer = _drawer_text(region)
    out, handle = _handle(scene, region)
    rotation = downward(np.cross([0.0, 0.0, 1.0], out))
    rotation = rotation if rotation[:, 0] @ scene.hand_rotation[:, 0] > 0 else downward(-rotation[:, 0])
    reach, act = f"reach in front of {drawer}", f"push {drawer} shut"
    front = handle + 0.05 * out
    yield Move(reach, above(scene.hand_position, 0.03), scene.hand_rotation, "close", near=0.03)
    yield Move(reach, np.array([*front[:2], scene.hand_position[2]]), rotation, "close", near=0.03)
    yield Move(reach, front, rotation, "close", near=0.015, max_steps=50)
    for _ in range(_PULL_STEPS):
        if scene.holds(("close", region)):
            break
        goal = scene.hand_position - 0.05 * out
        goal[2] = front[2]
        yield Move(act, goal, rotation, "close", near=0.0, max_steps=1)
    yield Move(f"let go of {drawer}", scene.hand_position + 0.05 * out, rotation, "close", near=0.02)


def _drawer_text(region: str) -> str:
    level = next(level for level in ("top", "middle", "bottom") if f"_{level}_" in region)
    return f"the {level} drawer"


def _handle(scene: Scene, region: str) -> tuple[Array, Array]:
    """The direction [3] a drawer comes out in, and the middle of its handle's bar [3]."""
    joint = scene.joints_of(region)[0]
    _, axis = scene.joint_axis(joint)
    out = axis * scene.joint_way(joint)
    boxes = scene.boxes(scene.owner(region), scene.body_of_joint(joint))
    bar = max(boxes, key=lambda box: float((box @ out).max()))
    return out, (bar.max(axis=0) + bar.min(axis=0)) / 2
