"""A weighted mixture of data sets: sample ids in, Batches out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from data_mixtures.batch import Batch
from data_mixtures.config import DatasetConfig, MixtureConfig, check
from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.quarantine import Quarantine
from data_mixtures.sampling.id_hash import uniform
from data_mixtures.sampling.sampler import EpochSampler, Sampler
from data_mixtures.source import Source
from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.spaces.unified import NumericSpace
from data_mixtures.statistics.normalisation import Normalisation
from data_mixtures.statistics.streaming import pooled_normalisation
from data_mixtures.storage.remote import is_url

# Streams of the sampler's hash from here on redraw what lacks frames.
_REDRAW_STREAM, _MAX_DRAWS = 1000, 100
_MAX_READS = 3  # of one batch


class Mixture:
    """Opens every data set of a config; drawing from it is a pure function of (seed, sample id).

    Args:
        config: the mixture; all of it is checked before anything is decoded.
        seed: of the sampler.
        on_progress: called with (data set, episodes read, episodes in all) when a data set is opened for the first
            time, which reads its numerics once.

    Attributes:
        quarantine: the episodes left out, here and while training, with reasons.
    """

    def __init__(
        self, config: MixtureConfig, seed: int, on_progress: Callable[[str, int, int], None] | None = None
    ) -> None:
        check(config)
        _check_present(config.datasets)
        self.config, self.seed = config, seed
        self.sources = [
            Source(dataset, config, None if on_progress is None else partial(on_progress, dataset.path))
            for dataset in config.datasets
        ]
        self.quarantine = Quarantine()
        for source in self.sources:
            for defect in (*source.index.quarantined, *source.without_latents.values()):
                self._leave_out(source, defect)
        self._check_against_data()
        counts = [source.num_windows for source in self.sources]
        self._first_window = np.concatenate([[0], np.cumsum(counts)])
        weights = [dataset.weight for dataset in config.datasets]
        self._sampler = Sampler(weights, counts, seed) if config.order == "weighted" else EpochSampler(counts, seed)

    @property
    def num_frames(self) -> int:
        """Frames of all episodes taken, which is also the number of windows."""
        return int(self._first_window[-1])

    @property
    def tasks(self) -> list[str]:
        """The instructions of all episodes taken, sorted."""
        return sorted({task for source in self.sources for task in source.tasks})

    @property
    def subtasks(self) -> list[str]:
        """The sub-task texts of all data sets, sorted."""
        return sorted({text for source in self.sources for text in source.index.subtask_texts})

    @property
    def robot(self) -> Embodiment | None:
        """The one robot all labelled data sets are of; None where there are several, or nothing describes it."""
        robots = [source.index.robot for source in self.sources if len(source.labelled)]
        return robots[0] if robots and all(robot == robots[0] for robot in robots) else None

    @property
    def control_hz(self) -> list[float]:
        """Actions a second of the labelled data sets, each rate once, rising."""
        if self.config.window.stride_s is not None:
            return [1 / self.config.window.stride_s]
        labelled = [source.index.fps for source in self.sources if len(source.labelled)]
        return sorted({round(float(rate), 3) for rates in labelled for rate in np.unique(rates)})

    @property
    def space(self) -> NumericSpace:
        """What the dimensions of states and actions are."""
        labelled = [source for source in self.sources if len(source.labelled)]
        return labelled[0].index.space if labelled else "unified"

    def sample_window(self, sample_id: int) -> tuple[int, int, int]:
        """The (data set, episode, first frame) that a sample id draws."""
        dataset, window = self._draw(np.array([sample_id]))
        return int(dataset[0]), *self.sources[int(dataset[0])].place_of(int(window[0]))

    def batch(self, sample_ids: Sequence[int]) -> Batch:
        """The samples of these ids; the same ids give the same batch on any rank, in any run.

        An id whose frames cannot be had draws again from the same data set, as a function of the id and the number of
        draws; the episode is quarantined (or, with `strict`, the run stops).
        """
        ids = np.array(sample_ids, dtype=np.int64)
        for attempt in range(_MAX_READS):
            dataset, window = self._draw(ids)
            try:
                return self._gather(ids, dataset, window)
            except BadEpisodeError:  # not found a second time: an unsteady disk
                self._lack_frames(dataset, window)
                if attempt == _MAX_READS - 1:
                    raise
        raise AssertionError

    def batch_at(self, frame_indices: Sequence[int]) -> Batch:
        """The windows at these places in the enumeration 0..num_frames - 1, which become the sample ids.

        A window whose frames cannot be had is black with camera_mask False, and its episode is quarantined (or, with
        `strict`, the run stops).
        """
        ids = np.array(frame_indices, dtype=np.int64)
        if len(ids) and (ids.min() < 0 or ids.max() >= self.num_frames):
            raise ValueError(f"frame_indices span {ids.min()}..{ids.max()}: the mixture has 0..{self.num_frames - 1}")
        batch = self._gather(ids, *self._enumerated(ids), black=True)
        self._leave_out_bad()
        return batch

    def spread(self, count: int) -> np.ndarray:
        """At most `count` places of the enumeration, evenly spread, but for those whose frames cannot be had: int64.

        Raises:
            ValueError: not one of these windows can be had.
        """
        ids = np.linspace(0, self.num_frames - 1, min(count, self.num_frames)).round().astype(np.int64)
        had = ids[~self._lack_frames(*self._enumerated(ids))]
        if not len(had):
            names = [source.config.path for source in self.sources]
            raise ValueError(
                f"{len(ids)} windows of {names} were tried, and the frames of not one can be read: mend it"
            )
        return had

    def windows(self, batch_size: int) -> Iterator[Batch]:
        """Every window once, in order, `batch_size` at a time (the last batch may be smaller)."""
        for first in range(0, self.num_frames, batch_size):
            yield self.batch_at(range(first, min(first + batch_size, self.num_frames)))

    def __reduce__(self) -> tuple[Callable[..., "Mixture"], tuple[MixtureConfig, int, Path | None]]:
        """Sent to another process, a mixture is opened there again."""
        return _opened_again, (self.config, self.seed, self.quarantine.path)

    def normalisation(self) -> Normalisation:
        """Quantiles over the states and changes that may be seen, all data sets pooled; no video is read."""
        return pooled_normalisation([source.statistics() for source in self.sources], space=self.space)

    def _enumerated(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The (data sets [n], windows [n]) at these places in the enumeration."""
        dataset = np.searchsorted(self._first_window, ids, side="right") - 1
        return dataset, ids - self._first_window[dataset]

    def _draw(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the ids draw, past the windows known or found to lack frames: (data sets [n], windows [n])."""
        dataset, window = self._sampler.draw(ids)
        left = np.flatnonzero(self._lack_frames(dataset, window, known=True))
        for attempt in range(1, _MAX_DRAWS):
            if not len(left):
                return dataset, window
            again = uniform(self.seed, _REDRAW_STREAM + attempt, ids[left])
            counts = np.array([source.num_windows for source in self.sources])[dataset[left]]
            window[left] = (again * counts).astype(np.int64)
            left = left[self._lack_frames(dataset[left], window[left])]
        names = sorted({self.config.datasets[i].path for i in dataset[left].tolist()})
        raise ValueError(
            f"nearly every episode of {names} is damaged: see the run's quarantine.jsonl for what is wrong"
        )

    def _lack_frames(self, dataset: np.ndarray, window: np.ndarray, known: bool = False) -> np.ndarray:
        """Which windows [n] lack frames, asked one by one; with `known` only those in episodes found bad before."""
        lacks = np.zeros(len(dataset), dtype=bool)
        for index, source in enumerate(self.sources):
            if (of_source := np.flatnonzero(dataset == index)).size:
                lacks[of_source] = (source.is_bad if known else source.lacks_frames)(window[of_source])
        self._leave_out_bad()
        return lacks

    def _leave_out_bad(self) -> None:
        for source in self.sources:
            for defect in source.bad_episodes.values():
                self._leave_out(source, defect)

    def _leave_out(self, source: Source, defect: Defect) -> None:
        if self.config.strict:
            raise ValueError(
                f"{source.config.path}: {defect.key}: {defect.detail} ({defect.kind}). Mend the data set, or set "
                "`strict: false` to leave such episodes out"
            )
        self.quarantine.add(source.config.path, defect)

    def _gather(self, ids: np.ndarray, dataset: np.ndarray, window: np.ndarray, black: bool = False) -> Batch:
        """The windows [n]; `black` shows those that lack frames as black ones rather than to raise BadEpisodeError."""
        if not len(ids):
            raise ValueError("sample_ids is empty: a batch needs at least one sample")
        members = [np.flatnonzero(dataset == index) for index in range(len(self.sources))]
        pieces = [
            _piece(source, positions, source.rows_of(window[positions]), black)
            for source, positions in zip(self.sources, members, strict=True)
            if len(positions)
        ]
        return _assemble(ids, pieces)

    def _check_against_data(self) -> None:
        """Fail now, with the field to change, rather than at the first batch that would need it."""
        for camera in self.config.cameras:
            if not any(camera in source.dataset.cameras for source in self.sources):
                known = sorted({name for source in self.sources for name in source.dataset.cameras})
                raise ValueError(f"cameras names {camera!r}, which no data set has: choose from {known}")
        self._check_one_space()
        window = self.config.window
        for source in self.sources:
            if window.stride_s is None and window.horizon > source.longest_episode:
                raise ValueError(
                    f"window.horizon is {window.horizon}, but the longest episode of {source.config.path} has "
                    f"{source.longest_episode} frames: lower window.horizon to at most that"
                )
            span = 0.0 if window.stride_s is None else window.horizon * window.stride_s
            if span > source.longest_episode_s:
                raise ValueError(
                    f"window.horizon {window.horizon} x window.stride_s {window.stride_s} spans {span:g} s, but the "
                    f"longest episode of {source.config.path} lasts {source.longest_episode_s:g} s: lower one of them"
                )
            source.check_readable()

    def _check_one_space(self) -> None:
        """A robot's own columns mean nothing beside another's."""
        labelled = [source for source in self.sources if len(source.labelled)]
        if self.space == "unified" and all(source.index.space == "unified" for source in labelled):
            return
        robots = {source.config.path: source.index.robot for source in labelled}
        if any(robot != labelled[0].index.robot for robot in robots.values()):
            types = {path: robot.robot_type if robot else "unified" for path, robot in robots.items()}
            raise ValueError(
                f"datasets: {types} are mixed, and at least one is read with `embodiment.recorded`. Recorded columns "
                "mix with the same robot's only: describe all of them alike, or all in the unified spaces, or set "
                "`labelled_share: 0` for the others"
            )


def _opened_again(config: MixtureConfig, seed: int, quarantine: Path | None) -> Mixture:
    mixture = Mixture(config, seed)
    if quarantine is not None:
        mixture.quarantine.write_to(quarantine)
    return mixture


def _check_present(datasets: Sequence[DatasetConfig]) -> None:
    missing = [d for d in datasets if not is_url(d.path) and not Path(d.path).exists()]
    if missing:
        lines = [f"  {Path(d.path).name}: looked for {Path(d.path)}{_origin(d)}" for d in missing]
        raise ValueError(
            f"datasets: {len(missing)} of {len(datasets)} data sets are missing. Put each where it is looked for, "
            "in the format it was published in, or change its path:\n" + "\n".join(lines)
        )


def _origin(dataset: DatasetConfig) -> str:
    return f"; get it from {dataset.source}" if dataset.source else ""


@dataclass(frozen=True)
class _Piece:
    """The part of a batch that one source gave: where its samples go, and arrays as in the Batch, in numpy."""

    positions: np.ndarray
    arrays: dict[str, np.ndarray]
    instruction: list[str]
    subtask: list[str]


def _piece(source: Source, positions: np.ndarray, rows: np.ndarray, black: bool) -> _Piece:
    frame_rows = source.frame_rows(rows)
    numerics = source.numerics(rows)
    images, had = source.images_or_black(frame_rows) if black else (source.images(frame_rows), np.ones(len(rows), bool))
    arrays = {
        "images": images,
        "camera_mask": source.camera_mask & had[:, None],
        "state": numerics.state,
        "state_mask": numerics.state_mask,
        "actions": numerics.actions,
        "action_mask": numerics.action_mask,
    }
    if source.mixture.latents is not None:
        arrays["latents"] = source.latents(rows)
    if source.mixture.vision_features is not None:
        arrays["vision_features"] = source.vision_features(frame_rows)
    return _Piece(positions, arrays, source.instructions(rows), source.subtasks(rows))


def _assemble(ids: np.ndarray, pieces: Sequence[_Piece]) -> Batch:
    """Put the sources' samples in the order of their ids."""
    tensors = {name: torch.from_numpy(_scatter(len(ids), pieces, name)) for name in pieces[0].arrays}
    instruction, subtask = [""] * len(ids), [""] * len(ids)
    for piece in pieces:
        for position, said, doing in zip(piece.positions.tolist(), piece.instruction, piece.subtask, strict=True):
            instruction[position], subtask[position] = said, doing
    return Batch(**tensors, instruction=instruction, subtask=subtask, sample_ids=torch.from_numpy(ids))


def _scatter(count: int, pieces: Sequence[_Piece], name: str) -> np.ndarray:
    first = pieces[0].arrays[name]
    if len(pieces) == 1:  # one source gave every sample, in order
        return np.require(first, requirements=["C", "W"])
    joined = np.empty((count, *first.shape[1:]), dtype=first.dtype)
    for piece in pieces:
        joined[piece.positions] = piece.arrays[name]
    return joined
