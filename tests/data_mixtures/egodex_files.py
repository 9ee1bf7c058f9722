"""Writes EgoDex as published: 69 transforms of ARKit's world, confidences, attributes, a video beside."""

from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from data_mixtures.spaces.rotations import matrix_from_euler
from data_mixtures.video.encoding import VideoEncoder

_FINGERS = ("Thumb", "IndexFinger", "MiddleFinger", "RingFinger", "LittleFinger")
_PARTS = ("Metacarpal", "Knuckle", "IntermediateBase", "IntermediateTip", "Tip")
_SIDE = (
    *("Shoulder", "Arm", "Forearm", "Hand"),
    *(finger + part for finger in _FINGERS for part in _PARTS if finger + part != "ThumbMetacarpal"),
)
JOINTS = (
    *("hip", "neck1", "neck2", "neck3", "neck4"),
    *(f"spine{i}" for i in range(1, 8)),
    *(side + part for side in ("left", "right") for part in _SIDE),
)  # 68
INTRINSIC = np.array([[736.6339, 0, 960], [0, 736.6339, 540], [0, 0, 1]], dtype=np.float32)
ATTRIBUTES = {
    "task": "add_remove_lid",
    "llm_type": "reversible",
    "which_llm_description": "2",
    "llm_description": "Put the lid on the pot.",
    "llm_description2": "Take the lid off the pot.",
    "description": "add and remove lid",
}


@dataclass
class Recording:
    """Poses [T, 4, 4] in the world by joint, camera included; confidences [T] by joint, or none at all."""

    poses: dict[str, np.ndarray]
    confidences: dict[str, np.ndarray] | None = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=lambda: dict(ATTRIBUTES))

    @property
    def length(self) -> int:
        return len(self.poses["camera"])


def poses(position: np.ndarray, euler: np.ndarray) -> np.ndarray:
    """[T, 3] m and [T, 3] rad about the fixed axes -> [T, 4, 4]."""
    pose = np.tile(np.eye(4), (len(position), 1, 1))
    pose[:, :3, 3], pose[:, :3, :3] = position, matrix_from_euler(euler)
    return pose


def recording(length: int, seed: int = 0, head_turn: float = np.deg2rad(30)) -> Recording:
    """A smooth one: the head turns by `head_turn` rad a second and drifts, all joints swing about their places."""
    rng = np.random.default_rng(seed)
    time = np.arange(length)[:, None] / 30
    found = {}
    for joint in ("camera", *JOINTS):
        place, phase, tilt = rng.uniform(-0.3, 0.3, 3) + [5.0, 1.2, -3.0], rng.uniform(0, 6, 3), rng.uniform(-2, 2, 3)
        euler = tilt + 0.4 * np.sin(2 * time + phase)
        if joint == "camera":
            euler = np.concatenate([0 * time, head_turn * time, 0 * time], axis=1) + [np.pi, 0.2, 0.1]
        found[joint] = poses(place + 0.1 * np.sin(3 * time + phase), euler)
    return Recording(found, {joint: np.full(length, 0.9) for joint in JOINTS})


def write_hdf5(path: Path, content: Recording) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["camera/intrinsic"] = INTRINSIC
        for joint, pose in content.poses.items():
            file[f"transforms/{joint}"] = pose.astype(np.float32)
        for joint, confidence in (content.confidences or {}).items():
            file[f"confidences/{joint}"] = confidence.astype(np.float32)
        file.attrs.update(content.attributes)


def write_video(path: Path, length: int, width: int = 48, height: int = 32) -> None:
    """Frame t is grey with the level 20 + 7 t."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoEncoder(path, height, width, 30.0, "yuv420p") as video:
        video.append(np.stack([np.full((height, width, 3), 20 + 7 * t, dtype=np.uint8) for t in range(length)]))


def write_episode(root: Path, key: str, content: Recording) -> None:
    """`key` as "part1/add_remove_lid/0"."""
    write_hdf5(root / f"{key}.hdf5", content)
    write_video(root / f"{key}.mp4", content.length)
