"""Writes AgiBot World as published: folders or tars, with the variants and defects that its releases have."""

import io
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from data_mixtures.spaces.rotations import matrix_from_euler, xyzw_from_matrix
from data_mixtures.video.encoding import VideoEncoder

CAMERAS = ("head_color", "hand_left_color", "hand_right_color", "head_left_fisheye_color")
SEGMENTS = [  # as in the published JSON; frames 8 and 9 and those from 15 on are in no segment
    {"start_frame": 0, "end_frame": 8, "action_text": "Retrieve cucumber from the shelf.", "skill": "Pick"},
    {"start_frame": 10, "end_frame": 15, "action_text": "Place the cucumber into the bag.", "skill": "Place"},
]


@dataclass(frozen=True)
class Variant:
    """What is unusual about an episode; the default is the common layout."""

    split_effectors: bool = False
    no_end: bool = False  # the (0,) placeholders
    fingers: bool = False  # a hand with fingers: effector [N, 12]
    simulated: bool = False  # proprio_states.h5, wxyz
    extra_actions: int = 0  # tasks 352-421


def arm_states(length: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position [T, 2, 3] m, rotation [T, 2, 3, 3] and gripper reading [T, 2] 0 open .. 120 closed."""
    time = np.arange(length)[:, None, None] / 30
    phase = np.random.default_rng(seed).uniform(0, 6, (2, 3))
    position = 0.5 + 0.1 * np.sin(time + phase)
    angles = np.broadcast_to(phase / 9, (length, 2, 3)) + time * [0.3, 0.0, 0.0] + [np.pi - 0.05, 0.0, 0.0]
    rotation = matrix_from_euler(angles)  # roll passes pi on the way
    gripper = np.clip(np.arange(length)[:, None] * [12.0, 6.0], 0, 118.06)
    return position, rotation, gripper


def h5_bytes(length: int, seed: int, variant: Variant = Variant()) -> bytes:  # noqa: B008 - frozen
    """proprio_stats.h5: float64 tables and int64 ns, action/end and action/joint equal to the state."""
    position, rotation, gripper = arm_states(length, seed)
    quaternion = xyzw_from_matrix(rotation)
    if variant.simulated:
        quaternion = np.roll(quaternion, 1, axis=-1)
    jitter = np.random.default_rng(seed).integers(-2_000_000, 2_000_000, length)
    placeholder = np.zeros(0)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["timestamp"] = 1_740_109_484_562_531_000 + np.arange(length) * 33_333_333 + jitter
        for side, extra in (("state", 0), ("action", variant.extra_actions)):
            rows = np.minimum(np.arange(length + extra), length - 1)
            file[f"{side}/end/position"] = placeholder if variant.no_end else position[rows]
            file[f"{side}/end/orientation"] = placeholder if variant.no_end else quaternion[rows]
            file[f"{side}/joint/position"] = np.zeros((len(rows), 14))
            file[f"{side}/head/position"] = np.zeros((len(rows), 2))
            for name in ("end/velocity", "end/wrench", "end/angular", "joint/effort", "robot/position_drift"):
                file[f"{side}/{name}"] = placeholder
        if variant.split_effectors:
            file["state/left_effector/position"] = gripper[:, :1]
            file["state/right_effector/position"] = gripper[:, 1:]
            file["state/effector/position"] = placeholder
        else:
            file["state/effector/position"] = np.zeros((length, 12)) if variant.fingers else gripper
        file["action/effector/position"] = gripper / 120
        file["action/effector/index"] = np.arange(length)
    return buffer.getvalue()


def video_bytes(folder: Path, length: int, seed: int, size: int = 32) -> bytes:
    """An mp4 whose frame t is grey with the level `level(t, seed)`."""
    path = folder / f"{seed}-{length}.mp4"
    if not path.exists():
        frames = np.stack([np.full((size, size, 3), level(t, seed), dtype=np.uint8) for t in range(length)])
        with VideoEncoder(path, size, size, 30.0, "yuv444p") as video:
            video.append(frames)
    return path.read_bytes()


def level(frame: int, seed: int) -> int:
    """The grey level of a frame, 0..255."""
    return (40 + 9 * frame + 31 * seed) % 256


def write_task_info(root: Path, task: int, episodes: list[int], spelling: str = "label_info") -> None:
    (root / "task_info").mkdir(parents=True, exist_ok=True)
    entries = [
        {
            "episode_id": episode,
            "task_id": task,
            "task_name": "Pickup items in the supermarket",
            "init_scene_text": "The robot is in front of the fruit shelf.",
            spelling: {"action_config": SEGMENTS},
        }
        for episode in episodes
    ]
    (root / "task_info" / f"task_{task}.json").write_text(json.dumps(entries))


def write_episode(root: Path, task: int, episode: int, length: int, variant: Variant = Variant()) -> None:  # noqa: B008
    """One episode in folders, videos of one seed a camera: CAMERAS.index."""
    videos = root / "observations" / str(task) / str(episode) / "videos"
    videos.mkdir(parents=True)
    scratch = root.parent / "encoded"
    scratch.mkdir(exist_ok=True)
    for seed, camera in enumerate(CAMERAS):
        (videos / f"{camera}.mp4").write_bytes(video_bytes(scratch, length, seed))
    proprio = root / "proprio_stats" / str(task) / str(episode)
    proprio.mkdir(parents=True)
    name = "proprio_states.h5" if variant.simulated else "proprio_stats.h5"
    (proprio / name).write_bytes(h5_bytes(length, episode, variant))


def pack(root: Path, target: Path, tar_format: int = tarfile.GNU_FORMAT) -> Path:
    """The same data set as on the hub: observations/<task>/<first>-<last>.tar, proprio_stats/<first>-<last>.tar."""
    shutil.copytree(root / "task_info", target / "task_info")
    (target / "proprio_stats").mkdir()
    tasks = sorted((root / "observations").iterdir())
    for task in tasks:
        episodes = sorted(entry.name for entry in task.iterdir())
        (target / "observations" / task.name).mkdir(parents=True)
        name = f"{episodes[0]}-{episodes[-1]}.tar"
        with tarfile.open(target / "observations" / task.name / name, "w", format=tar_format) as tar:
            for episode in episodes:
                depth = task / episode / "depth"
                depth.mkdir(exist_ok=True)
                for frame in range(3):
                    (depth / f"head_depth_{frame:06d}.png").write_bytes(b"\x89PNG" + bytes(700))
                tar.add(task / episode, episode)
    with tarfile.open(target / "proprio_stats" / "648642-999999.tar", "w", format=tar_format) as tar:
        for task in tasks:
            tar.add(root / "proprio_stats" / task.name, task.name)
    return target
