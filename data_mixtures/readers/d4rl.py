"""D4RL's locomotion data sets as published (Fu et al., 2020): one hdf5 file of transitions without a break.

observations [N, d], actions [N, a], rewards [N], and where episodes end: terminals [N] (a fall) and timeouts [N] (the
limit of 1000 steps). Row t's action is carried out between the observations t and t + 1 of an episode. One row is one
simulator step: there is no action repeat in these files.

Files are called after robot and data set, hopper_medium_replay-v2.hdf5; d4rl keeps them in ~/.d4rl/datasets.
"""

import hashlib
from functools import cached_property, partial
from pathlib import Path

import h5py
import numpy as np

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode, check_episode
from data_mixtures.readers.hdf5_reading import check_dataset, check_range, dataset_at, open_hdf5
from data_mixtures.spaces.embodiments import Embodiment, embodiment_of
from data_mixtures.video.opened_files import OpenedFiles

# Simulator steps a second.
_RATES = {"hopper": 125.0, "halfcheetah": 20.0, "walker2d": 125.0}
_INSTRUCTIONS = {
    "hopper": "hop forward as fast as possible",
    "halfcheetah": "run forward as fast as possible",
    "walker2d": "walk forward as fast as possible",
}
_LARGEST_STATE = 1000.0  # m, rad, m/s and rad/s; the robots' own limit is 100
_MAX_BYTES = 1 << 31  # of one table; a million HalfCheetah steps are 0.14 GB
_PUBLISHED = "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2"


def is_d4rl(root: Path) -> bool:
    """Whether the folder holds a file named as D4RL names its locomotion data."""
    return root.is_dir() and bool(_files(root))


def _files(root: Path) -> list[Path]:
    return [path for path in sorted(root.glob("*.hdf5")) if _robot(path.stem) in _RATES]


def _robot(stem: str) -> str:
    return stem.replace("-", "_").partition("_")[0]


class D4rlReader:
    """One D4RL file as a `Reader`; keys "<file's stem>/<i>".

    Args:
        root: The folder.
        split: The file's name without .hdf5, where the folder holds several.

    Raises:
        ValueError: there is no such file.
    """

    def __init__(self, root: str | Path, split: str | None = None) -> None:
        self.root, self.cameras = str(root), list[str]()
        self._path = _chosen(Path(root), split)
        self._robot: Embodiment = embodiment_of(f"gymnasium_{_robot(self._path.stem)}")
        self.robot_type = self._robot.robot_type
        self._opened, self.defects = OpenedFiles(), list[Defect]()
        self._bounds: list[tuple[int, int]] = []
        try:
            self._bounds = self._episodes()
        except BadEpisodeError as error:
            self.defects.append(error.defect)

    def _episodes(self) -> list[tuple[int, int]]:
        """First row of each episode and the row after its last; what follows the last end is one as well."""
        name = self._path.name
        self._opened.check(self._path, name)
        with open_hdf5(self._path, name, "it") as file:
            ends = np.zeros(len(_table(file, "observations", name)), dtype=bool)
            for flags in ("terminals", "timeouts"):
                dataset = dataset_at(file, flags)
                if dataset is None and flags == "timeouts":
                    raise BadEpisodeError(name, "column", "timeouts is missing: versions before v1 do not say it")
                if dataset is None or dataset.shape != ends.shape:
                    raise BadEpisodeError(name, "column", f"{flags} is not [{len(ends)}] flags")
                check_dataset(dataset, flags, "biuf", _MAX_BYTES, name)
                ends |= np.asarray(dataset[()]).astype(bool)
        stops = np.flatnonzero(ends) + 1
        starts = np.concatenate([[0], stops])
        return [(int(a), int(b)) for a, b in zip(starts, [*stops, len(ends)], strict=True) if b > a]

    def __len__(self) -> int:
        return len(self._bounds)

    def key(self, index: int) -> str:
        """As "hopper_medium_replay-v2/0"."""
        return f"{self._path.stem}/{index}"

    def episode(self, index: int) -> Episode:
        """Episode `index`; `info` has its return, and whether it ended in a fall."""
        key, (start, stop) = self.key(index), self._bounds[index]
        self._opened.check(self._path, key)
        with open_hdf5(self._path, key, "its hdf5") as file:
            rows = {name: _rows(file, name, start, stop, 2, key) for name in ("observations", "actions")}
            rewards = _rows(file, "rewards", start, stop, 1, key)
            terminal = bool(_rows(file, "terminals", stop - 1, stop, 1, key)[0])
        for name, width in (("observations", self._robot.state_width), ("actions", self._robot.action_width)):
            if rows[name].shape[1] != width:
                raise BadEpisodeError(key, "column", f"{name} has {rows[name].shape[1]} numbers a row, not {width}")
        check_range(rows["observations"], -_LARGEST_STATE, _LARGEST_STATE, "observations", key)
        check_range(rows["actions"], -1.001, 1.001, "actions", key)
        check_range(rewards, -1e6, 1e6, "rewards", key)
        robot = _robot(self._path.stem)
        episode = Episode(
            key=key,
            instruction=_INSTRUCTIONS[robot],
            subtasks=[],
            fps=_RATES[robot],
            robot_type=self.robot_type,
            numerics=self._robot.numerics({"observation.state": rows["observations"], "action": rows["actions"]}),
            cameras=[],
            read_frames=partial(self.frames, index),
            info={"return": float(rewards.sum()), "fallen": terminal},
            robot=self._robot,
        )
        check_episode(episode)
        return episode

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        """There are none."""
        raise BadEpisodeError(self.key(index), "video", f"there is no camera {camera!r}")

    @property
    def fingerprint(self) -> str:
        """From the file's name, size and episodes."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"d4rl 1 {self._path.name} {self._opened.size(self._path)}".encode())
        digest.update(np.array(self._bounds, dtype=np.int64).tobytes())
        return digest.hexdigest()[:16]


def _chosen(root: Path, split: str | None) -> Path:
    stems = [path.stem for path in _files(root)] if root.is_dir() else []
    if not stems:
        raise ValueError(
            f"{root} holds no D4RL locomotion data: expected a file like hopper_medium_replay-v2.hdf5 in it (robots: "
            f"{', '.join(_RATES)}). d4rl downloads them to ~/.d4rl/datasets from {_PUBLISHED}; without them record a "
            "stand-in: vla run recipes/clam/locomotion_data.yaml"
        )
    if split is None and len(stems) > 1:
        raise ValueError(f"split: {root} holds {', '.join(stems)}; name one of them")
    if split is not None and split not in stems:
        raise ValueError(f"split: {root} holds no {split!r}; there is {', '.join(stems)}")
    return root / f"{split or stems[0]}.hdf5"


def _table(file: h5py.File, name: str, key: str) -> h5py.Dataset:
    dataset = dataset_at(file, name)
    if dataset is None or dataset.ndim == 0:
        raise BadEpisodeError(key, "column", f"{name} is missing or empty")
    check_dataset(dataset, name, "fiub", _MAX_BYTES, key)
    return dataset


def _rows(file: h5py.File, name: str, start: int, stop: int, dims: int, key: str) -> np.ndarray:
    """Rows start..stop of a table, float64."""
    dataset = _table(file, name, key)
    if dataset.ndim != dims or len(dataset) < stop:
        raise BadEpisodeError(key, "length", f"{name} is {dataset.shape}: its rows {start}..{stop - 1} are missing")
    return np.asarray(dataset[start:stop], dtype=np.float64)
