"""EgoDex: hands of people at work, seen and tracked by a headset (Hoque et al., 2025).

{part1..part5|test|extra}/<task>/<N>.hdf5 beside <N>.mp4 (1920 x 1080, 30 fps; frame t of the video belongs to row t):
- transforms/<joint> [T, 4, 4], row-major, joint to world: y up, metres, the origin elsewhere in every recording.
  `camera` is among them; its axes are used as recorded (those the published intrinsics project with).
- confidences/<joint> [T], missing in some files: below 0.1 the joint was not tracked.
- attributes: see `instruction`.

Frames. The world's origin means nothing, so hands are given as the camera sees them. A policy sees one picture and acts
in its axes, so a window belongs in the camera frame of its first frame. An episode does not know its windows:
- state t is in camera t's frame, which is exact for a window that starts at t;
- action t is what hands and fingertips do in the world between t and t + 1, in the axes of camera t. The head's own
  motion is not part of it, and for a window that starts at t it is exact.
A window's later actions are in axes that have turned with the head since. `camera_frames.turned_actions` turns them
back exactly, with the camera's rotations in `Episode.info["camera_rotation"]` (float32 [T, 3, 3], camera to world).
Without that, a head that turns by 30 degrees a second makes the last of 16 actions err by a quarter of its length.
"""

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import h5py
import numpy as np

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode, check_episode
from data_mixtures.readers.hdf5_reading import (
    check_range,
    dataset_at,
    open_hdf5,
    read_dataset,
    read_table,
    text_attribute,
)
from data_mixtures.spaces.camera_frames import turned_actions
from data_mixtures.spaces.poses import ArmTrack, unify
from data_mixtures.spaces.unified import Numerics
from data_mixtures.video.files import check_video, video_frames
from data_mixtures.video.opened_files import OpenedFiles

FPS = 30.0
MIN_CONFIDENCE = 0.1
SIDES = ("left", "right")
FINGERS = ("Thumb", "IndexFinger", "MiddleFinger", "RingFinger", "LittleFinger")
_FARTHEST_M = 10.0  # hands end within one metre of the eyes
_TOLERANCE = 1e-2  # of what must be a rotation; float32 gives 1e-6


def is_egodex(root: Path) -> bool:
    """Whether some <task>/<N>.hdf5 lies there, or one folder deeper, beside its mp4."""
    if not root.is_dir():
        return False
    pairs = (_pairs(folder) for folder in islice(_task_folders(root), 8))  # other sets may have a million folders
    return any(both for both, _, _ in pairs)


class EgoDexReader:
    """EgoDex as a `Reader`; keys are paths without suffix, as "part1/add_remove_lid/0".

    Both hands are arms without grippers (`leftHand` and `rightHand`, the wrists), and all ten fingertips are given.
    """

    def __init__(self, root: str | Path) -> None:
        self._path = Path(root)
        self.root, self.robot_type, self.cameras = str(root), "human", ["primary"]
        self._opened = OpenedFiles()
        self._keys: list[str] = []
        self.defects: list[Defect] = []
        if not self._path.is_dir():
            raise ValueError(f"{root} is no folder: give the one with EgoDex's part1, test, ... or one of these")
        for folder in _task_folders(self._path):
            self._add(folder)
        if not self._keys:
            raise ValueError(f"{root} is no EgoDex folder: expected <part>/<task>/<N>.hdf5 beside <N>.mp4")

    def _add(self, folder: Path) -> None:
        name = folder.relative_to(self._path).as_posix()
        both, only_hdf5, only_mp4 = _pairs(folder)
        for stem in sorted(both | only_hdf5, key=lambda stem: (int(stem) if stem.isdecimal() else 1 << 62, stem)):
            self._keys.append(f"{name}/{stem}")
            if stem in only_hdf5:
                self.defects.append(Defect(f"{name}/{stem}", "video", "there is no mp4 beside the hdf5"))
        self.defects += [
            Defect(f"{name}/{stem}", "unreadable", "there is no hdf5 beside the mp4") for stem in sorted(only_mp4)
        ]

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """As "part1/add_remove_lid/0"."""
        return self._keys[index]

    def episode(self, index: int) -> Episode:
        """Episode `index`; see the top of this file for the frames its numbers are in."""
        key = self._keys[index]
        file_name = self._path / f"{key}.hdf5"
        self._opened.check(file_name, key)
        with open_hdf5(file_name, key, "the hdf5 of its poses") as file:
            numerics, camera = _read_hands(file, key)
            text = instruction(file.attrs)
        check_video(self._video(key), key, len(numerics.state))
        episode = Episode(
            key=key,
            instruction=text,
            subtasks=[],
            fps=FPS,
            robot_type=self.robot_type,
            numerics=numerics,
            cameras=self.cameras,
            read_frames=partial(self.frames, index),
            info={"task": key.split("/")[-2], "camera_rotation": camera.astype(np.float32)},
        )
        check_episode(episode)
        return episode

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        """Frames as recorded, uint8 [n, 1080, 1920, 3]."""
        key = self._keys[index]
        if camera not in self.cameras:
            raise BadEpisodeError(key, "video", f"there is no camera {camera!r}, only {self.cameras}")
        return video_frames(self._video(key), key, numbers)

    def _video(self, key: str) -> Path:
        path = self._path / f"{key}.mp4"
        self._opened.check(path, key)
        return path

    @property
    def fingerprint(self) -> str:
        """From the names and sizes of all hdf5 files and videos."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(b"egodex 2")
        for key in self._keys:
            sizes = [self._opened.size(self._path / f"{key}{suffix}") for suffix in (".hdf5", ".mp4")]
            digest.update(f"{key} {sizes}\n".encode())
        return digest.hexdigest()[:16]


def instruction(attributes: h5py.AttributeManager) -> str:
    """What was asked for: one of the two directions of a reversible task, else its one description; '' for none.

    In files of llm_type "reversible", which_llm_description says whether llm_description ("1") or llm_description2
    ("2") was done. Missing texts are the word None.
    """
    first, second = (text_attribute(attributes, name) for name in ("llm_description", "llm_description2"))
    reverse = text_attribute(attributes, "which_llm_description") == "2"
    if text_attribute(attributes, "llm_type") == "reversible" and reverse and second:
        return second
    return first or text_attribute(attributes, "description")


def _task_folders(root: Path) -> Iterator[Path]:
    """Folders with hdf5 files, one or two levels below the root, sorted."""
    for folder in _folders(root):
        if any(_pairs(folder)):
            yield folder
        else:
            yield from _folders(folder)


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [folder / name for name in sorted(e.name for e in entries if e.is_dir() and e.name[0] not in "._")]


def _pairs(folder: Path) -> tuple[set[str], set[str], set[str]]:
    """Stems of a folder's files that are there as hdf5 and mp4, as hdf5 only, as mp4 only."""
    with os.scandir(folder) as entries:
        names = [os.path.splitext(entry.name) for entry in entries if not entry.name.startswith(".")]
    hdf5 = {stem for stem, suffix in names if suffix == ".hdf5"}
    mp4 = {stem for stem, suffix in names if suffix == ".mp4"}
    return hdf5 & mp4, hdf5 - mp4, mp4 - hdf5


def _read_hands(file: h5py.File, key: str) -> tuple[Numerics, np.ndarray]:
    """Numerics of the whole recording, and the camera's rotations [T, 3, 3] to the world."""
    camera = read_table(file, "transforms/camera", (4, 4), key)
    length = len(camera)
    _check_poses(camera, np.ones(length, dtype=bool), "camera", key)
    to_camera, origin = camera[:, :3, :3].swapaxes(-1, -2), camera[:, :3, 3]
    world, seen = [], []
    for side in SIDES:
        pose, valid = _joint(file, f"{side}Hand", length, key)
        _check_poses(pose, valid, f"{side}Hand", key)
        position, rotation = pose[:, :3, 3], pose[:, :3, :3]
        world.append(ArmTrack(position, rotation, valid=valid))
        position = (to_camera @ (position - origin)[..., None])[..., 0]
        check_range(position[valid], -_FARTHEST_M, _FARTHEST_M, f"{side}Hand, from the camera (m),", key)
        seen.append(ArmTrack(position, to_camera @ rotation, valid=valid))
    tips = [_joint(file, f"{side}{finger}Tip", length, key) for side in SIDES for finger in FINGERS]
    tip_positions = np.stack([pose[:, :3, 3] for pose, _ in tips], axis=1)
    tips_valid = np.stack([valid for _, valid in tips], axis=1)
    seen_tips = (tip_positions - origin[:, None]) @ camera[:, :3, :3]
    check_range(seen_tips[tips_valid], -_FARTHEST_M, _FARTHEST_M, "a fingertip, from the camera (m),", key)
    by_camera = unify(length, left=seen[0], right=seen[1], fingertips=seen_tips, fingertips_valid=tips_valid)
    in_world = unify(length, left=world[0], right=world[1], fingertips=tip_positions, fingertips_valid=tips_valid)
    actions = turned_actions(in_world.actions, to_camera)
    return Numerics(by_camera.state, by_camera.state_mask, actions, in_world.action_mask), camera[:, :3, :3]


def _joint(file: h5py.File, joint: str, length: int, key: str) -> tuple[np.ndarray, np.ndarray]:
    """A joint's poses [T, 4, 4] in the world, and in which frames it was tracked, bool [T]."""
    pose = read_table(file, f"transforms/{joint}", (4, 4), key)
    valid = np.ones(len(pose), dtype=bool)
    confidences = dataset_at(file, f"confidences/{joint}")
    if confidences is not None:
        valid = read_dataset(confidences, f"confidences/{joint}", (1,), key)[:, 0] >= MIN_CONFIDENCE
    if not len(pose) == len(valid) == length:
        lengths = f"{len(pose)} poses and {len(valid)} confidences"
        raise BadEpisodeError(key, "length", f"{joint} has {lengths}, the camera {length} poses")
    return pose, valid


def _check_poses(pose: np.ndarray, valid: np.ndarray, joint: str, key: str) -> None:
    """BadEpisodeError unless every tracked pose [T, 4, 4] is a rotation and a position."""
    tracked = pose[valid]
    if not np.isfinite(tracked).all():
        raise BadEpisodeError(key, "not_finite", f"transforms/{joint} holds numbers that are not finite")
    rotation = tracked[:, :3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(rotation @ rotation.swapaxes(-1, -2) - np.eye(3)).max(initial=0)
        last_row = np.abs(tracked[:, 3] - [0, 0, 0, 1]).max(initial=0)
        mirrored = (np.linalg.det(rotation) < 0).any() if off <= _TOLERANCE else False
    if not (off <= _TOLERANCE and last_row <= _TOLERANCE) or mirrored:
        raise BadEpisodeError(key, "column", f"transforms/{joint} holds what is no rotation and position, row by row")
