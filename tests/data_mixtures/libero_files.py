"""Writes LIBERO's hdf5 demonstrations as published, and as replayed without no-operations."""

import json
from pathlib import Path

import h5py
import numpy as np

ENV_ARGS = {"type": 1, "env_name": "Libero_Kitchen_Tabletop_Manipulation", "env_kwargs": {"control_freq": 20}}


def scene(length: int, seed: int, size: int = 16) -> np.ndarray:
    """Pictures the right way up, uint8 [T, size, size, 3]: no row, column or frame like another."""
    rows, columns = np.mgrid[0:size, 0:size]
    picture = np.stack([rows * 9 + seed, columns * 7, np.full_like(rows, 50)], axis=-1)
    return (picture[None] + 3 * np.arange(length)[:, None, None, None]).astype(np.uint8)


def robot(length: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ee_states [T, 6], gripper_states [T, 2] and actions [T, 7]; the gripper is told to close from action 4 on."""
    time = np.arange(length)[:, None] / 20
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    position = [0.0, 0.1, 1.0] + 0.1 * np.sin(time + phase)
    turn = np.array([3.1, 0.2, 0.1]) + time * [0.2, 0.1, 0.0]  # about half a turn, as a hand that points down has
    width = np.clip(0.04 - 0.005 * np.maximum(0, np.arange(length) - 4), 0.02, 0.04)
    actions = np.full((length, 7), 0.25)
    actions[:, 6] = np.where(np.arange(length) < 4, -1, 1)
    return np.concatenate([position, turn], axis=1), np.stack([width, -width], axis=1), actions


def write_task(
    path: Path,
    lengths: dict[int, int],
    instruction: str = "turn on the stove",
    published: bool = True,
    convention: str = "opengl",
    size: int = 16,
) -> None:
    """One task's file; `lengths` by demonstration number. A demonstration's seed is its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        if published:
            problem = {"problem_name": "libero_kitchen_tabletop_manipulation", "domain_name": "robosuite"}
            data.attrs["env_name"] = ENV_ARGS["env_name"]
            data.attrs["problem_info"] = json.dumps({**problem, "language_instruction": instruction})
            data.attrs["macros_image_convention"] = convention
            data.attrs["bddl_file_name"] = "chiliocosm/bddl_files/libero_90/task.bddl"
            data.attrs["bddl_file_content"] = "(define (problem LIBERO_Kitchen_Tabletop_Manipulation))"
            data.attrs["env_args"] = json.dumps(ENV_ARGS)
            data.attrs["num_demos"], data.attrs["total"] = len(lengths), sum(lengths.values())
        for number, length in lengths.items():
            _write_demonstration(data.create_group(f"demo_{number}"), length, number, published, convention, size)


def _write_demonstration(demo: h5py.Group, length: int, seed: int, published: bool, convention: str, size: int) -> None:
    pose, fingers, actions = robot(length, seed)
    stored = slice(None, None, -1 if convention == "opengl" else 1)
    demo["obs/gripper_states"], demo["obs/joint_states"] = fingers, np.zeros((length, 7))
    demo["obs/ee_states"], demo["obs/ee_pos"], demo["obs/ee_ori"] = pose, pose[:, :3], pose[:, 3:]
    demo["obs/agentview_rgb"] = scene(length, seed, size)[:, stored]
    demo["obs/eye_in_hand_rgb"] = scene(length, seed + 100, size)[:, stored]
    demo["actions"], demo["states"] = actions, np.zeros((length, 20))
    demo["robot_states"] = np.zeros((length, 9))
    last = np.eye(1, length, length - 1, dtype=np.uint8)[0]
    demo["rewards"], demo["dones"] = last, last
    if published:
        demo.attrs["num_samples"], demo.attrs["model_file"] = length, "<mujoco/>"
        demo.attrs["init_state"] = np.zeros(20)
