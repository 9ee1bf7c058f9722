"""One episode as one HTML page that needs nothing beside itself: frames to scrub, plots by name, sub-task spans."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_mixtures.defects import BadEpisodeError
from data_mixtures.episode import Episode
from data_mixtures.spaces.dimension_names import DimensionName, dimension_names
from data_mixtures.summaries.inspection import subtask_spans
from data_mixtures.summaries.page import render, write_page

LARGEST_PAGE = 14_000_000  # bytes; frames give way first

_SIDES = (
    480,
    400,
    352,
    320,
    288,
    256,
    224,
    192,
    160,
)  # pixels of the longer side, tried in this order
_QUALITY = 78
_PROBES = 8  # frames encoded to foresee the size of all
_MARGIN = 1.15  # over the probes' mean; a page that is too large all the same is made again, smaller
_DECODED_BYTES = 64_000_000  # of frames held at a time

_PLOT_POINTS = 700  # polylines of longer episodes keep every bin's lowest and highest value
_EDGE = 6  # of the plot's 100 units of height, above the highest and below the lowest value
_BAND_COLOURS = 6


@dataclass(frozen=True)
class Film:
    """The frames of one camera as JPEGs in base64, every `every`-th of the episode, or why there are none."""

    camera: str
    size: tuple[int, int] = (0, 0)
    shown_size: tuple[int, int] = (0, 0)
    every: int = 1
    frames: Sequence[str] = ()
    problem: str = ""


@dataclass(frozen=True)
class Line:
    """One dimension in a plot: SVG polylines ("x,y x,y", x and y in 0..1000 and 0..100), and a value per frame.

    Attributes:
        key: of the dimension in the page, as "state3".
        part: what tells it from the others of the plot, as "x"; "gripper" for one.
    """

    key: str
    part: str
    polylines: list[str]
    values: list[float | None]


@dataclass(frozen=True)
class Plot:
    """The dimensions of one group on one pair of axes; `low` and `high` are the values at the plot's edges.

    Attributes:
        zero: where 0 lies, from 0 (top) to 100 (bottom); None outside the plot.
    """

    title: str
    unit: str
    low: float
    high: float
    zero: float | None
    lines: list[Line]


def write_episode_page(episode: Episode, dataset_name: str, out: Path, largest: int = LARGEST_PAGE) -> Path:
    """Write the page of one episode; cameras that do not decode cost only themselves, and the page says why.

    Args:
        episode: as a reader gives it.
        dataset_name: said in the page's head.
        out: the HTML file, replaced as a whole.
        largest: bytes the page may have; frames are made smaller, then fewer, until it fits.

    Returns:
        `out`.
    """
    without_frames = render(
        "episode.html.jinja", **_context(episode, dataset_name, [Film(camera) for camera in episode.cameras])
    )
    budget = largest - len(without_frames)
    while True:
        films = [_film(episode, camera, budget // len(episode.cameras)) for camera in episode.cameras]
        text = render("episode.html.jinja", **_context(episode, dataset_name, films))
        if len(text) <= largest or budget < largest // 50:
            break
        budget = int(budget * 0.7)
    write_page(out, text)
    return out


def _context(episode: Episode, dataset_name: str, films: Sequence[Film]) -> dict[str, object]:
    spans = [
        {"start": start, "end": end, "text": text, "colour": _colour(number)}
        for number, (start, end, text) in enumerate(subtask_spans(episode))
    ]
    state = plots(dimension_names("state", episode.space), episode.numerics.state, episode.numerics.state_mask)
    actions = plots(dimension_names("action", episode.space), episode.numerics.actions, episode.numerics.action_mask)
    return {
        "dataset": dataset_name,
        "episode": episode,
        "length": len(episode),
        "films": films,
        "info": [(key, _said(value)) for key, value in sorted(episode.info.items())],
        "spans": spans,
        "spaces": [
            {"title": "State", "note": "", "empty": "the recording is video only", "blocks": _blocks(state)},
            {
                "title": "Action",
                "note": "changes from a frame to the next; grippers absolute",
                "empty": "the recording shows no action",
                "blocks": _blocks(actions),
            },
        ],
        "data": {
            "length": len(episode),
            "fps": episode.fps,
            "films": [{"every": film.every, "frames": film.frames} for film in films],
            "spans": [[span["start"], span["end"], span["text"], span["colour"]] for span in spans],
            "lines": {line.key: line.values for plot in (*state, *actions) for line in plot.lines},
        },
    }


def _blocks(found: Sequence[Plot]) -> list[dict[str, object]]:
    """Plots that stand in one grid: the arms (left beside right where both have the same), and the fingertips."""
    arms = [plot for plot in found if " tip" not in plot.title]
    tips = [plot for plot in found if " tip" in plot.title]
    left = [plot.title.removeprefix("left") for plot in arms if plot.title.startswith("left")]
    right = [plot.title.removeprefix("right") for plot in arms if plot.title.startswith("right")]
    blocks = [
        {"kind": "pair" if left == right else "arms", "rows": len(left), "plots": arms},
        {"kind": "tips", "rows": len(tips), "plots": tips},
    ]
    return [block for block in blocks if block["plots"]]


def _said(value: object) -> str:
    """What an episode's `info` holds, in a line; of arrays only their shape."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) and value.ndim else str(value)


def _colour(number: int) -> int:
    return number % _BAND_COLOURS


# ------------------------------------------------------------------------------------------------------------ frames


def _film(episode: Episode, camera: str, budget: int) -> Film:
    """The largest pictures of a camera that take at most `budget` characters, as estimated from a few of them."""
    length = len(episode)
    try:
        probes = episode.frames(camera, np.unique(np.linspace(0, length - 1, _PROBES).round().astype(np.int64)))
        height, width = probes.shape[1:3]
        size, every = _affordable(probes, length, budget)
        numbers = np.arange(0, length, every)
        step = max(1, _DECODED_BYTES // max(1, height * width * 3))
        frames = [
            _jpeg(frame, size)
            for first in range(0, len(numbers), step)
            for frame in episode.frames(camera, numbers[first : first + step])
        ]
    except BadEpisodeError as error:
        return Film(camera, problem=error.defect.detail)
    return Film(camera, (width, height), size, every, frames)


def _affordable(probes: np.ndarray, length: int, budget: int) -> tuple[tuple[int, int], int]:
    """The size (width, height) of the pictures and how many frames to go on from one to the next."""
    height, width = probes.shape[1:3]
    size, cost = (width, height), 0.0
    for side in _SIDES:
        scale = min(1.0, side / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        cost = _MARGIN * length * float(np.mean([len(_jpeg(frame, size)) + 3 for frame in probes]))
        if cost <= budget:
            return size, 1
    return size, min(length, math.ceil(cost / max(budget, 1)))


def _jpeg(frame: np.ndarray, size: tuple[int, int]) -> str:
    image = Image.fromarray(np.ascontiguousarray(frame))
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.5)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


# ------------------------------------------------------------------------------------------------------------- plots


def plots(names: Sequence[DimensionName], values: np.ndarray, mask: np.ndarray) -> list[Plot]:
    """One plot a group of which any dimension is there: values [T, dim], mask bool [T, dim]."""
    present = [name for name in names if mask[:, name.index].any()]
    return [_plot(title, list(group), values, mask) for title, group in groupby(present, key=lambda name: name.group)]


def _plot(title: str, group: Sequence[DimensionName], values: np.ndarray, mask: np.ndarray) -> Plot:
    columns = [name.index for name in group]
    seen = values[:, columns][mask[:, columns]]
    low, high = float(seen.min()), float(seen.max())
    if group[0].unit.startswith("0 closed"):
        low, high = min(low, 0.0), max(high, 1.0)
    room = 0 if high > low else 0.05 * abs(high) or 0.5  # a constant lies in the middle
    low, high = low - room, high + room
    lines = [
        Line(
            key=f"{name.space}{name.index}",
            part=name.part or "gripper",
            polylines=_polylines(values[:, name.index], mask[:, name.index], low, high),
            values=[float(f"{value:.4g}") if there else None for value, there in _pairs(values, mask, name.index)],
        )
        for name in group
    ]
    return Plot(title, group[0].unit, low, high, _height(0.0, low, high) if low <= 0 <= high else None, lines)


def _pairs(values: np.ndarray, mask: np.ndarray, column: int) -> list[tuple[float, bool]]:
    return list(zip(values[:, column].tolist(), mask[:, column].tolist(), strict=True))


def _height(value: Any, low: float, high: float) -> Any:
    """Where a value (or an array of them) lies in a plot, from 0 (top) to 100."""
    return _EDGE + (100 - 2 * _EDGE) * (high - value) / (high - low)


def _polylines(values: np.ndarray, there: np.ndarray, low: float, high: float) -> list[str]:
    """One polyline a run of frames that have the value; frame t of T stands at x = 1000 t / (T - 1)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], there.astype(np.int8), [0]])))
    lines = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        frames = _thinned(values, start, end)
        across = frames * (1000 / max(len(values) - 1, 1))
        down = _height(values[frames].astype(np.float64), low, high)
        points = [f"{x:.1f},{y:.1f}" for x, y in zip(across.tolist(), down.tolist(), strict=True)]
        # A run of one frame would be drawn as nothing; a line to itself with round ends is a dot.
        lines.append(" ".join(points if len(points) > 1 else points * 2))
    return lines


def _thinned(values: np.ndarray, start: int, end: int) -> np.ndarray:
    """Frames start..end - 1, or of each of many bins the lowest and the highest, so that no spike is lost."""
    frames = np.arange(start, end)
    if len(frames) <= _PLOT_POINTS:
        return frames
    bins = np.array_split(frames, _PLOT_POINTS // 2)
    picked = [part[pick(values[part])] for part in bins for pick in (np.argmin, np.argmax)]
    return np.unique([*picked, start, end - 1])
