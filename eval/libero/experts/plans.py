"""From a task's goal to skills: which things are moved where, and in which order."""

from collections.abc import Iterator

import numpy as np

from eval.libero.experts.fixtures import close_drawer, open_drawer, push, turn_knob
from eval.libero.experts.moves import Move
from eval.libero.experts.names import kind_of, thing_text
from eval.libero.experts.scene import Array, Scene
from eval.libero.experts.skills import pick, place

_ATTEMPTS = 3
# A container's rim is passed by what is dropped into it.
_IN_CONTAINER_M = 0.02
# Between the middles of things that share a region.
_BESIDE_M = 0.09


def plan(scene: Scene, first_grasp: int = 0) -> Iterator[Move]:
    """All moves of a task; goals that hold already are left alone, those that fail are tried again."""
    for attempt in range(_ATTEMPTS):
        for goal in _in_order(scene.goal):
            if not scene.holds(goal):
                yield from _achieve(scene, goal, first_grasp + attempt)


def _in_order(goals: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """What is put inside goes before what is closed upon it."""
    return sorted(goals, key=lambda goal: goal[0] == "close")


def _achieve(scene: Scene, goal: tuple[str, ...], grasp: int) -> Iterator[Move]:
    match goal:
        case ("turnon", name):
            return turn_knob(scene, name)
        case ("open", region) if scene.is_region(region):
            return open_drawer(scene, region)
        case ("close", region) if scene.is_region(region):
            return close_drawer(scene, region)
        case ("on", name, target) if kind_of(name) == "plate":
            return push(scene, name, scene.region(target).centre, place_text("on", target))
        case ("on" | "in", name, target):
            return _bring(scene, goal[0], name, target, grasp)
        case _:
            raise NotImplementedError(f"no expert knows how to make {goal} true")


def _bring(scene: Scene, relation: str, name: str, target: str, grasp: int) -> Iterator[Move]:
    narrow = None
    if scene.joints_of_region(target):
        if not scene.holds(("open", target)):
            yield from open_drawer(scene, target)
        spot, _, drop = _spot(scene, relation, name, target)
        narrow = spot + np.array([0.0, 0.0, drop + np.ptp(scene.points(name)[:, 2])])
    yield from pick(scene, name, grasp, narrow)
    spot, ignoring, drop = _spot(scene, relation, name, target)
    yield from place(scene, name, spot, place_text(relation, target), ignoring, drop)


def _spot(scene: Scene, relation: str, name: str, target: str) -> tuple[Array, list[str], float]:
    """Where an object's bottom goes, what is not in the way there, and from how high it is let go."""
    if not scene.is_region(target):
        centre = scene.position(target)
        points = scene.points(target)
        inner = points[np.linalg.norm(points[:, :2] - centre[:2], axis=1) < 0.04]
        return np.array([*centre[:2], inner[:, 2].max() if len(inner) else centre[2]]), [target], 0.01
    region, owner = scene.region(target), scene.owner(target)
    if relation == "in":
        joints = scene.joints_of_region(target)
        rim = scene.points(owner, scene.body_of_joint(joints[0]) if joints else "")[:, 2].max()
        return np.array([*region.centre[:2], rim]), [], -_IN_CONTAINER_M
    return region.centre + _own_place(scene, name, target), [], 0.01


def _own_place(scene: Scene, name: str, region: str) -> Array:
    """Off the region's centre [3] along x, where several things are to share it."""
    sharing = [goal[1] for goal in scene.goal if goal[0] == "on" and goal[-1] == region]
    return np.array([(sharing.index(name) - (len(sharing) - 1) / 2) * _BESIDE_M, 0.0, 0.0])


def place_text(relation: str, target: str) -> str:
    """Where, in words: "on the plate", "in the basket", "in the top drawer of the cabinet"."""
    for part, words in _PLACES.items():
        if part in target:
            return words
    return f"{relation} {thing_text(target)}"


_PLACES = {
    "stove_front_region": "to the front of the stove",
    "cook_region": "on the stove",
    "top_side": "on top of the cabinet",
    "cabinet_1_top_region": "in the top drawer of the cabinet",
    "cabinet_1_middle_region": "in the middle drawer of the cabinet",
    "cabinet_1_bottom_region": "in the bottom drawer of the cabinet",
    "wine_rack_1_top_region": "on the rack",
    "basket_1_contain_region": "in the basket",
    "heating_region": "in the microwave",
    "caddy_1_back": "in the back compartment of the caddy",
    "plate_right_region": "to the right of the plate",
}
