"""What an RLDS data set's fields mean: where pose, gripper, cameras and instruction are, in which units and forms.

A spec is data: a row of oxe_sets.yaml, or a YAML file of a user's own. Fields are named by their path in an episode's
record ("steps/observation/state"), as features.json nests them.
"""

import dataclasses
import difflib
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from data_mixtures.spaces.rotations import matrix_from_euler

RotationForm = Literal["quaternion_xyzw", "quaternion_wxyz", "euler", "axis_angle", "matrix_column_major"]
GripperReading = Literal["value", "latched", "decided"]


@dataclass(frozen=True)
class Part:
    """Some numbers of one field.

    Attributes:
        field: its path in the record.
        dims: the first of its numbers, and the one after the last; all of them when None.
    """

    field: str
    dims: tuple[int, int] | None = None


@dataclass(frozen=True)
class PositionPart(Part):
    """An end effector's position, or a change of it.

    Attributes:
        unit_m: metres in one of the field's units (0.001 for millimetres).
        axes: the axes that mean something. The field holds either all three, or these only, in this order.
        limit_m: beyond this distance from the origin on any axis the frame was not tracked.
    """

    unit_m: float = 1.0
    axes: tuple[int, ...] = (0, 1, 2)
    limit_m: float | None = None

    def __post_init__(self) -> None:
        if sorted(set(self.axes) & {0, 1, 2}) != list(self.axes):
            raise ValueError(f"axes is {list(self.axes)}: give some of 0, 1, 2 in rising order")


@dataclass(frozen=True)
class RotationPart(Part):
    """An end effector's rotation, or a change of it.

    Attributes:
        form: how it is written. `matrix_column_major` is a homogeneous 4 x 4 matrix of 16 numbers.
        order: of Euler angles; small letters are fixed axes, capitals turning ones (see `rotations.py`).
        unit_rad: radians in one of the field's units, for Euler angles and axis-angles (pi / 180 for degrees).
    """

    form: RotationForm = "quaternion_xyzw"
    order: str = "xyz"
    unit_rad: float = 1.0

    def __post_init__(self) -> None:
        matrix_from_euler([0, 0, 0], self.order)  # says so if there is no such order


@dataclass(frozen=True)
class GripperPart(Part):
    """A gripper's opening, as one number.

    Attributes:
        closed_at: the number that means closed.
        open_at: the number that means open; what lies between is in proportion, what lies beyond is cut off.
        reading: `value` takes the numbers as they are. `latched` reads them as relative commands: around the middle
            of `closed_at` and `open_at` the last command holds, and before the first one its opposite does.
            `decided` takes numbers that are neither open nor closed as on the way to the next one that is.
    """

    closed_at: float = 0.0
    open_at: float = 1.0
    reading: GripperReading = "value"

    def __post_init__(self) -> None:
        if self.closed_at == self.open_at:
            raise ValueError(f"closed_at and open_at are both {self.open_at}: give the numbers that tell them apart")


@dataclass(frozen=True)
class CommandPart:
    """Commanded changes of the pose, for sets without an end-effector state.

    Attributes:
        translation: change of the position in one step.
        rotation: change of the rotation in one step, seen from the base; Euler angles, axis-angle or quaternion.
        unit: `metric` commands are in the units their parts name. Those of `unknown` unit (controller commands of an
            undocumented scale) are not used: their action dimensions are masked.
    """

    translation: PositionPart | None = None
    rotation: RotationPart | None = None
    unit: Literal["metric", "unknown"] = "metric"


@dataclass(frozen=True)
class SuccessPart:
    """How an episode says that it succeeded.

    Attributes:
        field: a flag (above 0.5 in any step), or a text.
        contains: what the text holds if it did.
    """

    field: str
    contains: str | None = None


@dataclass(frozen=True)
class RldsSpec:
    """One RLDS data set's meaning.

    Attributes:
        names: builder or folder names it is recognised by.
        robot_type: the embodiment's name.
        fps: steps a second.
        cameras: field of each camera, by the name it is given (primary, secondary, wrist).
        instruction: fields of the instruction, the first non-empty one counts; numbers are UTF-8 code points.
        position: where the end effector is; changes are differenced from it.
        rotation: how it is turned.
        gripper: its measured opening.
        gripper_command: the commanded opening: the action's gripper, which goes before the measured one.
        command: used for what `position` and `rotation` do not give.
        success: written to `Episode.info["success"]`; the set's users leave out episodes where it is False.
        bgr: cameras stored with red and blue exchanged.
        mirrored: cameras stored with left and right exchanged.
        notes: what is doubtful, or differs from other published readings of the set.
    """

    names: tuple[str, ...]
    robot_type: str
    fps: float
    cameras: dict[str, str]
    instruction: tuple[str, ...] = ()
    position: PositionPart | None = None
    rotation: RotationPart | None = None
    gripper: GripperPart | None = None
    gripper_command: GripperPart | None = None
    command: CommandPart | None = None
    success: SuccessPart | None = None
    bgr: tuple[str, ...] = ()
    mirrored: tuple[str, ...] = ()
    notes: str = ""

    def __post_init__(self) -> None:
        if not self.fps > 0:
            raise ValueError(f"fps is {self.fps}: give the steps a second")
        for name in ("bgr", "mirrored"):
            if unknown := [camera for camera in getattr(self, name) if camera not in self.cameras]:
                raise ValueError(f"{name} names {unknown}, but cameras has {list(self.cameras)}")

    @property
    def numeric_parts(self) -> list[Part]:
        """Every part that is read as numbers."""
        command = self.command if self.command is not None and self.command.unit == "metric" else CommandPart()
        parts = (
            self.position, self.rotation, self.gripper, self.gripper_command, command.translation, command.rotation
        )  # fmt: skip
        return [part for part in parts if part is not None]

    @property
    def fields(self) -> set[str]:
        """Every field that is read."""
        texts = set(self.instruction) | ({self.success.field} if self.success else set())
        return texts | set(self.cameras.values()) | {part.field for part in self.numeric_parts}


def read_spec(path: Path) -> RldsSpec:
    """A spec from a YAML file, written as the rows of oxe_sets.yaml are."""
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return spec_from_tree(tree, str(path))


def spec_from_tree(tree: Any, where: str) -> RldsSpec:
    """A spec from what YAML parsed; `where` says in errors what was being read."""
    return _build(RldsSpec, tree, where)


def _build(kind: type, tree: Any, where: str) -> Any:
    if not isinstance(tree, dict):
        raise ValueError(f"{where} is {tree!r}: give {[f.name for f in dataclasses.fields(kind)]}")
    hints = get_type_hints(kind)
    for name in tree:
        if name not in hints:
            near = difflib.get_close_matches(str(name), hints, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"It has {list(hints)}"
            raise ValueError(f"{where} has no field {name!r}. {hint}")
    required = [
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in required if name not in tree]:
        raise ValueError(f"{where} lacks {missing}")
    return kind(**{name: _convert(hints[name], value, f"{where}: {name}") for name, value in tree.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, where)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list) and (arguments[-1] is ... or len(value) == len(arguments)):
        return tuple(_convert(arguments[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return {_convert(arguments[0], k, where): _convert(arguments[1], v, where) for k, v in value.items()}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and origin is None and type(value) is hint:
        return value
    expected = f"one of {list(arguments)}" if origin is Literal else getattr(hint, "__name__", str(hint))
    raise ValueError(f"{where} is {value!r}: it must be {expected}")
