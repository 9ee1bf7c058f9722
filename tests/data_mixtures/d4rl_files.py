"""Writes hdf5 files as D4RL publishes them."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

WIDTHS = {"hopper": (11, 3), "halfcheetah": (17, 6), "walker2d": (17, 6)}


def rows(robot: str, count: int) -> dict[str, np.ndarray]:
    """Tables of `count` steps; observations count up from 0, actions down from 1, the reward of row t is t."""
    observations, actions = WIDTHS[robot]
    step = np.arange(count, dtype=np.float32)[:, None]
    return {
        "observations": step + np.arange(observations, dtype=np.float32) / 100,
        "actions": np.broadcast_to(1 - step / count, (count, actions)).astype(np.float32),
        "rewards": step[:, 0],
    }


def write_file(
    path: Path, count: int, falls: Sequence[int] = (), timeouts: Sequence[int] = (), robot: str = "hopper"
) -> None:
    """One file of `count` steps; an episode ends with each row of `falls` and of `timeouts`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, table in rows(robot, count).items():
            file[name] = table
        for name, ends in (("terminals", falls), ("timeouts", timeouts)):
            file[name] = np.isin(np.arange(count), ends)
        file["infos/qpos"] = np.zeros((count, 6), dtype=np.float32)
        file["metadata/algorithm"] = "SAC"
