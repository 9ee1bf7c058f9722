"""What a data set holds, found by reading it: sizes, rates, ranges by name and unit, tasks, sub-tasks, defects."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode
from data_mixtures.readers.reader import Reader
from data_mixtures.spaces.dimension_names import DimensionName, dimension_names
from data_mixtures.spaces.unified import Numerics, NumericSpace
from data_mixtures.spaces.unit_checks import check_units
from data_mixtures.statistics.quantile_sketch import QuantileSketch
from data_mixtures.statistics.streaming import Statistics

_ROWS_KEPT = 1 << 16
_NUMERICS = tuple(f.name for f in fields(Numerics))
_EPISODES_LOOKED_AT = 3  # whose first frame is decoded, for the cameras' sizes


@dataclass(frozen=True)
class DimensionRange:
    """What the values of one unified dimension span, in its unit.

    Attributes:
        space: "state" or "action", and `index` its place there.
        name: as `data_mixtures.spaces.dimension_names` calls it.
        unit: "m", "rad", "0 closed, 1 open", or "" for parts of a unit quaternion.
        share: of the frames read, how many have it.
        low: the smallest value, and `high` the largest; q01 and q99 the quantiles between them; mean and std.
    """

    space: str
    index: int
    name: str
    unit: str
    share: float
    low: float
    q01: float
    q99: float
    high: float
    mean: float
    std: float


@dataclass(frozen=True)
class CameraSummary:
    """One camera: the frame sizes met ("256x320", height first) and how many of the episodes read have it."""

    name: str
    sizes: list[str]
    episodes: int


@dataclass(frozen=True)
class TextCount:
    """A text and in how many episodes (tasks) or spans (sub-tasks) it stands."""

    text: str
    count: int


@dataclass(frozen=True)
class SubtaskSummary:
    """Named sub-task spans of the episodes read; `mean_seconds` is 0 without any."""

    episodes: int
    spans: int
    distinct: int
    mean_seconds: float
    top: list[TextCount]


@dataclass(frozen=True)
class Inspection:
    """A data set in figures; everything below `episodes_read` is about the episodes read.

    Attributes:
        path: where it lies, as it was given.
        format: the format it was read as.
        episodes: in the data set, unusable ones included.
        episodes_read: tried for this report; fewer than `episodes` when a sample was asked for.
        episodes_usable: of those, the ones that could be read.
        frames: of the usable ones, and their `hours`.
        lengths: shortest, median and longest episode in frames; [] without a usable one.
        rates_hz: frames a second -> episodes.
        robot_types: name -> episodes.
        without_instruction: episodes that say nothing.
        tasks: number of different instructions, and `top_tasks` the most frequent.
        info: what else episodes carry: key -> episodes that have it.
        info_yes: of those with yes/no values, key -> episodes that say yes.
        defects: episodes and files that cannot be used, with the reason.
        suspicions: what looks wrong but can be read: units, jumps, metadata that disagree with the files.
    """

    path: str
    format: str
    fingerprint: str
    episodes: int
    episodes_read: int
    episodes_usable: int
    frames: int
    hours: float
    lengths: list[int]
    rates_hz: dict[str, int]
    robot_types: dict[str, int]
    cameras: list[CameraSummary]
    dimensions: list[DimensionRange]
    without_instruction: int
    tasks: int
    top_tasks: list[TextCount]
    subtasks: SubtaskSummary
    info: dict[str, int]
    info_yes: dict[str, int]
    defects: list[Defect] = field(default_factory=list)
    suspicions: list[str] = field(default_factory=list)

    @property
    def estimated_hours(self) -> float:
        """Hours of the whole set, taking the episodes that were not read to be like those that were."""
        return self.hours * self.episodes / self.episodes_read if self.episodes_read else 0.0

    def as_json(self) -> dict[str, Any]:
        """The report as plain lists, numbers and texts, for `json.dumps`."""
        return asdict(self) | {"estimated_hours": self.estimated_hours}


def dataset_name(path: str) -> str:
    """The last part of a path or URL that says something: an RLDS version ("1.0.0") does not."""
    parts = [part for part in path.rstrip("/").split("/") if part not in ("", ".", "..")]
    versions = len(parts) > 1 and re.fullmatch(r"\d+\.\d+\.\d+", parts[-1])
    return (parts[-2] if versions else parts[-1]) if parts else path


def spread_out(total: int, count: int | None) -> list[int]:
    """`count` of 0..total - 1 at equal distances, the first and last among them; all when None or too many."""
    if count is None or count >= total:
        return list(range(total))
    return sorted(set(np.linspace(0, total - 1, count).round().astype(int).tolist()))


def inspect(
    reader: Reader,
    path: str,
    format_name: str,
    episodes: int | None = None,
    on_episode: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Read a data set's numerics (and a few first frames) and say what is in it.

    Args:
        reader: of the data set.
        path: said in the report.
        format_name: said in the report.
        episodes: read only so many, spread out over the set; all when None.
        on_episode: called with (episodes done, episodes to do) after each.
    """
    chosen = spread_out(len(reader), episodes)
    looked_at = set(spread_out(len(chosen), _EPISODES_LOOKED_AT))
    found = _Findings(defects=list(reader.defects))
    for done, index in enumerate(chosen):
        found.read(reader, index, look=done in looked_at)
        if on_episode is not None:
            on_episode(done + 1, len(chosen))
    return found.report(reader, path, format_name, len(chosen))


@dataclass
class _Findings:
    """What was met so far, an episode after another."""

    defects: list[Defect]
    frame_counts: list[int] = field(default_factory=list)
    seconds: float = 0.0
    rates: Counter[str] = field(default_factory=Counter)
    robots: Counter[str] = field(default_factory=Counter)
    camera_episodes: Counter[str] = field(default_factory=Counter)
    camera_sizes: dict[str, set[str]] = field(default_factory=dict)
    tasks: Counter[str] = field(default_factory=Counter)
    subtasks: Counter[str] = field(default_factory=Counter)
    subtask_seconds: float = 0.0
    subtask_episodes: int = 0
    info: Counter[str] = field(default_factory=Counter)
    info_yes: Counter[str] = field(default_factory=Counter)
    statistics: Statistics = field(default_factory=Statistics)
    kept: "_KeptEpisodes" = field(default_factory=lambda: _KeptEpisodes())

    def read(self, reader: Reader, index: int, look: bool) -> None:
        try:
            episode = reader.episode(index)
        except BadEpisodeError as error:
            self._add_defect(error.defect)
            return
        self._add(episode)
        for camera in episode.cameras if look else ():
            try:
                height, width = episode.frames(camera, np.zeros(1, dtype=np.int64)).shape[1:3]
            except BadEpisodeError as error:
                self._add_defect(error.defect)
                continue
            self.camera_sizes.setdefault(camera, set()).add(f"{height}x{width}")

    def _add_defect(self, defect: Defect) -> None:
        if defect not in self.defects:  # readers may say when opening what reading the episode says again
            self.defects.append(defect)

    def _add(self, episode: Episode) -> None:
        self.frame_counts.append(len(episode))
        self.seconds += len(episode) / episode.fps
        self.rates[f"{episode.fps:.6g}"] += 1
        self.robots[episode.robot_type] += 1
        self.camera_episodes.update(episode.cameras)
        self.tasks[episode.instruction] += 1
        self.info.update(episode.info.keys())
        self.info_yes.update(
            key for key, value in episode.info.items() if isinstance(value, (bool, np.bool_)) and value
        )
        spans = subtask_spans(episode)
        self.subtasks.update(text for _, _, text in spans)
        self.subtask_seconds += sum(end - start for start, end, _ in spans) / episode.fps
        self.subtask_episodes += bool(spans)
        self.statistics.add(episode.numerics)
        self.kept.add(episode)

    def report(self, reader: Reader, path: str, format_name: str, episodes_read: int) -> Inspection:
        counts = sorted(self.frame_counts)
        tasks = Counter({text: count for text, count in self.tasks.items() if text})
        return Inspection(
            path=path,
            format=format_name,
            fingerprint=reader.fingerprint,
            episodes=len(reader),
            episodes_read=episodes_read,
            episodes_usable=len(counts),
            frames=sum(counts),
            hours=self.seconds / 3600,
            lengths=[counts[0], counts[len(counts) // 2], counts[-1]] if counts else [],
            rates_hz=dict(self.rates.most_common()),
            robot_types=dict(self.robots.most_common()),
            cameras=[
                CameraSummary(name, sorted(self.camera_sizes.get(name, ())), episodes)
                for name, episodes in self.camera_episodes.most_common()
            ],
            dimensions=dimension_ranges(self.statistics, sum(counts), self.kept.space),
            without_instruction=self.tasks[""],
            tasks=len(tasks),
            top_tasks=_top(tasks),
            subtasks=SubtaskSummary(
                episodes=self.subtask_episodes,
                spans=self.subtasks.total(),
                distinct=len(self.subtasks),
                mean_seconds=self.subtask_seconds / max(self.subtasks.total(), 1),
                top=_top(self.subtasks),
            ),
            info=dict(sorted(self.info.items())),
            info_yes=dict(sorted(self.info_yes.items())),
            defects=self.defects,
            suspicions=self._suspicions(reader, dataset_name(path)),
        )

    def _suspicions(self, reader: Reader, name: str) -> list[str]:
        """What can be read but looks wrong: metadata that disagree with the files, units, axes."""
        notes: list[str] = [*getattr(reader, "warnings", ())]  # of formats whose metadata say again what the files are
        if wrong := self.info_yes["flags_disagree"]:
            notes.append(f"is_first or is_last is wrong in {wrong:,} episodes; the records' own ends are believed")
        if self.tasks[""]:
            notes.append(f"{self.tasks['']:,} of {len(self.frame_counts):,} episodes have no instruction")
        return notes + [f"{s.dimension}: {s.words}" for s in check_units(name, self.kept, self.statistics)]


class _KeptEpisodes:
    """The numerics of the first episodes, for what single dimensions do not show (an `EpisodeSource`)."""

    def __init__(self) -> None:
        self.num_rows = 0
        self.fps = np.array([np.inf])  # the lowest rate
        self._lengths: list[int] = []
        self._kept: list[Numerics] = []
        self._camera_moves = False
        self.space: NumericSpace = "unified"

    def add(self, episode: Episode) -> None:
        self.fps = np.minimum(self.fps, episode.fps)
        self.space = episode.space
        self._camera_moves |= "camera_rotation" in episode.info
        if self.num_rows < _ROWS_KEPT:
            self._kept.append(episode.numerics)
            self._lengths.append(len(episode))
            self.num_rows += len(episode)

    def numerics(self, rows: np.ndarray) -> Numerics:
        parts = [[vars(numerics)[name] for numerics in self._kept] for name in _NUMERICS]
        return Numerics(*(np.concatenate(arrays)[rows] for arrays in parts))

    def episode_of(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(np.cumsum(self._lengths), rows, side="right")

    def camera_rotation(self, rows: np.ndarray) -> np.ndarray | None:
        return np.zeros((len(rows), 3, 3)) if self._camera_moves else None


def subtask_spans(episode: Episode) -> list[tuple[int, int, str]]:
    """(first frame, end frame (exclusive), text) of every span that names a sub-task."""
    bounds = [*episode.subtasks, (len(episode), "")]
    return [(start, end, text) for (start, text), (end, _) in pairwise(bounds) if text]


def _top(counts: Counter[str], size: int = 20) -> list[TextCount]:
    return [TextCount(text, count) for text, count in counts.most_common(size)]


def dimension_ranges(statistics: Statistics, frames: int, space: NumericSpace = "unified") -> list[DimensionRange]:
    """What every dimension that was seen spans, states first; `frames` is how many there were in all."""
    state, action = dimension_names("state", space), dimension_names("action", space)
    return _ranges(state, statistics.state, frames) + _ranges(action, statistics.action, frames)


def _ranges(names: Sequence[DimensionName], seen: QuantileSketch, frames: int) -> list[DimensionRange]:
    low, high = seen.quantiles((0.01, 0.99))
    columns = np.stack([seen.lowest, low, high, seen.highest, seen.mean, seen.std], axis=1).tolist()
    return [
        DimensionRange(name.space, name.index, str(name), name.unit, count / frames, *columns[name.index])
        for name, count in zip(names, seen.count.tolist(), strict=True)
        if count
    ]
