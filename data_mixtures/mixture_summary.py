"""A mixture in figures: weights, the shares its sampler really draws, how large each set is, what is missing."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_mixtures.config import DatasetConfig, MixtureConfig, check
from data_mixtures.defects import BadEpisodeError
from data_mixtures.inspection import spread_out
from data_mixtures.page import render, write_whole
from data_mixtures.readers.reader import Reader
from data_mixtures.sampler import Sampler

DRAWS = 1_000_000
_BLOCK = 1 << 17  # ids drawn at a time


@dataclass(frozen=True)
class SetSize:
    """How large a data set is, from all of its episodes or, `episodes_read` of them, by their mean."""

    episodes: int
    episodes_read: int
    frames: float
    hours: float
    rate_hz: float
    robot_type: str
    cameras: list[str]

    @property
    def estimated(self) -> bool:
        """True where not every episode was read."""
        return self.episodes_read < self.episodes


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
    open_set: Callable[[DatasetConfig], Reader],
    seed: int = 0,
    draws: int = DRAWS,
    episodes: int | None = 20,
    on_set: Callable[[str], None] | None = None,
) -> MixtureSummary:
    """Draw `draws` sample ids through the mixture's own sampler and measure every set that is there.

    Args:
        config: the mixture.
        open_set: gives a reader, or raises ValueError or OSError with what is wrong.
        seed: of the sampler.
        draws: ids 0..draws - 1 are drawn.
        episodes: read so many of a set, spread out, for its hours; all when None.
        on_set: called with a set's name before it is opened.
    """
    check(config)
    weights = np.array([dataset.weight for dataset in config.datasets])
    drawn = drawn_shares(weights.tolist(), seed, draws)
    rows = []
    for position, dataset in enumerate(config.datasets):
        name = Path(dataset.path).name
        if on_set is not None:
            on_set(name)
        size, problem = _size(dataset, open_set, episodes)
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
    write_whole(out, render("mixture.html.jinja", name=name, summary=summary, rows=ranked, largest=largest))
    return out


def _size(
    dataset: DatasetConfig, open_set: Callable[[DatasetConfig], Reader], episodes: int | None
) -> tuple[SetSize | None, str]:
    try:
        reader = open_set(dataset)
    except (ValueError, OSError) as error:
        return None, str(error)
    frames, seconds, robots, problem = [], [], [], "it has no episodes"
    for index in spread_out(len(reader), episodes):
        try:
            episode = reader.episode(index)
        except BadEpisodeError as error:
            problem = str(error)
            continue
        frames.append(len(episode))
        seconds.append(len(episode) / episode.fps)
        robots.append(episode.robot_type)
    if not frames:
        return None, f"no episode could be read; the last one: {problem}"
    scale = len(reader) / len(frames)
    return (
        SetSize(
            episodes=len(reader),
            episodes_read=len(frames),
            frames=sum(frames) * scale,
            hours=sum(seconds) * scale / 3600,
            rate_hz=sum(frames) / sum(seconds),
            robot_type=max(set(robots), key=robots.count),
            cameras=list(reader.cameras),
        ),
        "",
    )
