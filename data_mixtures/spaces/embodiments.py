"""How each robot's raw columns map into the unified spaces of `unified.py`, and back; a user's own needs only YAML.

embodiment:
  robot_type: my_arm
  left:                                     # a single arm fills the left side
    position: {indices: [0, 1, 2], unit: mm}
    rotation: {indices: [3, 4, 5], form: euler_xyz, unit: deg}
    gripper: {index: 6, open: 0.08, closed: 0}
    action: {kind: from_state, gripper: {index: 6, open: 1, closed: -1}}

A robot whose columns have no place there (joints) is taken as it is: `embodiment: {robot_type: my_arm, recorded: {}}`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import draccus
import numpy as np

from data_mixtures.spaces.arm_columns import Gripper, Position, Rotation, Slices, sliced
from data_mixtures.spaces.poses import ArmCommand, ArmTrack, unify
from data_mixtures.spaces.recorded_columns import RecordedColumns
from data_mixtures.spaces.unified import (
    ACTION_DIM,
    ARM_ACTION_DIM,
    LEFT_GRIPPER,
    LEFT_ROTATION,
    LEFT_TRANSLATION,
    STATE_DIM,
    Numerics,
    NumericSpace,
)

ActionKind = Literal["from_state", "delta", "absolute"]
FINGERTIP_VALUES = 30


@dataclass(frozen=True)
class ArmAction:
    """What an arm's action is made of.

    Attributes:
        kind: "from_state": changes are differenced from the arm's state; "delta": the columns hold a change for each
            step (with `scale` where it is a share of a largest step); "absolute": they hold target poses, whose
            differences are the changes.
        position: for "delta" and "absolute".
        rotation: likewise; of "delta" in Euler angles about fixed x, y, z, or another form of the same turn, seen
            from the base (after @ before^T).
        gripper: of any kind; without it, the gripper's state one frame on.
    """

    kind: ActionKind = "from_state"
    position: Position | None = None
    rotation: Rotation | None = None
    gripper: Gripper | None = None


@dataclass(frozen=True)
class Arm:
    """One arm's state and action; None where the robot does not record a part.

    Attributes:
        position: of the end effector, in the robot's base (or world).
        rotation: of the end effector, to the robot's base (or world).
        gripper: its opening.
        action: what its actions are made of.
    """

    position: Position | None = None
    rotation: Rotation | None = None
    gripper: Gripper | None = None
    action: ArmAction = field(default_factory=ArmAction)


@dataclass(frozen=True)
class Fingertips:
    """Ten fingertip positions in a state column.

    Attributes:
        indices: 30 places: left thumb, index, middle, ring, little, then right; x, y, z each.
        unit: of the raw values.
        column: where not the embodiment's `state_column`.
    """

    indices: list[int]
    unit: Literal["m", "cm", "mm"] = "m"
    column: str | None = None


@dataclass(frozen=True)
class Embodiment:
    """A robot's raw state and action columns, with the units and frames they are in.

    Attributes:
        robot_type: the robot's name. One that `EMBODIMENTS` knows, with no arm described here, stands for that row.
        left: the left arm, or the only one.
        right: the right arm.
        fingertips: of hands.
        recorded: instead of arms and fingertips: the columns as they are, outside the unified spaces.
        action_range: lowest and highest raw command; `action_from_unified` cuts to them.
        state_column: the column of every state part that names none.
        action_column: the column of every action part that names none.
        fps: the true rate, where the data set's own is wrong.
        state_values: values the raw state column has, where the description does not reach the last of them.
    """

    robot_type: str = ""
    left: Arm | None = None
    right: Arm | None = None
    fingertips: Fingertips | None = None
    recorded: RecordedColumns | None = None
    action_range: list[float] | None = None
    state_column: str = "observation.state"
    action_column: str = "action"
    fps: float | None = None
    state_values: int | None = None

    @property
    def arms(self) -> dict[str, Arm]:
        """The arms there are, by side."""
        return {side: arm for side, arm in (("left", self.left), ("right", self.right)) if arm is not None}

    @property
    def space(self) -> NumericSpace:
        """What the dimensions of its numerics are."""
        return "unified" if self.recorded is None else "recorded"

    @property
    def columns(self) -> list[str]:
        """The raw columns that `numerics` reads, each once."""
        if self.recorded is not None:
            return [self.state_column, self.action_column]
        parts = [(part, self.state_column) for arm in self.arms.values() for part in _parts(arm)]
        parts += [(part, self.action_column) for arm in self.arms.values() for part in _parts(arm.action)]
        parts += [(self.fingertips, self.state_column)] if self.fingertips else []
        return list(dict.fromkeys(part.column or default for part, default in parts))

    def numerics(self, columns: Mapping[str, np.ndarray]) -> Numerics:
        """One episode's raw columns, [T, d] each, in the unified spaces.

        Raises:
            ValueError: a column is missing, or narrower than the description says.
        """
        if self.recorded is not None:
            return self.recorded.numerics(columns[self.state_column], columns[self.action_column])
        raw = _RawColumns(columns, self.state_column, self.action_column)
        length = len(next(iter(columns.values())))
        tracks = {side: _track(arm, raw.state) for side, arm in self.arms.items()}
        tips = None
        if self.fingertips is not None:
            tips = raw.fingertips(self.fingertips).reshape(length, 10, 3)
        states = _unify(length, tracks, {}, tips)
        # A track would go before a command in unify, so the actions are made of what each arm's kind says, alone.
        sources = {side: _action_source(arm, tracks[side], raw.action) for side, arm in self.arms.items()}
        actions = _unify(
            length,
            {side: track for side, (track, _) in sources.items()},
            {side: command for side, (_, command) in sources.items()},
            tips,
        )
        return Numerics(states.state, states.state_mask, actions.actions, actions.action_mask)

    def to_unified_state(self, raw: np.ndarray) -> np.ndarray:
        """Raw values of the state column [..., d] -> float32 [..., 46], 0 where the robot has no such dimension."""
        if self.recorded is not None:
            return self.recorded.pack(raw, self.recorded.state, STATE_DIM)
        rows = raw.reshape(-1, raw.shape[-1])
        tracks = {side: _track(arm, self._of_state(rows)) for side, arm in self.arms.items()}
        return _unify(len(rows), tracks, {}).state.reshape(*raw.shape[:-1], STATE_DIM)

    def to_unified_action(self, raw: np.ndarray) -> np.ndarray:
        """Raw values of the action column [..., d] -> float32 [..., 44], 0 where the robot has no such dimension."""
        if self.recorded is not None:
            return self.recorded.pack(raw, self.recorded.action, ACTION_DIM)
        self._check_delta("read frame by frame")
        rows = raw.reshape(-1, raw.shape[-1])
        commands = {side: _command(arm, self._of_action(rows)) for side, arm in self.arms.items()}
        return _unify(len(rows), {}, commands).actions.reshape(*raw.shape[:-1], ACTION_DIM)

    def action_from_unified(self, action: np.ndarray) -> np.ndarray:
        """Actions [..., 44] -> raw commands float32 [..., d], cut to `action_range`; recorded places in their order."""
        if self.recorded is not None:
            return self._within_range(action[..., : self.action_width])
        self._check_delta("turned into commands")
        raw = np.zeros((*action.shape[:-1], self.action_width), dtype=np.float32)
        for side, arm in self.arms.items():
            own = action[..., (0 if side == "left" else ARM_ACTION_DIM) :]
            if arm.action.position is not None:
                arm.action.position.write(own[..., LEFT_TRANSLATION], raw)
            if arm.action.rotation is not None:
                arm.action.rotation.write_change(own[..., LEFT_ROTATION], raw)
            if arm.action.gripper is not None:
                arm.action.gripper.write(own[..., LEFT_GRIPPER], raw)
        return self._within_range(raw)

    def _within_range(self, raw: np.ndarray) -> np.ndarray:
        return raw if self.action_range is None else raw.clip(self.action_range[0], self.action_range[1])

    @property
    def state_mask(self) -> np.ndarray:
        """The unified state dimensions this robot has: bool [46]."""
        if self.recorded is not None:
            return self.recorded.mask(self.recorded.state, STATE_DIM)
        return self._dummy.state_mask[0]

    @property
    def action_mask(self) -> np.ndarray:
        """The unified action dimensions this robot has: bool [44]."""
        if self.recorded is not None:
            return self.recorded.mask(self.recorded.action, ACTION_DIM)
        return self._dummy.action_mask[0]

    @property
    def _dummy(self) -> Numerics:
        """Two frames of zeros, for their masks (the last frame's differenced action has none)."""
        width = 1 + max((max(part_indices) for part_indices in self._indices()), default=0)
        return self.numerics({name: np.zeros((2, width), dtype=np.float32) for name in self.columns} or _NO_COLUMNS)

    def _indices(self) -> list[list[int]]:
        parts = [part for arm in self.arms.values() for part in [*_parts(arm), *_parts(arm.action)]]
        return [_places(part) for part in parts] + ([self.fingertips.indices] if self.fingertips else [])

    @property
    def state_width(self) -> int:
        """Values of the raw state column, as far as the description or `state_values` reaches."""
        if self.recorded is not None:
            return max(self.recorded.state or [], default=-1) + 1
        places = [place for arm in self.arms.values() for part in _parts(arm) for place in _places(part)]
        places += self.fingertips.indices if self.fingertips else []
        return max([*places, (self.state_values or 0) - 1], default=-1) + 1

    @property
    def action_width(self) -> int:
        """Values of a raw command."""
        if self.recorded is not None:
            return len(self.recorded.action or [])
        return 1 + max(max(_places(part)) for arm in self.arms.values() for part in _parts(arm.action))

    def _of_state(self, rows: np.ndarray) -> "_Column":
        return _RawColumns({self.state_column: rows}, self.state_column, self.action_column).state

    def _of_action(self, rows: np.ndarray) -> "_Column":
        return _RawColumns({self.action_column: rows}, self.state_column, self.action_column).action

    def _check_delta(self, wish: str) -> None:
        kinds = {side: arm.action.kind for side, arm in self.arms.items()}
        if not kinds or set(kinds.values()) != {"delta"}:
            raise ValueError(
                f"the actions of {self.robot_type!r} are {kinds}: only 'delta' actions can be {wish}, "
                "because the others are differences between frames"
            )


_NO_COLUMNS = {"none": np.zeros((2, 1), dtype=np.float32)}
_Column = Callable[[Position | Rotation | Gripper], np.ndarray]


class _RawColumns:
    """One episode's raw columns, looked up by the parts that lie in them."""

    def __init__(self, columns: Mapping[str, np.ndarray], state_column: str, action_column: str) -> None:
        self.columns, self.state_column, self.action_column = columns, state_column, action_column

    def state(self, part: Position | Rotation | Gripper) -> np.ndarray:
        """The state column, or the part's own: [T, d]."""
        return self._column(part.column or self.state_column, _places(part))

    def action(self, part: Position | Rotation | Gripper) -> np.ndarray:
        """The action column, or the part's own: [T, d]."""
        return self._column(part.column or self.action_column, _places(part))

    def fingertips(self, tips: Fingertips) -> np.ndarray:
        """Metres [T, 30]."""
        raw = self._column(tips.column or self.state_column, tips.indices)
        return raw[:, tips.indices] * {"m": 1.0, "cm": 0.01, "mm": 0.001}[tips.unit]

    def _column(self, name: str, indices: Sequence[int]) -> np.ndarray:
        if name not in self.columns:
            raise ValueError(f"column {name!r} is missing; there are {sorted(self.columns)}")
        raw = self.columns[name]
        if raw.ndim != 2 or max(indices) >= raw.shape[1]:
            raise ValueError(f"column {name!r} is {list(raw.shape)}, but its place {max(indices)} is described")
        return raw if raw.dtype in (np.float32, np.float64) else raw.astype(np.float64)


def _places(part: Position | Rotation | Gripper) -> list[int]:
    if isinstance(part, Gripper):
        return [part.index or 0]
    return [index for index in part.indices or [] if index is not None] or [0]


def _parts(owner: Arm | ArmAction) -> list[Position | Rotation | Gripper]:
    return [part for part in (owner.position, owner.rotation, owner.gripper) if part is not None]


def _track(owner: Arm | ArmAction, column: _Column) -> ArmTrack:
    return ArmTrack(
        position=owner.position.read(column(owner.position)) if owner.position else None,
        rotation=owner.rotation.read(column(owner.rotation)) if owner.rotation else None,
        gripper=owner.gripper.read(column(owner.gripper)) if owner.gripper else None,
        position_axes=owner.position.axes if owner.position else (0, 1, 2),
    )


def _command(arm: Arm, column: _Column) -> ArmCommand:
    action = arm.action
    return ArmCommand(
        translation=action.position.read(column(action.position)) if action.position else None,
        rotation=action.rotation.read_change(column(action.rotation)) if action.rotation else None,
        gripper=action.gripper.read(column(action.gripper)) if action.gripper else None,
        translation_axes=action.position.axes if action.position else (0, 1, 2),
    )


def _action_source(arm: Arm, state: ArmTrack, column: _Column) -> tuple[ArmTrack, ArmCommand]:
    """What this arm's changes are made of: a track to difference, and a command for what the track does not hold."""
    gripper = arm.action.gripper
    if arm.action.kind == "delta":
        command = _command(arm, column)
        return ArmTrack(gripper=None if gripper else state.gripper), command
    opening = ArmCommand(gripper=gripper.read(column(gripper)) if gripper else None)
    if arm.action.kind == "from_state":
        return state, opening
    target = _track(arm.action, column)
    return replace(target, gripper=state.gripper), opening


def _unify(
    length: int,
    tracks: Mapping[str, ArmTrack],
    commands: Mapping[str, ArmCommand],
    fingertips: np.ndarray | None = None,
) -> Numerics:
    return unify(
        length,
        left=tracks.get("left"),
        right=tracks.get("right"),
        left_command=commands.get("left"),
        right_command=commands.get("right"),
        fingertips=fingertips,
    )


def embodiment_from(stored: Mapping[str, object]) -> Embodiment:
    """An embodiment from what `dataclasses.asdict` made of it."""
    return draccus.decode(Embodiment, stored)


def checked(embodiment: Embodiment, slices: Slices | None = None) -> Embodiment:
    """The embodiment that a description stands for: the known row it names, or itself with its slices looked up.

    Args:
        embodiment: as parsed from YAML.
        slices: of the data set's meta/modality.json.

    Raises:
        ValueError: it describes nothing, or something that cannot be right; the field is named.
    """
    if embodiment.recorded is not None:
        if embodiment.arms or embodiment.fingertips is not None:
            raise ValueError("embodiment has `recorded` and arms or fingertips: the columns are taken one way only")
        return embodiment
    if not embodiment.arms and embodiment.fingertips is None:
        known = embodiment_of(embodiment.robot_type)
        return known if embodiment.fps is None else replace(known, fps=embodiment.fps)
    arms = {side: _checked_arm(f"embodiment.{side}", arm, slices or {}) for side, arm in embodiment.arms.items()}
    tips = embodiment.fingertips
    if tips is not None and (len(tips.indices) != FINGERTIP_VALUES or min(tips.indices) < 0):
        raise ValueError(f"embodiment.fingertips.indices has {len(tips.indices)} places: give 30, counted from 0")
    limits = embodiment.action_range
    if limits is not None and (len(limits) != 2 or not limits[0] < limits[1]):
        raise ValueError(f"embodiment.action_range is {limits}: give the lowest and the highest raw command")
    return replace(embodiment, **arms)


def _checked_arm(name: str, arm: Arm, slices: Slices) -> Arm:
    action = arm.action
    arm = replace(arm, **{f.name: sliced(getattr(arm, f.name), "state", slices) for f in fields(arm)[:3]})
    action = replace(action, **{f.name: sliced(getattr(action, f.name), "action", slices) for f in fields(action)[1:]})
    for owner_name, owner in ((name, arm), (f"{name}.action", action)):
        for part_name in ("position", "rotation", "gripper"):
            part = getattr(owner, part_name)
            if part is not None:
                part.check(f"{owner_name}.{part_name}")
    described = action.position or action.rotation
    if action.kind == "from_state" and described:
        raise ValueError(f"{name}.action.kind is 'from_state', which reads no pose: remove the pose, or change kind")
    if action.kind != "from_state" and not described:
        raise ValueError(f"{name}.action.kind is {action.kind!r}, but neither position nor rotation is described")
    return replace(arm, action=action)


# Meta-World's Sawyer. State: end effector xyz (m, world), gripper opening 0..1. Action: commands in [-1, 1], xyz then
# gripper (-1 opens, +1 closes). A command of 1 moves the mocap target 0.01 m in each simulator step, and one
# decision is repeated for 3 steps.
METAWORLD_SAWYER = Embodiment(
    robot_type="metaworld_sawyer",
    left=Arm(
        position=Position([0, 1, 2]),
        gripper=Gripper(index=3, open=1.0, closed=0.0),
        action=ArmAction("delta", Position([0, 1, 2], scale=0.03), gripper=Gripper(index=3, open=-1.0, closed=1.0)),
    ),
    action_range=[-1.0, 1.0],
)

# The same arm as CLAM sees it (Liang et al. 2025, appendix E): all 39 numbers Meta-World observes, objects and goal
# among them, so they are taken as they are. Action: its commands in [-1, 1], repeated for 2 steps.
METAWORLD_FULL = Embodiment(
    robot_type="metaworld_full",
    recorded=RecordedColumns(state=list(range(39)), action=list(range(4))),
    action_range=[-1.0, 1.0],
)

# gymnasium's robots: what they observe and the torques they take, neither of which has a place in the unified spaces.
GYMNASIUM_HOPPER = Embodiment(
    robot_type="gymnasium_hopper",
    recorded=RecordedColumns(state=list(range(11)), action=list(range(3))),
    action_range=[-1.0, 1.0],
)
GYMNASIUM_HALFCHEETAH = Embodiment(
    robot_type="gymnasium_halfcheetah",
    recorded=RecordedColumns(state=list(range(17)), action=list(range(6))),
    action_range=[-1.0, 1.0],
)
GYMNASIUM_WALKER2D = Embodiment(
    robot_type="gymnasium_walker2d",
    recorded=RecordedColumns(state=list(range(17)), action=list(range(6))),
    action_range=[-1.0, 1.0],
)

# CALVIN's Franka with the desk around it: 15 numbers of the robot and 24 of the scene, and relative commands.
CALVIN_SCENE = Embodiment(
    robot_type="calvin_scene",
    recorded=RecordedColumns(state=list(range(39)), action=list(range(7))),
    action_range=[-1.0, 1.0],
)

# LIBERO's Panda as its LeRobot copies hold it. State: end effector xyz (m), axis-angle, two finger joints (0 to +0.04
# and 0 to -0.04 m). Action: the OSC pose controller's command, +-1 being 0.05 m and 0.5 rad, and the gripper, -1 open.
# Recorded at 20 Hz, though the copies' info.json says 10.
LIBERO = Embodiment(
    robot_type="libero",
    left=Arm(
        position=Position([0, 1, 2]),
        rotation=Rotation("axis_angle", [3, 4, 5]),
        gripper=Gripper(index=6, open=0.04, closed=0.0),
        action=ArmAction(gripper=Gripper(index=6, open=-1.0, closed=1.0)),
    ),
    action_range=[-1.0, 1.0],
    fps=20.0,
    state_values=8,
)

# The same, with the commands themselves as actions: for a policy that is to drive the simulator's controller.
LIBERO_COMMANDS = replace(
    LIBERO,
    robot_type="libero_commands",
    left=replace(
        LIBERO.left or Arm(),
        action=ArmAction(
            "delta",
            Position([0, 1, 2], scale=0.05),
            Rotation("axis_angle", [3, 4, 5], scale=0.5),
            Gripper(index=6, open=-1.0, closed=1.0),
        ),
    ),
)

# SIMPLER's robots, for policies trained on Bridge and on RT-1's data. States as these data sets hold them: xyz (m) and
# rotation in the base frame, Bridge's as the turn from pointing down in Euler angles with the opening, RT-1's as a
# quaternion with the closedness. Actions: changes in one control period, and the wanted opening.
_CHANGES = ArmAction(
    "delta", Position([0, 1, 2]), Rotation("euler_xyz", [3, 4, 5]), Gripper(index=6, open=1.0, closed=0.0)
)
SIMPLER_WIDOWX = Embodiment(
    robot_type="simpler_widowx",
    left=Arm(
        position=Position([0, 1, 2]),
        rotation=Rotation("euler_xyz", [3, 4, 5]),
        gripper=Gripper(index=6, open=1.0, closed=0.0),
        action=_CHANGES,
    ),
)
SIMPLER_GOOGLE = Embodiment(
    robot_type="simpler_google",
    left=Arm(
        position=Position([0, 1, 2]),
        rotation=Rotation("quaternion_xyzw", [3, 4, 5, 6]),
        gripper=Gripper(index=7, open=0.0, closed=1.0),
        action=_CHANGES,
    ),
)

EMBODIMENTS = {
    robot.robot_type: robot
    for robot in (
        *(METAWORLD_SAWYER, METAWORLD_FULL),
        *(GYMNASIUM_HOPPER, GYMNASIUM_HALFCHEETAH, GYMNASIUM_WALKER2D, CALVIN_SCENE),
        *(LIBERO, LIBERO_COMMANDS, SIMPLER_WIDOWX, SIMPLER_GOOGLE),
    )
}


def embodiment_of(robot_type: str) -> Embodiment:
    """The embodiment a data set's `robot_type` names."""
    if robot_type not in EMBODIMENTS:
        raise ValueError(
            f"robot_type {robot_type!r} has no unified mapping; known: {list(EMBODIMENTS)}. Describe its columns "
            "under `embodiment:` beside the data set's path, or read it as video only with labelled_share: 0"
        )
    return EMBODIMENTS[robot_type]
