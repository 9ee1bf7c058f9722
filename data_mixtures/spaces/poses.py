"""From what a robot or a hand recorded to the unified spaces: states as they are, actions as changes between them."""

from dataclasses import dataclass

import numpy as np

from data_mixtures.spaces.rotations import rotation_change, xyzw_from_matrix
from data_mixtures.spaces.unified import (
    ACTION_DIM,
    ACTION_FINGERTIPS,
    ARM_ACTION_DIM,
    ARM_STATE_DIM,
    LEFT_GRIPPER,
    LEFT_ROTATION,
    LEFT_TRANSLATION,
    STATE_DIM,
    STATE_FINGERTIPS,
    STATE_LEFT_GRIPPER,
    STATE_LEFT_POSITION,
    STATE_LEFT_QUATERNION,
    Numerics,
)


@dataclass(frozen=True)
class ArmTrack:
    """Where one arm's end effector was in T frames; None where that was not recorded.

    Attributes:
        position: [T, 3], m; `position_axes` are the ones that were measured.
        rotation: [T, 3, 3], end effector to base.
        gripper: [T], 0 closed .. 1 open.
        position_axes: of 0, 1, 2.
        valid: bool [T], False where the arm was not tracked.
    """

    position: np.ndarray | None = None
    rotation: np.ndarray | None = None
    gripper: np.ndarray | None = None
    position_axes: tuple[int, ...] = (0, 1, 2)
    valid: np.ndarray | None = None


@dataclass(frozen=True)
class ArmCommand:
    """What one arm was told at each of T frames, used where there is no track to difference; None where not recorded.

    Attributes:
        translation: [T, 3], m a step; `translation_axes` are the ones that were commanded.
        rotation: [T, 3], change as Euler angles about the fixed x, y, z, rad a step; `rotation_axes` likewise.
        gripper: [T], 0 closed .. 1 open, absolute; goes before the track's.
        translation_axes: of 0, 1, 2.
        rotation_axes: of 0, 1, 2.
    """

    translation: np.ndarray | None = None
    rotation: np.ndarray | None = None
    gripper: np.ndarray | None = None
    translation_axes: tuple[int, ...] = (0, 1, 2)
    rotation_axes: tuple[int, ...] = (0, 1, 2)


def unify(
    length: int,
    left: ArmTrack | None = None,
    right: ArmTrack | None = None,
    left_command: ArmCommand | None = None,
    right_command: ArmCommand | None = None,
    fingertips: np.ndarray | None = None,
    fingertips_valid: np.ndarray | None = None,
) -> Numerics:
    """States [length, 46] and actions [length, 44] with their masks.

    Changes come from the track where it has that part, else from the command, else they are masked. Action t leads
    from frame t to t + 1, so a differenced part is masked at the last frame and on both sides of an invalid one. The
    action's gripper is the command's where given, else the track's at t + 1.

    Args:
        length: T.
        left: the left arm's track (a single-arm robot's).
        right: the right arm's.
        left_command: the left arm's command.
        right_command: the right arm's.
        fingertips: [T, 10, 3], m; left thumb, index, middle, ring, little, then right.
        fingertips_valid: bool [T, 10], False where one was not tracked.
    """
    state, state_mask = np.zeros((length, STATE_DIM)), np.zeros((length, STATE_DIM), dtype=bool)
    actions, action_mask = np.zeros((length, ACTION_DIM)), np.zeros((length, ACTION_DIM), dtype=bool)
    for arm, (track, command) in enumerate(((left, left_command), (right, right_command))):
        of_state = slice(arm * ARM_STATE_DIM, (arm + 1) * ARM_STATE_DIM)
        of_action = slice(arm * ARM_ACTION_DIM, (arm + 1) * ARM_ACTION_DIM)
        if command is not None:
            _write_command(command, actions[:, of_action], action_mask[:, of_action])
        if track is not None:
            _write_state(track, state[:, of_state], state_mask[:, of_state])
            _write_changes(
                track, command is None or command.gripper is None, actions[:, of_action], action_mask[:, of_action]
            )
    if fingertips is not None:
        tracked = np.ones((length, 10), dtype=bool) if fingertips_valid is None else fingertips_valid
        state[:, STATE_FINGERTIPS] = fingertips.reshape(length, 30)
        state_mask[:, STATE_FINGERTIPS] = np.repeat(tracked, 3, axis=1)
        with np.errstate(invalid="ignore"):
            actions[:-1, ACTION_FINGERTIPS] = np.diff(state[:, STATE_FINGERTIPS], axis=0)
        action_mask[:-1, ACTION_FINGERTIPS] = np.repeat(tracked[1:] & tracked[:-1], 3, axis=1)
    return Numerics(*_masked(state, state_mask), *_masked(actions, action_mask))


def _masked(values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(over="ignore", invalid="ignore"):  # what no float32 holds becomes inf, which check_episode finds
        return np.where(mask, values, 0.0).astype(np.float32), mask


def _write_command(command: ArmCommand, actions: np.ndarray, mask: np.ndarray) -> None:
    """Into views [T, 7] of one arm's actions and mask."""
    for part, values, axes in (
        (LEFT_TRANSLATION, command.translation, command.translation_axes),
        (LEFT_ROTATION, command.rotation, command.rotation_axes),
    ):
        if values is not None:
            actions[:, part] = values
            mask[:, [part.start + axis for axis in axes]] = True
    if command.gripper is not None:
        actions[:, LEFT_GRIPPER], mask[:, LEFT_GRIPPER] = command.gripper, True


def _write_state(track: ArmTrack, state: np.ndarray, mask: np.ndarray) -> None:
    """Into views [T, 8] of one arm's state and mask."""
    valid = slice(None) if track.valid is None else track.valid
    if track.position is not None:
        state[:, STATE_LEFT_POSITION] = track.position
        for axis in track.position_axes:
            mask[valid, STATE_LEFT_POSITION.start + axis] = True
    if track.rotation is not None:
        state[:, STATE_LEFT_QUATERNION] = xyzw_from_matrix(track.rotation)
        mask[valid, STATE_LEFT_QUATERNION] = True
    if track.gripper is not None:
        state[:, STATE_LEFT_GRIPPER] = track.gripper
        mask[valid, STATE_LEFT_GRIPPER] = True


def _write_changes(track: ArmTrack, with_gripper: bool, actions: np.ndarray, mask: np.ndarray) -> None:
    """Over what a command may have left in views [T, 7] of one arm's actions and mask."""
    both = np.zeros(len(actions), dtype=bool)  # frames whose own and next pose were tracked
    valid = np.ones(len(actions), dtype=bool) if track.valid is None else track.valid
    both[:-1] = valid[:-1] & valid[1:]
    if track.position is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            changes = np.diff(track.position, axis=0)
        for axis in track.position_axes:
            actions[:-1, LEFT_TRANSLATION.start + axis] = changes[:, axis]
            mask[:, LEFT_TRANSLATION.start + axis] = both
    if track.rotation is not None:
        actions[:-1, LEFT_ROTATION] = rotation_change(track.rotation[:-1], track.rotation[1:])
        mask[:, LEFT_ROTATION] = both[:, None]
    if track.gripper is not None and with_gripper:
        actions[:-1, LEFT_GRIPPER] = track.gripper[1:]
        # open or closed at t + 1 is known without knowing it at t
        mask[:, LEFT_GRIPPER] = np.append(valid[1:], False)
