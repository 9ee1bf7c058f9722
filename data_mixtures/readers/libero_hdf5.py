"""LIBERO's demonstrations as published (Liu et al., 2023): a folder of <task>_demo.hdf5, some 50 demonstrations each.

data/demo_<i> holds actions [T, 7] and obs/{agentview_rgb, eye_in_hand_rgb [T, 128, 128, 3], ee_states [T, 6] position
(m, world) and axis-angle, gripper_states [T, 2] the fingers' joints, 0.04 and -0.04 m when open}, at 20 Hz.

Known of these files:
- The published ones record frame t AFTER action t (the script steps first), so what is executed between frames t and
  t + 1 is action t + 1. Copies made again by replaying, with no-operations left out, record before stepping, and
  have none of the attributes of `data`. By these the two are told apart.
- Actions are controller commands in -1..1; changes are differenced from ee_states. Only the gripper's command is used
  (-1 opens, +1 closes): fingers around an object say less than what they were told.
- Pictures are bottom row first, as OpenGL gives them (attribute macros_image_convention): rows are turned over here, as
  LIBERO's own video writer does. The RLDS and LeRobot copies were rotated by 180 degrees instead, so theirs are mirror
  images of these: a policy trained on one and run on the other has left and right exchanged.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import h5py
import numpy as np

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode, check_episode
from data_mixtures.readers.hdf5_reading import (
    check_dataset,
    check_range,
    dataset_at,
    open_hdf5,
    read_table,
    text_attribute,
)
from data_mixtures.spaces.poses import ArmCommand, ArmTrack, unify
from data_mixtures.spaces.rotations import matrix_from_axis_angle
from data_mixtures.spaces.unified import LEFT_GRIPPER, Numerics
from data_mixtures.video.opened_files import OpenedFiles

FPS = 20.0
_IMAGES = {"primary": "obs/agentview_rgb", "wrist": "obs/eye_in_hand_rgb"}
_FINGERS_OPEN = 0.08  # m between the Panda's fingers
_FARTHEST = 100.0  # m from the world's origin, and rad: all tables are within 3
_MAX_IMAGE_BYTES = 1 << 34  # of one camera of one demonstration; never read at once
_MAX_FRAME_BYTES = 1 << 28
_DEMO = re.compile(r"demo_(\d+)")
_SCENE = re.compile(r"^[A-Z_]+SCENE\d+_")


def is_libero_hdf5(root: Path) -> bool:
    """Whether the folder holds some <task>_demo.hdf5."""
    return root.is_dir() and any(root.glob("*_demo.hdf5"))


class LiberoHdf5Reader:
    """LIBERO as a `Reader`; keys "<task>/demo_<i>", demonstrations in the order of their numbers."""

    def __init__(self, root: str | Path) -> None:
        self._path = Path(root)
        self.root, self.robot_type, self.cameras = str(root), "panda", list(_IMAGES)
        if not is_libero_hdf5(self._path):
            raise ValueError(f"{root} is no folder of LIBERO demonstrations: expected <task>_demo.hdf5 in it")
        self._opened = OpenedFiles()
        self._keys: list[str] = []
        self.defects: list[Defect] = []
        for path in sorted(self._path.glob("*_demo.hdf5")):
            try:
                demos = self._demonstrations(path)
            except BadEpisodeError as error:
                self.defects.append(error.defect)
                continue
            self._keys += [f"{path.stem.removesuffix('_demo')}/{demo}" for demo in demos]

    def _demonstrations(self, path: Path) -> list[str]:
        self._opened.check(path, path.name)
        with open_hdf5(path, path.name, "it") as file:
            data = _group(file, "data", path.name)
            found = [name for name in map(str, data) if _DEMO.fullmatch(name)]
        if not found:
            raise BadEpisodeError(path.name, "empty", "data holds no demo_<i>")
        return sorted(found, key=lambda name: int(name.removeprefix("demo_")))

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """As "KITCHEN_SCENE3_turn_on_the_stove/demo_0"."""
        return self._keys[index]

    def episode(self, index: int) -> Episode:
        """Episode `index`; see the top of this file for what its numbers are."""
        key = self._keys[index]
        with open_hdf5(self._file(key), key, "its hdf5") as file:
            data = _group(file, "data", key)
            demo = _group(data, key.partition("/")[2], key)
            as_published = "problem_info" in data.attrs
            numerics = _numerics(demo, as_published, key)
            cameras = [name for name in _IMAGES if _images(demo, name, key, len(numerics.state)) is not None]
            text = _instruction(data.attrs, key)
        if not cameras:
            raise BadEpisodeError(key, "column", f"it has no pictures: expected {list(_IMAGES.values())}")
        episode = Episode(
            key=key,
            instruction=text,
            subtasks=[],
            fps=FPS,
            robot_type=self.robot_type,
            numerics=numerics,
            cameras=cameras,
            read_frames=partial(self.frames, index),
            info={"task": key.partition("/")[0], "frames_before_actions": not as_published},
        )
        check_episode(episode)
        return episode

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        """Frames the right way up: uint8 [n, 128, 128, 3] (256 in replayed copies)."""
        key = self._keys[index]
        with open_hdf5(self._file(key), key, "its hdf5") as file:
            data = _group(file, "data", key)
            dataset = _images(_group(data, key.partition("/")[2], key), camera, key)
            if dataset is None:
                raise BadEpisodeError(key, "video", f"there is no camera {camera!r}")
            wanted, places = np.unique(np.asarray(numbers, dtype=np.int64), return_inverse=True)
            if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < len(dataset):
                raise BadEpisodeError(
                    key, "video", f"it has {len(dataset)} frames, {wanted[0]}..{wanted[-1]} were asked"
                )
            frames = np.empty((len(wanted), *dataset.shape[1:]), dtype=np.uint8)
            for place, number in enumerate(wanted.tolist()):
                dataset.read_direct(frames, np.s_[number], np.s_[place])
            if text_attribute(data.attrs, "macros_image_convention") != "opencv":
                frames = frames[:, ::-1]
        return frames[places.reshape(-1)]

    def _file(self, key: str) -> Path:
        path = self._path / f"{key.partition('/')[0]}_demo.hdf5"
        self._opened.check(path, key)
        return path

    @property
    def fingerprint(self) -> str:
        """From the names and sizes of the files and the demonstrations in them."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(b"libero hdf5 1")
        for path in sorted(self._path.glob("*_demo.hdf5")):
            digest.update(f"{path.name} {self._opened.size(path)}\n".encode())
        digest.update("\n".join(self._keys).encode())
        return digest.hexdigest()[:16]


def _group(parent: h5py.Group, name: str, key: str) -> h5py.Group:
    node = parent.get(name)
    if not isinstance(node, h5py.Group):
        raise BadEpisodeError(key, "column", f"there is no group {name!r} in it")
    return node


def _numerics(demo: h5py.Group, as_published: bool, key: str) -> Numerics:
    pose = read_table(demo, "obs/ee_states", (6,), key)
    fingers = read_table(demo, "obs/gripper_states", (2,), key)
    actions = read_table(demo, "actions", (7,), key)
    if not len(pose) == len(fingers) == len(actions):
        lengths = {"ee_states": len(pose), "gripper_states": len(fingers), "actions": len(actions)}
        raise BadEpisodeError(key, "length", f"its tables disagree in length: {lengths}")
    check_range(pose, -_FARTHEST, _FARTHEST, "obs/ee_states (m, rad)", key)
    check_range(fingers, -_FINGERS_OPEN, _FINGERS_OPEN, "obs/gripper_states (m)", key)
    check_range(actions[:, 6], -1.01, 1.01, "the gripper's command", key)
    opening = ((fingers[:, 0] - fingers[:, 1]) / _FINGERS_OPEN).clip(0, 1)
    told = ((1 - actions[:, 6]) / 2).clip(0, 1)
    track = ArmTrack(position=pose[:, :3], rotation=matrix_from_axis_angle(pose[:, 3:]), gripper=opening)
    executed = np.append(told[1:], 0.0) if as_published else told
    numerics = unify(len(pose), left=track, left_command=ArmCommand(gripper=executed))
    if as_published:  # what came after the last frame was not recorded
        numerics.action_mask[-1, LEFT_GRIPPER] = False
    return numerics


def _images(demo: h5py.Group, camera: str, key: str, length: int | None = None) -> h5py.Dataset | None:
    """One camera's frames, None where there are none; BadEpisodeError unless they are `length` RGB pictures."""
    path = _IMAGES.get(camera, "")
    dataset = dataset_at(demo, path) if path else None
    if dataset is None:
        return None
    if dataset.ndim != 4 or dataset.shape[3] != 3 or np.prod(dataset.shape[1:], dtype=object) > _MAX_FRAME_BYTES:
        raise BadEpisodeError(key, "column", f"{path} has shape {dataset.shape}, expected (T, height, width, 3)")
    if dataset.dtype != np.uint8:
        raise BadEpisodeError(key, "column", f"{path} has type {dataset.dtype}, expected uint8")
    check_dataset(dataset, path, "u", _MAX_IMAGE_BYTES, key)
    if length is not None and len(dataset) != length:
        raise BadEpisodeError(key, "length", f"{path} has {len(dataset)} frames, the states {length}")
    return dataset


def _instruction(attributes: h5py.AttributeManager, key: str) -> str:
    """From problem_info; where that is missing (replayed copies), from the file's name without its scene."""
    try:
        problem = json.loads(text_attribute(attributes, "problem_info") or "{}")
    except (ValueError, RecursionError) as error:
        raise BadEpisodeError(key, "unreadable", f"problem_info is not JSON: {error}") from error
    text = problem.get("language_instruction") if isinstance(problem, dict) else None
    if isinstance(text, Sequence) and not isinstance(text, str):
        text = " ".join(str(word) for word in text)
    return str(text).strip() if text else _SCENE.sub("", key.partition("/")[0]).replace("_", " ")
