"""Skills as phase machines: each yields one move after another, and reads the scene again in between."""

from collections.abc import Iterator

import numpy as np

from eval.libero.experts.grasps import Grasp, grasps
from eval.libero.experts.moves import Gripper, Move, downward
from eval.libero.experts.names import thing_text
from eval.libero.experts.scene import Array, Scene

_HOVER_M = 0.08
"""Above a grasp, where the hand lines up before it goes down."""

_CARRY_CLEARANCE_M = 0.03
_PATH_RADIUS_M = 0.10
_DROP_M = 0.008
# What must be free above an object (from its top) and above the grip site before they are lifted, and how far around.
_OVERHEAD_M, _OVER_HAND_M = (0.02, 0.05, 0.08), (0.1, 0.15, 0.2)
_OBJECT_ROOM_M, _HAND_ROOM_M = 0.01, 0.06
CLOSE_STEPS = 18  # from wide open to a bowl's rim it takes 13
_FIRM_STEPS = 2
OPEN_STEPS = 4

Moves = Iterator[Move]


def above(position: Array, height: float) -> Array:
    """`position` raised by `height` m."""
    return position + np.array([0.0, 0.0, height])


def stay(scene: Scene, text: str, gripper: Gripper, steps: int) -> Move:
    """Hold the hand where it is."""
    return Move(text, scene.hand_position, scene.hand_rotation, gripper, min_steps=steps, max_steps=steps)


def pick(scene: Scene, name: str, first_grasp: int = 0, narrow: Array | None = None) -> Moves:
    """Take hold of an object and lift it; the next grasp is tried when it is not held then.

    `narrow` is where its top will be let go [3], if there is little room.
    """
    tried = grasps(scene, name, narrow)
    for grasp in tried[first_grasp:] + tried[:first_grasp]:
        yield from _take(scene, name, grasp)
        if scene.is_held(name):
            return
        yield Move(f"let go of {thing_text(name)}", above(scene.hand_position, 0.05), scene.hand_rotation, "open")


def _take(scene: Scene, name: str, grasp: Grasp) -> Moves:
    reach, take = f"reach for {thing_text(name)}", f"grasp {thing_text(name)}"
    hover = above(grasp.position, _HOVER_M)
    hover[2] = max(hover[2], _safe_height(scene, scene.hand_position, hover, [name]))
    yield Move(reach, hover, grasp.rotation, "open", near=0.025)
    yield Move(reach, grasp.position, grasp.rotation, "open", near=0.006, turned=0.08, max_steps=40)
    yield Move(take, grasp.position, grasp.rotation, "close", until=Firm(name), max_steps=CLOSE_STEPS)
    lift, aside = f"lift {thing_text(name)}", _way_out(scene, name)
    if aside.any():
        out = scene.hand_position + aside + np.array([0.0, 0.0, 0.008])
        yield Move(lift, out, grasp.rotation, "close", near=0.015, speed=0.7)
    yield Move(lift, above(scene.hand_position, 0.06), grasp.rotation, "close", near=0.025)


def _way_out(scene: Scene, name: str) -> Array:
    """The shortest move over the table [3] after which nothing hangs over an object and the hand: often none at all."""
    if not _overhung(scene, name, np.zeros(3)):
        return np.zeros(3)
    ways = [np.array([np.cos(a), np.sin(a), 0.0]) for a in np.arange(0.0, 2 * np.pi, np.pi / 4)]
    tried = [step * way for step in np.arange(0.02, 0.16, 0.02) for way in ways]
    return next((move for move in tried if not _overhung(scene, name, move)), np.zeros(3))


def _overhung(scene: Scene, name: str, move: Array) -> bool:
    """Whether an object and the hand, moved so, would hit something within 10 cm when they are lifted."""
    points = scene.points(name)
    top = points[:, 2].max()
    outline = points[points[:, 2] > top - 0.01, :2]
    column = [np.array([*point, top + up]) for point in outline[:: max(1, len(outline) // 16)] for up in _OVERHEAD_M]
    hand = [above(scene.hand_position, up) for up in _OVER_HAND_M]
    room = np.array([_OBJECT_ROOM_M] * len(column) + [_HAND_ROOM_M] * len(hand))
    return bool((scene.clearance(np.array([*column, *hand]) + move, ignoring=[name]) < room).any())


class Firm:
    """True once both fingers have touched a thing for some steps."""

    def __init__(self, name: str) -> None:
        self._name, self._steps = name, 0

    def __call__(self, scene: Scene) -> bool:
        """Call once a step."""
        self._steps = self._steps + 1 if scene.is_held(self._name) else 0
        return self._steps > _FIRM_STEPS


def _safe_height(scene: Scene, start: Array, end: Array, ignoring: list[str]) -> float:
    """Height of the grip site at which nothing on the way is hit."""
    return scene.height_along(start, end, _PATH_RADIUS_M, ignoring) + _CARRY_CLEARANCE_M


def place(scene: Scene, name: str, spot: Array, text: str, ignoring: list[str], drop: float = _DROP_M) -> Moves:
    """Carry what is held until its body is above `spot` [3], set its bottom down `drop` m above it, and let go.

    The offset between object and hand is measured now, after lifting: grasps slip.
    """
    carry = f"carry {thing_text(name)} {text}"
    hand, rotation = scene.hand_position, scene.hand_rotation
    offset = hand - scene.position(name)
    bottom = hand[2] - scene.points(name)[:, 2].min()
    over = spot + np.array([*offset[:2], bottom + drop])
    travel = max(scene.height_along(hand, over, _PATH_RADIUS_M, [name, *ignoring]), spot[2]) + bottom
    travel = max(travel + _CARRY_CLEARANCE_M, over[2] + 0.03)
    level = downward(rotation[:2, 0])
    if travel > hand[2] + 0.02:
        yield Move(carry, np.array([*hand[:2], travel]), level, "close", near=0.03)
    yield Move(carry, np.array([*over[:2], travel]), level, "close", near=0.015)
    offset = scene.hand_position - scene.position(name)
    over[:2] = spot[:2] + offset[:2]
    yield Move(carry, over, level, "close", near=0.008, max_steps=40, speed=0.7)
    release = f"put {thing_text(name)} {text}"
    yield stay(scene, release, "open", OPEN_STEPS)
    yield Move(release, above(scene.hand_position, 0.08), level, "open", near=0.03)
