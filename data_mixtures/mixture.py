"""A weighted mixture of data sets: sample ids in, Batches out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data_mixtures import lerobot_layout as layout
from data_mixtures.batch import Batch
from data_mixtures.config import DatasetConfig, MixtureConfig, check
from data_mixtures.normalisation import Normalisation, Quantiles
from data_mixtures.sampler import Sampler
from data_mixtures.source import Source


class Mixture:
    """Opens every data set of a config; drawing from it is a pure function of (seed, sample id).

    Args:
        config: the mixture; all of it is checked before anything is decoded.
        seed: of the sampler.
    """

    def __init__(self, config: MixtureConfig, seed: int) -> None:
        check(config)
        _check_present(config.datasets)
        self.config, self.seed = config, seed
        self.sources = [Source(dataset, config) for dataset in config.datasets]
        self._check_against_data()
        counts = [source.num_windows for source in self.sources]
        self._first_window = np.concatenate([[0], np.cumsum(counts)])
        self._sampler = Sampler([dataset.weight for dataset in config.datasets], counts, seed)

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
        return sorted({text for source in self.sources for text in source.subtask_texts if text})

    def sample_window(self, sample_id: int) -> tuple[int, int, int]:
        """The (data set, episode, first frame) that a sample id draws."""
        dataset, window = self._sampler.draw(np.array([sample_id]))
        return int(dataset[0]), *self.sources[int(dataset[0])].place_of(int(window[0]))

    def batch(self, sample_ids: Sequence[int]) -> Batch:
        """The samples of these ids; the same ids give the same batch on any rank, in any run."""
        ids = np.array(sample_ids, dtype=np.int64)
        return self._gather(ids, *self._sampler.draw(ids))

    def batch_at(self, frame_indices: Sequence[int]) -> Batch:
        """The windows at these places in the enumeration 0..num_frames - 1, which become the sample ids."""
        ids = np.array(frame_indices, dtype=np.int64)
        if len(ids) and (ids.min() < 0 or ids.max() >= self.num_frames):
            raise ValueError(f"frame_indices span {ids.min()}..{ids.max()}: the mixture has 0..{self.num_frames - 1}")
        dataset = np.searchsorted(self._first_window, ids, side="right") - 1
        return self._gather(ids, dataset, ids - self._first_window[dataset])

    def windows(self, batch_size: int) -> Iterator[Batch]:
        """Every window once, in order, `batch_size` at a time (the last batch may be smaller)."""
        for first in range(0, self.num_frames, batch_size):
            yield self.batch_at(range(first, min(first + batch_size, self.num_frames)))

    def normalisation(self) -> Normalisation:
        """Quantiles over the states and actions that may be seen, all data sets pooled; no video is read."""
        seen = [source.labelled_numerics() for source in self.sources]
        states, actions = np.concatenate([n.state for n in seen]), np.concatenate([n.actions[:, 0] for n in seen])
        state_mask = np.concatenate([n.state_mask for n in seen])
        action_mask = np.concatenate([n.action_mask[:, 0] for n in seen])
        return Normalisation(state=Quantiles.of(states, state_mask), action=Quantiles.of(actions, action_mask))

    def _gather(self, ids: np.ndarray, dataset: np.ndarray, window: np.ndarray) -> Batch:
        if not len(ids):
            raise ValueError("sample_ids is empty: a batch needs at least one sample")
        members = [np.flatnonzero(dataset == index) for index in range(len(self.sources))]
        pieces = [
            _piece(source, positions, source.rows[window[positions]])
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
        horizon = self.config.window.horizon
        for source in self.sources:
            if horizon > source.shortest_episode:
                raise ValueError(
                    f"window.horizon is {horizon}, but the shortest episode of {source.config.path} has "
                    f"{source.shortest_episode} frames: lower window.horizon to at most that"
                )
            source.check_readable()


def _check_present(datasets: Sequence[DatasetConfig]) -> None:
    missing = [d for d in datasets if not (Path(d.path) / layout.INFO_PATH).exists()]
    if missing:
        lines = [f"  {Path(d.path).name}: looked for {Path(d.path) / layout.INFO_PATH}{_origin(d)}" for d in missing]
        raise ValueError(
            f"datasets: {len(missing)} of {len(datasets)} data sets are missing. Put each, as LeRobot v3.0, "
            "where it is looked for, or change its path:\n" + "\n".join(lines)
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


def _piece(source: Source, positions: np.ndarray, rows: np.ndarray) -> _Piece:
    frame_rows = source.frame_rows(rows)
    numerics = source.numerics(rows, source.mixture.window.horizon)
    arrays = {
        "images": source.images(frame_rows),
        "camera_mask": np.broadcast_to(source.camera_mask, (len(rows), len(source.camera_mask))),
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
