"""What SIMPLER's grids are made of: a setting is one built scene, its starts are the episodes played in it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

URDFS = ("default", "recolor_tabletop_visual_matching_1", "recolor_tabletop_visual_matching_2") + (
    "recolor_cabinet_visual_matching_1",
)
"""Looks of the Google robot that visual matching averages over; "default" is the plain description."""


@dataclass(frozen=True)
class Start:
    """Where an episode begins; metres and radians in the world frame.

    Attributes:
        robot_xy: Of the robot's base.
        robot_yaw: Its turn about z, beyond the half turn both robots have.
        objects: `init_xy` of the object, or `episode_id` where the scene itself lists its layouts.
        overlay: The photograph behind the robot and objects, a file of real_inpainting/; None for none.
    """

    robot_xy: tuple[float, float]
    robot_yaw: float = 0.0
    objects: Mapping[str, Any] = field(default_factory=dict)
    overlay: str | None = None


@dataclass(frozen=True)
class Setting:
    """One scene as it is built, and the episodes in it.

    Attributes:
        task: As in rows and tables.
        name: The cell, below the grid's name: "urdf_default/standing"; "" where the grid is one cell.
        scene: The simulator's registered name.
        build: What it is built with beside robot, rates and cameras; JSON values.
        starts: Its episodes, in the order of SIMPLER's own scripts.
        ray_traced: Drawn by ray tracing in SIMPLER's scripts.
    """

    task: str
    name: str
    scene: str
    build: Mapping[str, Any]
    starts: tuple[Start, ...]
    ray_traced: bool = False


def linspace(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` evenly spaced numbers, both ends among them (the middle for one)."""
    return tuple(float(value) for value in np.linspace(low, high, count))


def object_grid(xs: Iterable[float], ys: Iterable[float]) -> tuple[dict[str, Any], ...]:
    """Positions of one object, y running fastest."""
    return tuple({"init_xy": [x, y]} for x, y in product(xs, ys))


def layouts(count: int) -> tuple[dict[str, Any], ...]:
    """The first `count` layouts that the scene lists itself."""
    return tuple({"episode_id": index} for index in range(count))
