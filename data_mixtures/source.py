"""One data set as a mixture sees it: the episodes taken, the labels that may be seen, and windows by row."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data_mixtures.config import DatasetConfig, MixtureConfig
from data_mixtures.embodiments import Embodiment, embodiment_of
from data_mixtures.feature_store import FeatureStore
from data_mixtures.frame_store import camera_frames
from data_mixtures.latent_columns import latent_shapes
from data_mixtures.lerobot_v3 import LeRobotDataset
from data_mixtures.sampler import hash_ids
from data_mixtures.unified import ACTION_DIM, STATE_DIM

# Which episodes are labelled is a property of the data, not of a run: it is the same under every training seed.
_LABEL_SEED, _LABEL_STREAM = 0, 3


@dataclass(frozen=True)
class Numerics:
    """States and actions of n windows in the unified spaces, 0 and False where nothing may be seen.

    Attributes:
        state: float32 [n, 46], and `state_mask` bool [n, 46].
        actions: float32 [n, horizon, 44], and `action_mask` bool [n, horizon, 44].
    """

    state: np.ndarray
    state_mask: np.ndarray
    actions: np.ndarray
    action_mask: np.ndarray


class Source:
    """A data set under a mixture's window, cameras and selection.

    Rows are the data set's own frame numbers. Window w of 0..num_windows - 1 starts at row `rows[w]`.
    """

    def __init__(self, config: DatasetConfig, mixture: MixtureConfig) -> None:
        self.config, self.mixture = config, mixture
        self.dataset = LeRobotDataset(config.path)
        self.episode_ids = taken_episodes(self.dataset.episodes.tasks, config)
        self.labelled = labelled_episodes(self.dataset.episodes.tasks, self.episode_ids, config.labelled_share)
        if config.only_labelled:
            self.episode_ids = self.labelled
        lengths = self.dataset.episodes.lengths
        self._episode_of_row = np.repeat(np.arange(len(lengths)), lengths)
        self.rows = np.flatnonzero(np.isin(self._episode_of_row, self.episode_ids))
        self.camera_mask = np.array([camera in self.dataset.cameras for camera in mixture.cameras])

    @property
    def num_windows(self) -> int:
        """Windows the mixture can draw: one for every frame of the episodes taken."""
        return len(self.rows)

    @cached_property
    def tasks(self) -> list[str]:
        """The instructions of the episodes taken, sorted."""
        return sorted({task for episode in self.episode_ids for task in self.dataset.episodes.tasks[episode]})

    @property
    def shortest_episode(self) -> int:
        """Frames of the shortest episode taken."""
        return int(self.dataset.episodes.lengths[self.episode_ids].min())

    def check_readable(self) -> None:
        """Raise ValueError if a column or a cache the mixture asks for is not there."""
        if self.mixture.latents is not None:
            latent_shapes(self.dataset.features, self.mixture.latents)
        if self.mixture.vision_features is not None:
            _ = self._features
        if self._robot is not None:
            self.dataset.check_column(self._robot.state_column)
            self.dataset.check_column(self._robot.action_column)

    def place_of(self, window: int) -> tuple[int, int]:
        """The (episode, frame in it) at which a window starts."""
        row = int(self.rows[window])
        episode = int(self._episode_of_row[row])
        return episode, row - int(self.dataset.episodes.dataset_from_index[episode])

    def frame_rows(self, rows: np.ndarray) -> np.ndarray:
        """Start rows [n] -> the rows of their images [n, frames], held at the episode's last frame."""
        window = self.mixture.window
        offsets = np.round(np.linspace(0, window.horizon, window.frames)).astype(np.int64)
        return np.minimum(rows[:, None] + offsets, self._last_rows(rows)[:, None])

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Rows [...] -> uint8 [..., cameras, 3, size, size]; black where the data set lacks the camera."""
        size = self.mixture.image_size
        images = np.empty((*rows.shape, len(self._frames), 3, size, size), dtype=np.uint8)
        for position, frames in enumerate(self._frames):
            images[..., position, :, :, :] = 0 if frames is None else frames[rows]
        return images

    def numerics(self, rows: np.ndarray, horizon: int) -> Numerics:
        """States at rows [n] and the `horizon` actions from there on; past the end the last action repeats, masked."""
        robot = self._robot
        if robot is None:
            return _unseen(len(rows), horizon)
        steps, last = rows[:, None] + np.arange(horizon), self._last_rows(rows)[:, None]
        seen = self._is_labelled[self._episode_of_row[rows]]
        state = robot.to_unified_state(self._column(robot.state_column)[rows])
        actions = robot.to_unified_action(self._column(robot.action_column)[np.minimum(steps, last)])
        return Numerics(
            state=state * seen[:, None],
            state_mask=robot.state_mask & seen[:, None],
            actions=actions * seen[:, None, None],
            action_mask=robot.action_mask & (seen[:, None] & (steps <= last))[:, :, None],
        )

    def instructions(self, rows: np.ndarray) -> list[str]:
        """The instruction at each of rows [n]."""
        return [self.dataset.tasks[index] for index in self._column("task_index")[rows, 0].tolist()]

    def subtasks(self, rows: np.ndarray) -> list[str]:
        """The sub-task text at each of rows [n], '' where there is none."""
        return [self.subtask_texts[index] for index in self._subtask_of_row[rows].tolist()]

    def latents(self, rows: np.ndarray) -> np.ndarray:
        """The latent columns at rows [n]: float32 [n, tokens, dim], scene tokens first."""
        prefix = self.mixture.latents or ""
        parts = [
            self._column(name)[rows].reshape(len(rows), *shape).astype(np.float32)
            for name, shape in latent_shapes(self.dataset.features, prefix).items()
        ]
        return np.concatenate(parts, axis=1)

    def vision_features(self, rows: np.ndarray) -> np.ndarray:
        """The cached vision features at rows [...]: float16 [..., cameras, tokens, width]."""
        return self._features[rows]

    def labelled_numerics(self) -> Numerics:
        """Every state and action that may be seen, one action a window (for statistics)."""
        return self.numerics(self.rows[self._is_labelled[self._episode_of_row[self.rows]]], horizon=1)

    def _column(self, name: str) -> np.ndarray:
        if name not in self._columns:
            self._columns[name] = self.dataset.column(name)
        return self._columns[name]

    def _last_rows(self, rows: np.ndarray) -> np.ndarray:
        return self.dataset.episodes.dataset_to_index[self._episode_of_row[rows]] - 1

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        return {}

    @cached_property
    def _robot(self) -> Embodiment | None:
        return embodiment_of(self.dataset.robot_type) if self.config.labelled_share > 0 else None

    @cached_property
    def _frames(self) -> list[np.ndarray | None]:
        return [
            camera_frames(self.dataset, camera, self.mixture.image_size) if present else None
            for camera, present in zip(self.mixture.cameras, self.camera_mask, strict=True)
        ]

    @cached_property
    def _features(self) -> np.ndarray:
        store = FeatureStore(Path(self.mixture.vision_features or ""), self.dataset.fingerprint)
        return store.open(self.dataset.num_frames, self.mixture.cameras)

    @cached_property
    def _is_labelled(self) -> np.ndarray:
        flags = np.zeros(len(self.dataset.episodes), dtype=bool)
        flags[self.labelled] = True
        return flags

    @cached_property
    def subtask_texts(self) -> list[str]:
        """Every sub-task text of the data set, "" first."""
        return ["", *sorted({text for spans in self.dataset.subtasks for _, text in spans})]

    @cached_property
    def _subtask_of_row(self) -> np.ndarray:
        number = {text: index for index, text in enumerate(self.subtask_texts)}
        of_row = np.zeros(self.dataset.num_frames, dtype=np.int32)
        starts, ends = self.dataset.episodes.dataset_from_index, self.dataset.episodes.dataset_to_index
        for start, end, spans in zip(starts, ends, self.dataset.subtasks, strict=True):
            for first, text in spans:
                of_row[start + first : end] = number[text]
        return of_row


def taken_episodes(tasks: list[list[str]], config: DatasetConfig) -> np.ndarray:
    """The episodes a data set's config selects, rising; an episode's task is its first instruction."""
    first = config.skip_per_task
    stop = None if config.episodes_per_task is None else first + config.episodes_per_task
    taken = sorted(episode for members in _by_task(tasks).values() for episode in members[first:stop])
    if not taken:
        raise ValueError(f"{config.path}: skip_per_task {first} leaves no episode: lower it")
    return np.array(taken, dtype=np.int64)


def labelled_episodes(tasks: list[list[str]], taken: np.ndarray, share: float) -> np.ndarray:
    """Of the episodes taken, those whose states and actions may be seen: `share` of every task, at least one."""
    chosen: list[int] = []
    for members in _by_task([tasks[episode] for episode in taken]).values():
        episodes = taken[members]
        order = np.argsort(hash_ids(_LABEL_SEED, _LABEL_STREAM, episodes), kind="stable")
        count = 0 if share == 0 else max(1, round(share * len(episodes)))
        chosen += episodes[order[:count]].tolist()
    return np.array(sorted(chosen), dtype=np.int64)


def _by_task(tasks: list[list[str]]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for episode, names in enumerate(tasks):
        members[names[0]].append(episode)
    return members


def _unseen(count: int, horizon: int) -> Numerics:
    return Numerics(
        state=np.zeros((count, STATE_DIM), dtype=np.float32),
        state_mask=np.zeros((count, STATE_DIM), dtype=bool),
        actions=np.zeros((count, horizon, ACTION_DIM), dtype=np.float32),
        action_mask=np.zeros((count, horizon, ACTION_DIM), dtype=bool),
    )
