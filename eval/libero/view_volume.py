"""What a camera can see: which boxes meet its view volume, and which pixels a box covers. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Metres a box may lie outside and still count as seen, and pixels added around a window: against rounding.
_SLACK_M = 1e-3
_SLACK_PIXELS = 2

_CORNERS = np.array(list(product((-1.0, 1.0), repeat=3)))


@dataclass(frozen=True)
class Boxes:
    """Oriented boxes: centres [n, 3] (m), axes [n, 3, 3] (columns) and half sizes [n, 3] (m) along them."""

    centre: Array
    axes: Array
    half: Array

    @classmethod
    def of_geoms(cls, position: Array, rotation: Array, aabb: Array) -> "Boxes":
        """Around geoms: frames [n, 3] and [n, 9], and MuJoCo's `geom_aabb` [n, 6] (centre, half size) in them."""
        axes = rotation.reshape(-1, 3, 3)
        return cls(position + np.einsum("nij,nj->ni", axes, aabb[:, :3]), axes, aabb[:, 3:])

    def reflected(self, point: Array, normal: Array) -> "Boxes":
        """Their mirror images in the plane through `point` with unit `normal`."""
        centre = self.centre - 2 * np.outer((self.centre - point) @ normal, normal)
        axes = self.axes - 2 * np.einsum("i,nj->nij", normal, np.einsum("nij,i->nj", self.axes, normal))
        return Boxes(centre, axes, self.half)

    def corners(self, which: Sequence[Any]) -> Array:
        """The corners of some of them, [8 times as many, 3]."""
        local = _CORNERS[None] * self.half[which][:, None]
        return (self.centre[which][:, None] + np.einsum("nij,nkj->nki", self.axes[which], local)).reshape(-1, 3)


class Window(NamedTuple):
    """A rectangle of pixels; rows count from the bottom."""

    rows: slice
    columns: slice


@dataclass(frozen=True)
class ViewVolume:
    """A camera's pyramid: its point, its axes, and the slopes (across over depth) of the four sides.

    Attributes:
        position: [3], m.
        axes: Rows right, up, forward, [3, 3].
        low, high: Slopes [2] of left and bottom, and of right and top.
    """

    position: Array
    axes: Array
    low: Array
    high: Array
    slope: float

    @classmethod
    def of_camera(cls, position: Array, rotation: Array, fovy_degrees: float) -> "ViewVolume":
        """Of a square picture: position [3], rotation [9] as MuJoCo has it (columns right, up, backward)."""
        right, up, backward = rotation.reshape(3, 3).T
        slope = float(np.tan(np.radians(fovy_degrees) / 2))
        return cls(position.copy(), np.stack([right, up, -backward]), np.full(2, -slope), np.full(2, slope), slope)

    def meets(self, boxes: Boxes) -> NDArray[np.bool_]:
        """Which boxes may reach into the volume [n]; never False for one that does."""
        centre = (boxes.centre - self.position) @ self.axes.T
        axes = np.einsum("ij,njk->nik", self.axes, boxes.axes)
        inside = self._reaches(centre, axes, boxes.half, np.array([0.0, 0.0, 1.0]))
        for axis, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            plane = np.zeros(3)
            plane[axis], plane[2] = -1.0, high
            inside &= self._reaches(centre, axes, boxes.half, plane)
            plane[axis], plane[2] = 1.0, -low
            inside &= self._reaches(centre, axes, boxes.half, plane)
        return inside

    @staticmethod
    def _reaches(centre: Array, axes: Array, half: Array, plane: Array) -> NDArray[np.bool_]:
        """Which boxes have a point p with plane . p >= 0, the slack given."""
        extent = (np.abs(np.einsum("i,nij->nj", plane, axes)) * half).sum(axis=1)
        return centre @ plane + extent >= -_SLACK_M * float(np.linalg.norm(plane))

    def window(self, points: Array, size: int) -> Window | None:
        """The pixels of a square picture around the images of `points` [n, 3]; None if one is not in front."""
        right, up, depth = ((points - self.position) @ self.axes.T).T
        if depth.min() <= _SLACK_M:
            return None
        pixels = (np.stack([up, right]) / (depth * self.slope) + 1) * size / 2
        low = np.clip(np.floor(pixels.min(axis=1)).astype(int) - _SLACK_PIXELS, 0, size)
        high = np.clip(np.ceil(pixels.max(axis=1)).astype(int) + _SLACK_PIXELS, 0, size)
        return Window(slice(low[0], high[0]), slice(low[1], high[1]))

    def part(self, window: Window, size: int) -> "ViewVolume":
        """The part of the volume that a window of its picture shows."""
        low = np.array([window.columns.start, window.rows.start]) * 2 / size - 1
        high = np.array([window.columns.stop, window.rows.stop]) * 2 / size - 1
        return ViewVolume(self.position, self.axes, low * self.slope, high * self.slope, self.slope)
