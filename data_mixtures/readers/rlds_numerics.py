"""From a record's fields and a spec's words on them to states and actions in the unified spaces."""

import numpy as np

from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers.rlds_record import Record
from data_mixtures.readers.rlds_spec import CommandPart, GripperPart, Part, PositionPart, RldsSpec, RotationPart
from data_mixtures.spaces.poses import ArmCommand, ArmTrack, unify
from data_mixtures.spaces.rotations import (
    euler_from_matrix,
    matrix_from_axis_angle,
    matrix_from_column_major,
    matrix_from_euler,
    matrix_from_xyzw,
    xyzw_from_wxyz,
)
from data_mixtures.spaces.unified import Numerics

_WIDTHS = {"quaternion_xyzw": 4, "quaternion_wxyz": 4, "euler": 3, "axis_angle": 3, "matrix_column_major": 16}
# How far from 1 a quaternion's length, or from orthonormal a matrix, may be before the field is taken for another one.
_TOLERANCE = 0.05

quiet = np.errstate(invalid="ignore", over="ignore", divide="ignore")  # what is no number is found by check_episode


@quiet
def read_numerics(record: Record, spec: RldsSpec, length: int) -> Numerics:
    """States and actions of one episode of `length` steps."""
    position, valid = _position(record, spec.position) if spec.position else (None, None)
    command = spec.command if spec.command is not None and spec.command.unit == "metric" else CommandPart()
    track = ArmTrack(
        position=position,
        rotation=_rotation(record, spec.rotation, valid) if spec.rotation else None,
        gripper=gripper_opening(_numbers(record, spec.gripper)[:, 0], spec.gripper) if spec.gripper else None,
        position_axes=spec.position.axes if spec.position else (),
        valid=valid,
    )
    return unify(
        length,
        track,
        left_command=_command(record, command, spec.gripper_command),
    )


def width_problem(part: Part, width: int) -> str | None:
    """Why a part cannot be read from a field of `width` numbers a step; None if it can."""
    first, stop = part.dims or (0, width)
    if not 0 <= first < stop <= width:
        return f"dims {list(part.dims or ())} of {part.field}, which has {width} numbers"
    count = stop - first
    if isinstance(part, PositionPart):
        allowed = {3, len(part.axes)}
    elif isinstance(part, RotationPart):
        allowed = {_WIDTHS[part.form]}
    else:
        allowed = {1}
    return None if count in allowed else f"{count} numbers of {part.field}, but it takes {sorted(allowed)}"


def _numbers(record: Record, part: Part) -> np.ndarray:
    values = record.numbers(part.field)
    if problem := width_problem(part, values.shape[1]):
        raise BadEpisodeError(record.key, "column", f"the spec asks for {problem}")
    return values if part.dims is None else values[:, part.dims[0] : part.dims[1]]


def _position(record: Record, part: PositionPart) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions [T, 3] in metres, 0 on axes that are not recorded; and which frames are within the limit."""
    values = _numbers(record, part) * part.unit_m
    axes = list(part.axes)
    if values.shape[1] == 3:
        position = values
    else:
        position = np.zeros((len(values), 3))
        position[:, axes] = values
    if part.limit_m is None:
        return position, None
    outside = np.abs(position[:, axes]) > part.limit_m
    return position, np.logical_not(outside.any(axis=1))


def _rotation(record: Record, part: RotationPart, valid: np.ndarray | None) -> np.ndarray:
    """Rotations [T, 3, 3]; raises where the numbers are of another form than the spec says."""
    values = _numbers(record, part)
    checked = values if valid is None else values[valid]
    if part.form.startswith("quaternion"):
        lengths = np.linalg.norm(checked, axis=1)
        if (np.abs(lengths - 1) > _TOLERANCE).any():
            worst = lengths[np.argmax(np.abs(lengths - 1))]
            raise BadEpisodeError(
                record.key, "column", f"{part.field} holds no unit quaternions: a length is {worst:.3g}"
            )
    if part.form == "matrix_column_major" and not _homogeneous(matrix_from_column_major(checked)):
        raise BadEpisodeError(record.key, "column", f"{part.field} holds no homogeneous matrices, column by column")
    return _matrix(values, part)


def _homogeneous(matrices: np.ndarray) -> bool:
    rotations = matrices[:, :3, :3]
    off = [rotations @ rotations.swapaxes(1, 2) - np.eye(3), matrices[:, 3:] - [0, 0, 0, 1]]
    return not any((np.abs(difference) > _TOLERANCE).any() for difference in off)


def _matrix(values: np.ndarray, part: RotationPart) -> np.ndarray:
    if part.form == "quaternion_xyzw":
        return matrix_from_xyzw(values)
    if part.form == "quaternion_wxyz":
        return matrix_from_xyzw(xyzw_from_wxyz(values))
    if part.form == "euler":
        return matrix_from_euler(values * part.unit_rad, part.order)
    if part.form == "axis_angle":
        return matrix_from_axis_angle(values * part.unit_rad)
    return matrix_from_column_major(values)[:, :3, :3]


def _command(record: Record, command: CommandPart, gripper: GripperPart | None) -> ArmCommand:
    translation = _position(record, command.translation)[0] if command.translation else None
    rotation = euler_from_matrix(_rotation(record, command.rotation, None)) if command.rotation else None
    return ArmCommand(
        translation=translation,
        rotation=rotation,
        gripper=gripper_opening(_numbers(record, gripper)[:, 0], gripper) if gripper else None,
        translation_axes=command.translation.axes if command.translation else (0, 1, 2),
    )


@quiet
def gripper_opening(values: np.ndarray, part: GripperPart) -> np.ndarray:
    """Recorded numbers [T] -> 0 closed .. 1 open."""
    opening = (values - part.closed_at) / (part.open_at - part.closed_at)
    if part.reading == "latched":
        return _latched(opening)
    if part.reading == "decided":
        return _decided(opening.clip(0, 1))
    return opening.clip(0, 1)


def _latched(opening: np.ndarray) -> np.ndarray:
    """Relative commands: 0 closes, 1 opens, the middle holds. The first command is taken to change something."""
    commands = np.flatnonzero(np.abs(opening - 0.5) > 0.05)
    if not len(commands):
        return np.where(np.isnan(opening), opening, 1.0)
    last = np.searchsorted(commands, np.arange(len(opening)), side="right") - 1
    opens = opening[commands] > 0.5
    held = np.where(last >= 0, opens[last], ~opens[0]).astype(np.float64)
    return np.where(np.isnan(opening), opening, held)


def _decided(opening: np.ndarray) -> np.ndarray:
    """Openings on the way from open to closed or back become the one that is reached; at the end they stay."""
    reached = np.flatnonzero((opening > 0.95) | (opening < 0.05))
    coming = np.searchsorted(reached, np.arange(len(opening)))
    known = coming < len(reached)
    result = opening.copy()
    result[known] = opening[reached[coming[known]]] > 0.5
    return np.where(np.isnan(opening), opening, result)
