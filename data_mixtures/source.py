"""One data set as a mixture sees it: the episodes taken, the labels that may be seen, and windows by row."""

import contextlib
import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from data_mixtures.config import DatasetConfig, MixtureConfig
from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.lerobot.latent_columns import episodes_without, latent_shapes
from data_mixtures.sampling.selection import labelled_episodes, taken_episodes
from data_mixtures.sampling.windows import compose, last_command, shown_steps, step_offsets
from data_mixtures.spaces.camera_frames import turned_actions
from data_mixtures.spaces.unified import Numerics
from data_mixtures.spaces.unit_checks import Suspicion, check_units
from data_mixtures.statistics.streaming import Statistics, statistics_of
from data_mixtures.storage.dataset import Dataset, Progress, open_dataset
from data_mixtures.storage.feature_store import FeatureStore
from data_mixtures.storage.index import VERSION

_LOOKED_AT = 1 << 17  # rows, for what looks wrong
_KEPT_FROM = 1 << 18  # rows whose statistics take long enough to be kept


class Source:
    """A data set under a mixture's window, cameras and selection.

    Rows are those of the data set's index. Window w of 0..num_windows - 1 starts at a frame of an episode taken.

    Attributes:
        bad_episodes: what was found wrong with episodes of the index when their frames were asked for.
        without_latents: what kept episodes of the data set from being labelled, if latents are asked for; left out.
    """

    def __init__(self, config: DatasetConfig, mixture: MixtureConfig, on_progress: Progress | None = None) -> None:
        self.config, self.mixture = config, mixture
        self.dataset: Dataset = open_dataset(
            config, mixture.cameras, mixture.image_size, mixture.decoded_gib, on_progress
        )
        self.index = self.dataset.index
        self.episode_ids = taken_episodes(self.index, config)
        self.labelled = labelled_episodes(self.index, self.episode_ids, config.labelled_share)
        if config.only_labelled:
            self.episode_ids = self.labelled
        self.without_latents: dict[int, Defect] = {}
        if mixture.latents is not None:
            self._leave_out_without_latents(mixture.latents)
        self._lengths = self.index.first_row[self.episode_ids + 1] - self.index.first_row[self.episode_ids]
        self._first_window = np.concatenate([[0], np.cumsum(self._lengths)])
        self.camera_mask = np.array([camera in self.dataset.cameras for camera in mixture.cameras])
        self.bad_episodes: dict[int, Defect] = {}

    @property
    def num_windows(self) -> int:
        """Windows the mixture can draw: one for every frame of the episodes taken."""
        return int(self._first_window[-1])

    @cached_property
    def tasks(self) -> list[str]:
        """The instructions of the episodes taken, sorted."""
        return sorted({self.index.texts[task] for task in np.unique(self.index.task[self.episode_ids]).tolist()})

    @property
    def longest_episode_s(self) -> float:
        """Seconds of the longest episode taken."""
        return float((self._lengths / self.index.fps[self.episode_ids]).max())

    @property
    def longest_episode(self) -> int:
        """Frames of the longest episode taken."""
        return int(self._lengths.max())

    def check_readable(self) -> None:
        """Raise ValueError if a column or a cache the mixture asks for is not there."""
        if self.mixture.latents is not None:
            latent_shapes(self.dataset.recorded.features, self.mixture.latents)
        if self.mixture.vision_features is not None:
            _ = self._features

    def rows_of(self, windows: np.ndarray) -> np.ndarray:
        """Windows [n] -> the rows they start at."""
        place = np.searchsorted(self._first_window, windows, side="right") - 1
        return self.index.first_row[self.episode_ids[place]] + windows - self._first_window[place]

    def place_of(self, window: int) -> tuple[int, int]:
        """The (episode, frame in it) at which a window starts."""
        row = self.rows_of(np.array([window]))
        episode = self.index.episode_of(row)
        return int(episode[0]), int(row[0] - self.index.first_row[episode[0]])

    def frame_rows(self, rows: np.ndarray) -> np.ndarray:
        """Start rows [n] -> the rows of their images [n, frames], held at the episode's last frame."""
        offsets = self._step_offsets(rows)[:, shown_steps(self.mixture.window)]
        return np.minimum(rows[:, None] + offsets, self.index.last_row(rows)[:, None])

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Rows [...] -> uint8 [..., cameras, 3, size, size]; black where the data set lacks the camera.

        Raises:
            BadEpisodeError: an episode's frames cannot be had; `has_frames` tells which.
        """
        size, flat = self.mixture.image_size, rows.ravel()
        images = np.empty((len(flat), len(self.camera_mask), 3, size, size), dtype=np.uint8)
        for position, camera in enumerate(self.mixture.cameras):
            own = self.dataset.cameras.get(camera)
            images[:, position] = 0 if own is None else self.dataset.frames.images(own, flat, size)
        return images.reshape(*rows.shape, *images.shape[1:])

    def images_or_black(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `images`, but black where an entry's frames cannot be had; that is noted in `bad_episodes`.

        Args:
            rows: [n, ...]; an entry is had with all of its frames, or is black.

        Returns:
            Images as from `images`, and which entries were had, bool [n].
        """
        try:
            return self.images(rows), np.ones(len(rows), dtype=bool)
        except BadEpisodeError:
            had = self.has_frames(rows)
        size = self.mixture.image_size
        images = np.zeros((*rows.shape, len(self.camera_mask), 3, size, size), dtype=np.uint8)
        images[had] = self.images(rows[had])
        return images, had

    def has_frames(self, rows: np.ndarray) -> np.ndarray:
        """Which of rows [n, ...] have all of their frames, bool [n], asked one by one; see `bad_episodes`."""
        had = np.ones(len(rows), dtype=bool)
        for place in range(len(rows)):
            try:
                self.images(rows[place : place + 1])
            except BadEpisodeError as error:
                had[place] = False
                self.bad_episodes.setdefault(int(self.index.episode_of(rows[place].flat[0])), error.defect)
        return had

    def lacks_frames(self, windows: np.ndarray) -> np.ndarray:
        """Which windows [n] cannot be had, bool [n]."""
        return ~self.has_frames(self.frame_rows(self.rows_of(windows)))

    def is_bad(self, windows: np.ndarray) -> np.ndarray:
        """As `lacks_frames`, but only those in an episode found bad are looked at.

        The others of that episode are sound: leaving them out as well would make what an id draws depend on what this
        process happened to read before.
        """
        bad = np.zeros(len(windows), dtype=bool)
        if self.bad_episodes:
            suspected = np.isin(self.index.episode_of(self.rows_of(windows)), list(self.bad_episodes))
            bad[suspected] = self.lacks_frames(windows[suspected])
        return bad

    def numerics(self, rows: np.ndarray, horizon: int | None = None) -> Numerics:
        """States at rows [n] and the changes of the steps from there on; past the end the last, masked.

        Changes seen by a moving camera are in the axes of the window's first frame.

        Args:
            rows: where the windows start.
            horizon: steps; the window's own when None.
        """
        steps = self.mixture.window.horizon if horizon is None else horizon
        offsets, last = self._step_offsets(rows)[:, : steps + 1], self.index.last_row(rows)[:, None]
        begins, ends = rows[:, None] + offsets[:, :-1], rows[:, None] + offsets[:, 1:]
        if self.mixture.window.stride_s is None:
            actions, mask = self._changes(rows, np.minimum(begins, last))
            inside = begins <= last
        else:
            spanned = begins[:, :, None] + np.arange(max(1, int((ends - begins).max())))
            changes, seen = self._changes(rows, np.minimum(spanned, last[:, :, None]))
            whole = compose if self.index.space == "unified" else last_command
            actions, mask = whole(changes, seen, spans=spanned < ends[:, :, None])
            inside = ends - 1 <= last
        state, state_mask = self.index.states(rows)
        seen = self._is_labelled[self.index.episode_of(rows)]
        return Numerics(
            state=state * seen[:, None],
            state_mask=state_mask & seen[:, None],
            actions=actions * seen[:, None, None],
            action_mask=mask & (seen[:, None] & inside)[:, :, None],
        )

    def instructions(self, rows: np.ndarray) -> list[str]:
        """The instruction at each of rows [n]."""
        return self.index.instructions(rows)

    def subtasks(self, rows: np.ndarray) -> list[str]:
        """The sub-task text at each of rows [n], '' where there is none."""
        return self.index.subtasks(rows)

    def latents(self, rows: np.ndarray) -> np.ndarray:
        """The latent columns at rows [n]: float32 [n, tokens, dim], scene tokens first."""
        recorded = self.dataset.recorded
        parts = [
            recorded.values(name, rows).reshape(len(rows), *shape).astype(np.float32)
            for name, shape in latent_shapes(recorded.features, self.mixture.latents or "").items()
        ]
        return np.concatenate(parts, axis=1)

    def vision_features(self, rows: np.ndarray) -> np.ndarray:
        """The cached vision features at rows [...]: float16 [..., cameras, tokens, width]."""
        return self._features[rows]

    def statistics(self) -> Statistics:
        """Of every state that may be seen and of the change of the step that begins there; kept for large data sets."""
        steps = _SingleSteps(self)
        if steps.num_rows < _KEPT_FROM:
            return statistics_of(steps)
        name = f"{self.dataset.fingerprint}-{VERSION}-{self.mixture.window.stride_s}-{steps.digest}"
        folder = self.dataset.cache / f"statistics-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        with contextlib.suppress(ValueError):  # not there, or damaged
            return Statistics.load(folder, name)
        found = statistics_of(steps)
        folder.mkdir(parents=True, exist_ok=True)
        found.save(folder, name, self.index.space)
        return found

    def _leave_out_without_latents(self, name: str) -> None:
        """Only after the labelled episodes are chosen, so that the choice is that of a run without latents."""
        self.without_latents = episodes_without(self.dataset.root, name)
        left_out = np.flatnonzero(np.isin(self.index.source_episode, list(self.without_latents)))
        self.episode_ids, self.labelled = (
            np.setdiff1d(self.episode_ids, left_out),
            np.setdiff1d(self.labelled, left_out),
        )
        if not len(self.episode_ids):
            raise ValueError(
                f"{self.config.path}: not one of the episodes taken has latents: mend it and label it again"
            )

    def suspicions(self) -> list[Suspicion]:
        """What in the labels looks like wrong units or a wrong order, from a spread-out sample of the data set."""
        if not len(self.labelled):
            return []
        rows = np.unique(np.linspace(0, self.index.num_rows - 1, _LOOKED_AT).astype(np.int64))
        return check_units(self.config.path, self.index, statistics_of(self.index, rows), constants=False)

    def _step_offsets(self, rows: np.ndarray) -> np.ndarray:
        return step_offsets(self.mixture.window, self.index.fps[self.index.episode_of(rows)])

    def _changes(self, rows: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Single frames' actions at rows [n, ...] and their mask, in the axes of the frames at `rows` [n]."""
        actions, mask = self.index.actions(steps)
        camera, first = self.index.camera_rotation(steps), self.index.camera_rotation(rows)
        if camera is not None and first is not None:
            to_first = first.swapaxes(-1, -2).reshape(len(rows), *[1] * (steps.ndim - 1), 3, 3)
            actions = turned_actions(actions, to_first @ camera)
        return actions, mask

    @cached_property
    def _features(self) -> np.ndarray:
        store = FeatureStore(Path(self.mixture.vision_features or ""), self.dataset.fingerprint)
        return store.open(self.index.num_rows, self.mixture.cameras)

    @cached_property
    def _is_labelled(self) -> np.ndarray:
        flags = np.zeros(self.index.num_episodes, dtype=bool)
        flags[self.labelled] = True
        return flags


class _SingleSteps:
    """The labelled rows of a source, each with the change of the one step that begins there: a `NumericsSource`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        first_row, labelled = source.index.first_row, source.labelled
        self._stops = first_row[labelled + 1]
        self._ends = np.cumsum(self._stops - first_row[labelled])
        self.num_rows = int(self._ends[-1]) if len(labelled) else 0
        self.digest = hashlib.sha256(np.ascontiguousarray(labelled).tobytes()).hexdigest()[:16]

    def numerics(self, rows: np.ndarray) -> Numerics:
        """States [n, 46] and changes [n, 44] of the rows-th labelled frames."""
        episode = np.searchsorted(self._ends, rows, side="right")
        numerics = self._source.numerics(self._stops[episode] - (self._ends[episode] - rows), horizon=1)
        return replace(numerics, actions=numerics.actions[:, 0], action_mask=numerics.action_mask[:, 0])
