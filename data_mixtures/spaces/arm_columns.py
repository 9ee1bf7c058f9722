"""Where a robot's raw columns hold a position, a rotation or a gripper, and in which unit and form: YAML-parsable."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from data_mixtures.spaces.rotations import (
    axis_angle_from_matrix,
    euler_from_matrix,
    matrix_from_6d_columns,
    matrix_from_axis_angle,
    matrix_from_euler,
    matrix_from_xyzw,
    xyzw_from_wxyz,
)

LengthUnit = Literal["m", "cm", "mm"]
AngleUnit = Literal["rad", "deg"]
# euler_ and small letters: about the fixed axes, in the order of the letters. Capitals: about the axes as they turn.
RotationForm = Literal[
    "euler_xyz",
    "euler_xzy",
    "euler_yxz",
    "euler_yzx",
    "euler_zxy",
    "euler_zyx",
    "euler_XYZ",
    "euler_XZY",
    "euler_YXZ",
    "euler_YZX",
    "euler_ZXY",
    "euler_ZYX",
    "quaternion_xyzw",
    "quaternion_wxyz",
    "axis_angle",
    "6d",
    "6d_columns",
    "matrix",
    "matrix_column_major",
]
_METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_RADIANS = {"rad": 1.0, "deg": np.pi / 180}
_WIDTHS = {
    "quaternion_xyzw": 4,
    "quaternion_wxyz": 4,
    "axis_angle": 3,
    "6d_columns": 6,
    "matrix": 9,
    "matrix_column_major": 9,
}

# A GR00T modality.json's slices: "state.left_arm" -> (column, indices).
Slices = Mapping[str, tuple[str, list[int]]]


@dataclass(frozen=True)
class Position:
    """Three values of a column that are x, y, z.

    Attributes:
        indices: of x, y and z in the column; null for an axis that is not recorded.
        unit: of the raw values.
        scale: for commands that are shares of a largest step: what a raw 1 stands for, in `unit`.
        column: where not the arm's own column.
        slice: instead of indices, the name of a slice in GR00T's meta/modality.json, as "left_eef_position".
    """

    indices: list[int | None] | None = None
    unit: LengthUnit = "m"
    scale: float = 1.0
    column: str | None = None
    slice: str | None = None

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that are recorded, of 0, 1, 2."""
        return tuple(axis for axis, index in enumerate(self.indices or []) if index is not None)

    @property
    def factor(self) -> float:
        """Metres a raw 1 stands for."""
        return self.scale * _METRES[self.unit]

    def read(self, raw: np.ndarray) -> np.ndarray:
        """Raw values [T, d] -> metres [T, 3], 0 on axes that are not recorded."""
        metres = np.zeros((len(raw), 3), dtype=raw.dtype)
        for axis in self.axes:
            metres[:, axis] = raw[:, (self.indices or [])[axis] or 0]
        return metres * raw.dtype.type(self.factor)

    def write(self, metres: np.ndarray, raw: np.ndarray) -> None:
        """Metres [..., 3] -> their places in raw [..., d]."""
        for axis in self.axes:
            raw[..., (self.indices or [])[axis] or 0] = metres[..., axis] / self.factor

    def check(self, name: str) -> None:
        """Raise ValueError for a description that cannot be right."""
        if self.indices is None or len(self.indices) != 3 or not self.axes:
            raise ValueError(f"{name}.indices is {self.indices}: give the places of x, y and z (null: no such axis)")
        _check_indices(name, [index for index in self.indices if index is not None])
        _check_scale(name, self.scale)


@dataclass(frozen=True)
class Rotation:
    """Values of a column that are a rotation (end effector to base), or, in a command, a change of one.

    Attributes:
        form: how it is written down; a form's values are consecutive in `indices`. "6d_columns" is the first two
            columns of the matrix, one after the other; "matrix" is row by row. A bare "6d" is refused: it does not
            say which of its layouts it is, and the wrong one costs 5 to 30 points.
        indices: 3 values for Euler angles and axis_angle, 4 for a quaternion, 6 for 6d_columns, 9 for a matrix.
        unit: of angles.
        scale: for commands that are shares of a largest step: what a raw 1 stands for, in `unit`.
        column: where not the arm's own column.
        slice: instead of indices, the name of a slice in GR00T's meta/modality.json.
    """

    form: RotationForm
    indices: list[int] | None = None
    unit: AngleUnit = "rad"
    scale: float = 1.0
    column: str | None = None
    slice: str | None = None

    def __post_init__(self) -> None:
        if self.form == "6d":
            raise ValueError(
                "form: 6d does not say its layout. Write 6d_columns if the numbers are x axis then y axis (columns of "
                "the matrix, one after the other); if they are interleaved (the matrix's first two columns read row by "
                "row), write 6d_columns with the places in the order of the columns, as `indices: [0, 2, 4, 1, 3, 5]`"
            )

    @property
    def factor(self) -> float:
        """Radians a raw 1 stands for."""
        return self.scale * _RADIANS[self.unit]

    def read(self, raw: np.ndarray) -> np.ndarray:
        """Raw values [T, d] -> matrices [T, 3, 3]."""
        values = raw[:, self.indices or []].astype(np.float64)
        if self.form == "quaternion_xyzw":
            return matrix_from_xyzw(values)
        if self.form == "quaternion_wxyz":
            return matrix_from_xyzw(xyzw_from_wxyz(values))
        if self.form == "6d_columns":
            return matrix_from_6d_columns(values)
        if self.form == "matrix":
            return _true_rotations(values.reshape(-1, 3, 3))
        if self.form == "matrix_column_major":
            return _true_rotations(values.reshape(-1, 3, 3).swapaxes(-1, -2))
        if self.form == "axis_angle":
            return matrix_from_axis_angle(values * self.factor)
        return matrix_from_euler(values * self.factor, self.form.removeprefix("euler_"))

    def read_change(self, raw: np.ndarray) -> np.ndarray:
        """Raw changes [T, d] -> Euler angles about the fixed x, y, z [T, 3], rad."""
        if self.form == "euler_xyz":
            return raw[:, self.indices or []] * raw.dtype.type(self.factor)  # as recorded: no wrapping, no rounding
        return euler_from_matrix(self.read(raw))

    def write_change(self, angles: np.ndarray, raw: np.ndarray) -> None:
        """Euler angles about the fixed x, y, z [..., 3], rad -> their places in raw [..., d]."""
        if self.form == "axis_angle":
            angles = axis_angle_from_matrix(matrix_from_euler(angles))
        for place, index in enumerate(self.indices or []):
            raw[..., index] = angles[..., place] / self.factor

    @property
    def width(self) -> int:
        """Values the form has."""
        return _WIDTHS.get(self.form, 3)

    def check(self, name: str) -> None:
        """Raise ValueError for a description that cannot be right."""
        if self.indices is None or len(self.indices) != self.width:
            raise ValueError(f"{name}.indices is {self.indices}: {self.form} has {self.width} values, name each place")
        _check_indices(name, self.indices)
        _check_scale(name, self.scale)
        if self.width != 3 and (self.scale != 1.0 or self.unit != "rad"):
            raise ValueError(f"{name}: {self.form} has no unit, and scale {self.scale} means nothing: remove both")


@dataclass(frozen=True)
class Gripper:
    """One value of a column that says how far a gripper is open.

    Attributes:
        open: the raw value of an open gripper.
        closed: the raw value of a closed one; what lies between is scaled to 0 (closed) .. 1 (open), and cut there.
        index: its place in the column; of several fingers, one is enough.
        column: where not the arm's own column.
        slice: instead of an index, the name of a slice in GR00T's meta/modality.json (its first value).
    """

    open: float
    closed: float
    index: int | None = None
    column: str | None = None
    slice: str | None = None

    def read(self, raw: np.ndarray) -> np.ndarray:
        """Raw values [T, d] -> [T], 0 closed .. 1 open."""
        kind = raw.dtype.type
        return ((raw[:, self.index or 0] - kind(self.closed)) / kind(self.open - self.closed)).clip(0, 1)

    def write(self, opening: np.ndarray, raw: np.ndarray) -> None:
        """Openings [...], 0 closed .. 1 open -> their place in raw [..., d]."""
        raw[..., self.index or 0] = self.closed + opening * (self.open - self.closed)

    def check(self, name: str) -> None:
        """Raise ValueError for a description that cannot be right."""
        if self.index is None:
            raise ValueError(f"{name}.index is missing: name the value's place in the column")
        _check_indices(name, [self.index])
        if self.open == self.closed or not np.isfinite([self.open, self.closed]).all():
            raise ValueError(f"{name}: open is {self.open} and closed is {self.closed}: they must be two raw values")


Part = Position | Rotation | Gripper


def sliced(part: Part | None, space: Literal["state", "action"], slices: Slices) -> Part | None:
    """The part with its `slice` replaced by column and indices."""
    if part is None or part.slice is None:
        return part
    name = f"{space}.{part.slice}"
    if name not in slices:
        known = sorted(key.removeprefix(f"{space}.") for key in slices if key.startswith(f"{space}."))
        raise ValueError(f"slice {part.slice!r} is not in meta/modality.json, whose {space} slices are {known}")
    column, indices = slices[name]
    if isinstance(part, Gripper):
        return replace(part, column=column, index=indices[0], slice=None)
    return replace(part, column=column, indices=indices, slice=None)


def _true_rotations(m: np.ndarray) -> np.ndarray:
    """The same matrices, NaN where one is no rotation (zeros, wrong indices): `check_episode` finds it."""
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(m @ m.swapaxes(-1, -2) - np.eye(3)).max(axis=(-1, -2))
        return np.where((error < 0.05)[:, None, None] & (np.linalg.det(m) > 0)[:, None, None], m, np.nan)


def _check_indices(name: str, indices: list[int]) -> None:
    if any(index < 0 for index in indices):
        raise ValueError(f"{name} names place {min(indices)}: places count from 0")


def _check_scale(name: str, scale: float) -> None:
    if not np.isfinite(scale) or scale == 0:
        raise ValueError(f"{name}.scale is {scale}: it is what a raw 1 stands for, and cannot be 0")
