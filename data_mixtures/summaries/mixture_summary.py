"""A mixture in figures: weights, the shares its sampler really draws, how large each set is, what is missing."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_mixtures.config import DatasetConfig, MixtureConfig, check
from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers.opening import open_reader
from data_mixtures.readers.reader import Reader
from data_mixtures.sampling.sampler import Sampler
from data_mixtures.sampling.selection import labelled_episodes, taken_episodes
from data_mixtures.shards.layout import is_shards
from data_mixtures.shards.shard_frames import open_shards
from data_mixtures.storage.dataset import cache_folder, index_folder, open_dataset
from data_mixtures.storage.index import Index
from data_mixtures.summaries.inspection import dataset_name, spread_out
from data_mixtures.summaries.page import render, write_page

DRAWS = 1_000_000
_EPISODES_TRIED = 20  # for a rough size
_BLOCK = 1 << 17  # ids drawn at a time


@dataclass(frozen=True)
class SetSize:
    """How large the part of a data set is that a mixture takes.

    Attributes:
        estimated: True where only a few episodes were read, and all were taken to be like them.
    """

    episodes: int
    frames: float
    hours: float
    rate_hz: float
    robot_type: str
    cameras: list[str]
    estimated: bool


@dataclass(frozen=True)
class SetRow:
    """One data set of a mixture.

    Attributes:
        name: the last part of its path.
        weight: as the mixture has it.
        share: of the samples, from the weights alone.
        drawn: of the samples, counted over real draws.
        size: None where the set cannot be opened, and then `problem` says why.
        source: where the set comes from, if the mixture says so.
    """

    name: str
    path: str
    weight: float
    share: float
    drawn: float
    size: SetSize | None
    problem: str
    source: str

    @property
    def epochs_per_million(self) -> float | None:
        """How often a million samples show each of the set's windows (one starts at every frame), on average."""
        return 1e6 * self.share / self.size.frames if self.size and self.size.frames else None


@dataclass(frozen=True)
class MixtureSummary:
    """All sets in the mixture's order, and how many ids were drawn with which seed."""

    rows: list[SetRow]
    draws: int
    seed: int

    @property
    def missing(self) -> list[SetRow]:
        """The sets that could not be opened."""
        return [row for row in self.rows if row.size is None]

    @property
    def hours(self) -> float:
        """Of the sets that are there."""
        return sum(row.size.hours for row in self.rows if row.size)

    def as_json(self) -> dict[str, Any]:
        """The summary as plain lists, numbers and texts, for `json.dumps`."""
        rows = [asdict(row) | {"epochs_per_million": row.epochs_per_million} for row in self.rows]
        return {"draws": self.draws, "seed": self.seed, "datasets": rows}


def summarise(
    config: MixtureConfig,
    measure: Callable[[DatasetConfig], SetSize],
    seed: int = 0,
    draws: int = DRAWS,
    on_set: Callable[[str], None] | None = None,
) -> MixtureSummary:
    """Draw `draws` sample ids through the mixture's own sampler and measure every set that is there.

    Args:
        config: the mixture.
        measure: gives a set's size, or raises ValueError or OSError with what is wrong (`exact_size`, `rough_size`).
        seed: of the sampler.
        draws: ids 0..draws - 1 are drawn.
        on_set: called with a set's name before it is opened.
    """
    check(config)
    weights = np.array([dataset.weight for dataset in config.datasets])
    drawn = drawn_shares(weights.tolist(), seed, draws)
    rows = []
    for position, dataset in enumerate(config.datasets):
        name = dataset_name(dataset.path)
        if on_set is not None:
            on_set(name)
        size, problem = _tried(measure, dataset)
        rows.append(
            SetRow(
                name=name,
                path=dataset.path,
                weight=dataset.weight,
                share=float(weights[position] / weights.sum()),
                drawn=float(drawn[position]),
                size=size,
                problem=problem,
                source=dataset.source or "",
            )
        )
    return MixtureSummary(rows, draws, seed)


def drawn_shares(weights: list[float], seed: int, draws: int) -> np.ndarray:
    """The share of the sample ids 0..draws - 1 that falls to each data set: float64 [sets], adding up to 1."""
    sampler = Sampler(weights, [1] * len(weights), seed)  # which set is drawn does not depend on their sizes
    counts = np.zeros(len(weights), dtype=np.int64)
    for first in range(0, draws, _BLOCK):
        dataset, _ = sampler.draw(np.arange(first, min(first + _BLOCK, draws)))
        counts += np.bincount(dataset, minlength=len(weights))
    return counts / draws


def write_mixture_page(summary: MixtureSummary, name: str, out: Path) -> Path:
    """Write the summary as one HTML page with its plot, replaced as a whole; returns `out`."""
    largest = max(max(row.share, row.drawn) for row in summary.rows)
    ranked = sorted(summary.rows, key=lambda row: -row.weight)
    write_page(out, render("mixture.html.jinja", name=name, summary=summary, rows=ranked, largest=largest))
    return out


def rough_size(dataset: DatasetConfig) -> SetSize:
    """The size of a set: exact for shards and where the set's index is there already, else from a few episodes.

    The rough figures are those of the whole set, before `skip_per_task` and its like.

    Raises:
        ValueError: the set cannot be opened, or none of the episodes tried can be used.
    """
    root = Path(dataset.path)
    if is_shards(root):
        return _index_size(open_shards(root)[0], dataset)
    reader = open_reader(dataset)
    kept = index_folder(cache_folder(reader))
    return _index_size(Index(kept), dataset) if (kept / "meta.json").exists() else _reader_size(reader)


def exact_size(dataset: DatasetConfig, on_progress: Callable[[int, int], None] | None = None) -> SetSize:
    """The size of a set as training sees it; the first time, all of its numerics are read and kept as its index.

    Raises:
        ValueError: the set cannot be opened, or none of its episodes can be used.
    """
    return _index_size(open_dataset(dataset, [], 1, 0.0, on_progress).index, dataset)


def _tried(measure: Callable[[DatasetConfig], SetSize], dataset: DatasetConfig) -> tuple[SetSize | None, str]:
    if "://" not in dataset.path and not Path(dataset.path).exists():
        return None, f"{dataset.path} does not exist"
    try:
        return measure(dataset), ""
    except (ValueError, OSError) as error:
        return None, str(error)


def _index_size(index: Index, dataset: DatasetConfig) -> SetSize:
    taken = taken_episodes(index, dataset)
    if dataset.only_labelled:
        taken = labelled_episodes(index, taken, dataset.labelled_share)
    frames = np.diff(index.first_row)[taken]
    seconds = float((frames / index.fps[taken]).sum())
    return SetSize(
        episodes=len(taken),
        frames=int(frames.sum()),
        hours=seconds / 3600,
        rate_hz=float(frames.sum() / seconds),
        robot_type=index.meta.robot_type,
        cameras=index.meta.cameras,
        estimated=False,
    )


def _reader_size(reader: Reader) -> SetSize:
    tried = spread_out(len(reader), _EPISODES_TRIED)
    frames, seconds, robots, problem = [], [], [], "it is empty"
    for index in tried:
        try:
            episode = reader.episode(index)
        except BadEpisodeError as error:
            problem = str(error)
            continue
        frames.append(len(episode))
        seconds.append(len(episode) / episode.fps)
        robots.append(episode.robot_type)
    if not frames:
        raise ValueError(f"{reader.root} has no episode that can be used: {problem}")
    scale = len(reader) / len(tried)  # episodes that cannot be used are taken to be as frequent among the others
    return SetSize(
        episodes=round(len(frames) * scale),
        frames=sum(frames) * scale,
        hours=sum(seconds) * scale / 3600,
        rate_hz=sum(frames) / sum(seconds),
        robot_type=max(set(robots), key=robots.count),
        cameras=list(reader.cameras),
        estimated=len(tried) < len(reader),
    )
