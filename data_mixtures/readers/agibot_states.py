"""The two arms of an AgiBot h5 file, in the units and conventions of `poses.py`."""

from dataclasses import dataclass

import h5py
import numpy as np

from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers.hdf5_reading import check_range, dataset_at, read_dataset
from data_mixtures.spaces.poses import ArmTrack
from data_mixtures.spaces.rotations import matrix_from_xyzw, xyzw_from_wxyz

_GRIPPER_CLOSED = 120.0
_FARTHEST_M = 1000.0  # simulation counts from its world's origin
_GRIPPER_SLACK = 6.0  # readings may lie this far outside 0..120
_GRIPPER_ABSURD = 1e4  # beyond this it is no other kind of gripper either


@dataclass(frozen=True)
class ArmStates:
    """Both arms over `length` frames, and what was odd about them."""

    length: int
    left: ArmTrack
    right: ArmTrack
    info: dict[str, object]


def read_arm_states(file: h5py.File, key: str, simulated: bool) -> ArmStates:
    """The two arms of an open h5; BadEpisodeError unless all its tables have one length."""
    position = _optional(file, "state/end/position", (2, 3), key)
    orientation = _optional(file, "state/end/orientation", (2, 4), key)
    grippers, reason = _read_grippers(file, key)
    length = _common_length(file, key, {"end/position": position, "end/orientation": orientation} | grippers)
    if position is not None:
        check_range(position, -_FARTHEST_M, _FARTHEST_M, "state/end/position", key)
    if orientation is not None:
        check_range(np.linalg.norm(orientation, axis=-1), 0.99, 1.01, "the length of state/end/orientation", key)
        orientation = matrix_from_xyzw(xyzw_from_wxyz(orientation) if simulated else orientation)
    left, right = (
        ArmTrack(
            position=None if position is None else position[:, side],
            rotation=None if orientation is None else orientation[:, side],
            gripper=gripper,
        )
        for side, gripper in enumerate(grippers.values())
    )
    info: dict[str, object] = {"gripper": reason} if reason else {}
    surplus = max(_rows(file, path) for path in ("action/end/position", "action/joint/position")) - length
    if surplus > 0:
        info["actions_longer_by"] = surplus
    return ArmStates(length, left, right, info)


def _optional(file: h5py.File, path: str, shape: tuple[int, ...], key: str) -> np.ndarray | None:
    dataset = dataset_at(file, path)
    return None if dataset is None else read_dataset(dataset, path, shape, key)


def _rows(file: h5py.File, path: str) -> int:
    dataset = dataset_at(file, path)
    return dataset.shape[0] if dataset is not None and dataset.ndim else 0


def _common_length(file: h5py.File, key: str, tables: dict[str, np.ndarray | None]) -> int:
    lengths = {path: len(table) for path, table in tables.items() if table is not None}
    lengths |= {path: rows for path in ("timestamp", "state/joint/position") if (rows := _rows(file, path))}
    if not lengths:
        raise BadEpisodeError(key, "empty", "the h5 of its states holds none")
    if len(set(lengths.values())) > 1:
        raise BadEpisodeError(key, "length", f"the states disagree in length: {lengths}")
    return next(iter(lengths.values()))


def _read_grippers(file: h5py.File, key: str) -> tuple[dict[str, np.ndarray | None], str]:
    """Openings [N] of the left and the right gripper, 0 closed .. 1 open, and why they are left out if they are."""
    both = dataset_at(file, "state/effector/position")
    if both is not None and both.shape[1:] == (2,):
        left, right = read_dataset(both, "state/effector/position", (2,), key).T
    else:
        left, right = (_read_split_gripper(file, side, key) for side in ("left", "right"))
    known = np.concatenate([values for values in (left, right) if values is not None] or [[]])
    none: dict[str, np.ndarray | None] = {"left gripper": None, "right gripper": None}
    if not known.size:
        return none, "" if both is None else f"state/effector/position has shape {both.shape}: not two fingers a hand"
    check_range(known, -_GRIPPER_ABSURD, _GRIPPER_ABSURD, "a gripper's position", key)
    if known.min() < -_GRIPPER_SLACK or known.max() > _GRIPPER_CLOSED + _GRIPPER_SLACK:
        return none, f"positions run from {known.min():g} to {known.max():g}, not from 0 (open) to 120 (closed)"
    return {"left gripper": _opening(left), "right gripper": _opening(right)}, ""


def _read_split_gripper(file: h5py.File, side: str, key: str) -> np.ndarray | None:
    path = f"state/{side}_effector/position"
    dataset = dataset_at(file, path)
    if dataset is None or dataset.shape[1:] not in ((), (1,)):
        return None
    return read_dataset(dataset, path, (1,), key)[:, 0]


def _opening(position: np.ndarray | None) -> np.ndarray | None:
    return None if position is None else 1 - (position / _GRIPPER_CLOSED).clip(0, 1)
