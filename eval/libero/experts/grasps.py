"""Where to take hold of a thing: poses read off its collision shapes, best first."""

from dataclasses import dataclass

import numpy as np

from eval.libero.experts.moves import downward
from eval.libero.experts.scene import Array, Scene

NUM_VARIANTS = 5
"""Grasps tried for one object before it is given up."""

# The grip site goes this far above an object's bottom at least, and at most this far below its top.
_ABOVE_BOTTOM_M, _BELOW_TOP_M = 0.012, 0.035
# Where a thing is too wide there: how far below its top else, and how far below the grip site fingers reach.
_TRIED_BELOW_TOP_M, _FINGER_REACH_M = (0.02, 0.01, 0.0), 0.016
# Vessels are held by the rim: the grip site this far inside of it and below it.
_INSIDE_RIM_M, _BELOW_RIM_M = 0.006, 0.022
# Widest thing the fingers go around, with room to spare (they open to 0.08).
_WIDEST_M = 0.07
# What a quarter turn of the hand costs against a narrower grasp: round things are not turned for.
_QUARTER_TURN_M = 0.01
_FINGER_ROOM_M = 0.035
# The hand above the fingers: how far above (m), points along its width, and half its thickness with room to spare.
_HAND_ABOVE_M, _HAND_M, _HAND_ROOM_M = (0.08, 0.13), (-0.09, -0.045, 0.0, 0.045, 0.09), 0.04

_VESSELS = ("bowl", "mug")


@dataclass(frozen=True)
class Grasp:
    """The hand when it takes hold.

    Attributes:
        position: Of the grip site, [3].
        rotation: [3, 3], pointing down.
    """

    position: Array
    rotation: Array


def grasps(scene: Scene, name: str, narrow: Array | None = None) -> list[Grasp]:
    """`NUM_VARIANTS` ways to take hold of an object that stands still, best first.

    Args:
        scene: Where it stands.
        name: The object.
        narrow: Where its top will be let go, [3], if there is little room for the hand, as in a drawer.
    """
    found = _by_the_rim(scene, name, narrow) if any(kind in name for kind in _VESSELS) else _around(scene, name)
    return found[:NUM_VARIANTS]


def _nearest_sign(scene: Scene, closing: Array) -> Array:
    """Of the two directions the fingers may close along, the one the hand turns less for."""
    return closing if float(closing @ scene.hand_rotation[:2, 0]) >= 0 else -closing


def _turn(scene: Scene, closing: Array) -> float:
    """How far the hand turns to close along `closing`, in quarter turns."""
    now = scene.hand_rotation[:2, 0] / np.linalg.norm(scene.hand_rotation[:2, 0])
    return float(np.arccos(np.clip(abs(now @ closing), 0.0, 1.0)) / (np.pi / 2))


def _around(scene: Scene, name: str) -> list[Grasp]:
    """Fingers on either side of the narrowest width; variants turn, and move along the thing."""
    points = scene.points(name)
    bottom = points[:, 2].min()
    height, level = _level(scene, name)
    closings = _closings(scene, level) or [np.array([0.0, 1.0])]
    best = closings[0]
    across = next((closing for closing in closings if abs(closing @ best) < np.cos(np.pi / 6)), best)
    middle = (level.max(axis=0) + level.min(axis=0))[:2] / 2
    along = np.array([-best[1], best[0]])
    plan = [(best, 0.0, 0.0), (best, 0.0, -0.01), (across, 0.0, 0.005), (best, 0.012, 0.0), (best, -0.012, 0.0)]
    return [
        Grasp(
            np.array([*(middle + shift * along), max(height + lower, bottom + _ABOVE_BOTTOM_M / 2)]),
            downward(_nearest_sign(scene, closing)),
        )
        for closing, shift, lower in plan
    ]


def _level(scene: Scene, name: str) -> tuple[float, Array]:
    """Height of the grip site, and the points that will be between the fingers.

    All of a thing if it is narrow enough; else what sticks out at the top, such as the knob of a lid.
    """
    points, boxes = scene.points(name), scene.boxes(name)
    top, bottom = points[:, 2].max(), points[:, 2].min()
    whole = max(bottom + _ABOVE_BOTTOM_M, top - _BELOW_TOP_M)
    if _closings(scene, points):
        return whole, points
    for below in _TRIED_BELOW_TOP_M:
        reached = [box for box in boxes if box[:, 2].max() > top - below - _FINGER_REACH_M]
        if _closings(scene, level := np.concatenate(reached)):
            return top - below, level
    return whole, points


def _closings(scene: Scene, level: Array) -> list[Array]:
    """Directions [2] in which fingers close around points, the narrowest and least turned first; often none."""
    found = []
    for angle in np.arange(0.0, np.pi, np.pi / 36):
        closing = np.array([np.cos(angle), np.sin(angle)])
        width = float(np.ptp(level[:, :2] @ closing))
        if width < _WIDEST_M:
            found.append((width + _QUARTER_TURN_M * _turn(scene, closing), closing))
    return [closing for _, closing in sorted(found, key=lambda pair: pair[0])]


def _by_the_rim(scene: Scene, name: str, narrow: Array | None) -> list[Grasp]:
    """One finger inside, one outside; first where the hand turns least and the outer finger has room."""
    points = scene.points(name)
    top = float(points[:, 2].max())
    rim = points[points[:, 2] > top - 0.01, :2]
    centre = (rim.max(axis=0) + rim.min(axis=0)) / 2
    radius = float(np.linalg.norm(rim - centre, axis=1).max())
    found = []
    for angle in np.arange(0.0, 2 * np.pi, np.pi / 12):
        out = np.array([np.cos(angle), np.sin(angle), 0.0])
        position = np.array([*centre, top - _BELOW_RIM_M]) + (radius - _INSIDE_RIM_M) * out
        cramped = _cramped(scene, name, position, out)
        if narrow is not None:
            cramped += _cramped(scene, name, narrow + position - np.array([*centre, top]), out)
        # Rounded so that equal choices stay equal under rounding errors, and the first of them is taken.
        cost = round(_turn(scene, out[:2]), 2) + 100.0 * round(cramped, 3)
        found.append((cost, Grasp(position, downward(_nearest_sign(scene, out[:2])))))
    found.sort(key=lambda pair: pair[0])
    return [grasp for _, grasp in found]


def _cramped(scene: Scene, name: str, position: Array, out: Array) -> float:
    """How much room (m) the outer finger and the hand above it lack."""
    finger = position + (_FINGER_ROOM_M + _INSIDE_RIM_M) * out
    hand = [position + along * out + np.array([0.0, 0.0, up]) for along in _HAND_M for up in _HAND_ABOVE_M]
    gaps = scene.clearance(np.array([finger, *hand]), ignoring=[name])
    return float(np.maximum(np.array([_FINGER_ROOM_M] + [_HAND_ROOM_M] * len(hand)) - gaps, 0.0).max())
