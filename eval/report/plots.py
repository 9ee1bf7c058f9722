"""The page's plots, as SVG: strips with intervals, drawn in percent of their width, and small learning curves.

Colours come from the page's style sheet, so one drawing serves the light and the dark page. A strip stretches with
its column without stretching its text, which is what makes it readable on a telephone. Drawn here and not by a
plotting library: that took a quarter of a second a panel, and its output had to be rewritten to take the colours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from eval.report.markup import fill, join, number

_WIDTH, _HEIGHT, _LEFT = 320, 180, 38  # of a panel of curves, in its own units
_BINS = 160


def strip(
    interval: tuple[float, float],
    dot: float,
    kind: str,
    label: str,
    ticks: Sequence[float],
    span: tuple[float, float] = (0.0, 1.0),
    marks: Sequence[float] = (),
) -> Markup:
    """One row of a dot-and-interval plot.

    Args:
        interval: Both ends of the bar, in the units of `span`.
        dot: The estimate.
        kind: CSS class: method, control or reference.
        label: What a screen reader says.
        ticks: Where the grid lines stand.
        span: The axis' ends.
        marks: Small marks under the bar (single training seeds).
    """

    def x(value: float) -> str:
        return f"{100 * (value - span[0]) / (span[1] - span[0]):.2f}%"

    grid = join(_line(x(t), x(t), "0", "34", "zero" if t == 0 and span[0] < 0 else "grid") for t in ticks)
    seeds = join(fill('<circle class="seed" cx="{x}" cy="27" r="2"/>', x=x(m)) for m in marks)
    return fill(
        '<svg class="strip {k}" width="100%" height="34" role="img" aria-label="{l}">{grid}{bar}'
        '<circle class="dot" cx="{x}" cy="15" r="5"/>{seeds}</svg>',
        k=kind,
        l=label,
        grid=grid,
        bar=_line(x(interval[0]), x(interval[1]), "15", "15", "bar"),
        x=x(dot),
        seeds=seeds,
    )


def axis(ticks: Sequence[tuple[float, str]], span: tuple[float, float] = (0.0, 1.0)) -> Markup:
    """The numbers under a column of strips."""
    text = join(
        fill('<text x="{x:.2f}%" y="11">{t}</text>', x=100 * (v - span[0]) / (span[1] - span[0]), t=t) for v, t in ticks
    )
    return fill('<svg class="axis" width="100%" height="14" aria-hidden="true">{t}</svg>', t=text)


def curves(lines: Sequence[tuple[Sequence[float], Sequence[float]]], label: str) -> Markup:
    """One panel: each line raw and faint, with its running mean (5 % of the points wide) over it.

    Args:
        lines: (steps, values) of each run; finite values, at least one a line.
        label: What a screen reader says.
    """
    drawn = [(np.asarray(steps, float), np.asarray(values, float)) for steps, values in lines]
    steps = np.concatenate([x for x, _ in drawn])
    across = _Scale(0.0, float(steps.max()) or 1.0, _LEFT, _WIDTH - 6)
    up = _vertical(np.concatenate([y for _, y in drawn]))
    faint = join(_path(_thinned(x, y), across, up, "raw") for x, y in drawn)
    bold = join(_path(_running_mean(x, y), across, up, "mean") for x, y in drawn)
    return fill(
        '<svg class="curves" viewBox="0 0 {w} {h}" role="img" aria-label="{l}">{grid}{f}{b}{x}</svg>',
        w=_WIDTH,
        h=_HEIGHT,
        l=label,
        grid=join(_level(t, up(t)) for t in up.ticks()),
        f=faint,
        b=bold,
        x=join(
            fill('<text class="x" x="{x:.1f}" y="{y}">{t}</text>', x=across(t), y=_HEIGHT - 3, t=number(t))
            for t in across.ticks()
        ),
    )


@dataclass(frozen=True)
class _Scale:
    """Values from `low` to `high` laid out between two pixels, linearly or (`log`) by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: Any) -> Any:
        low, high, value = (np.log(v) if self.log else v for v in (self.low, self.high, value))
        share = np.clip((value - low) / (high - low), 0, 1)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Two to five round values inside the scale."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            every = max((last - first) // 4, 1)
            return [t for k in range(first, last + 1, every) if self.low <= (t := 10.0**k) <= self.high]
        rough = (self.high - self.low) / 4
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [float(f"{k * step:.10g}") for k in range(first, last + 1)]


def _vertical(values: np.ndarray) -> _Scale:
    """A logarithmic axis where values span more than a factor of 30; no room for single spikes on a linear one."""
    if values.min() > 0 and values.max() / values.min() > 30:
        return _Scale(float(values.min()) / 1.15, float(values.max()) * 1.15, _HEIGHT - 18, 6, log=True)
    low, high = np.quantile(values, [0.002, 0.998]) if len(values) > 50 else (values.min(), values.max())
    room = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
    return _Scale(float(low - room), float(high + room), _HEIGHT - 18, 6)


def _path(points: tuple[np.ndarray, np.ndarray], across: _Scale, up: _Scale, kind: str) -> Markup:
    pairs = zip(across(points[0]), up(points[1]), strict=True)
    return fill('<polyline class="{k}" points="{p}"/>', k=kind, p=" ".join(f"{x:.1f},{y:.1f}" for x, y in pairs))


def _level(value: float, y: float) -> Markup:
    line = _line(str(_LEFT), str(_WIDTH - 6), f"{y:.1f}", f"{y:.1f}", "grid")
    return line + fill('<text class="y" x="{x}" y="{y:.1f}">{t}</text>', x=_LEFT - 6, y=y + 3.5, t=number(value))


def _running_mean(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width = max(len(y) // 20, 1)
    kernel = np.ones(width)
    mean = np.convolve(y, kernel, "same") / np.convolve(np.ones_like(y), kernel, "same")
    keep = np.unique(np.linspace(0, len(y) - 1, _BINS).round().astype(int))
    return x[keep], mean[keep]


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most two points a bin, its lowest and highest, so no spike is lost and the file stays small."""
    if len(y) <= 2 * _BINS:
        return x, y
    keep: set[int] = set()
    for part in np.array_split(np.arange(len(y)), _BINS):
        keep |= {int(part[y[part].argmin()]), int(part[y[part].argmax()])}
    index = np.array(sorted(keep))
    return x[index], y[index]


def _line(x1: str, x2: str, y1: str, y2: str, kind: str) -> Markup:
    return fill('<line class="{k}" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>', k=kind, x1=x1, x2=x2, y1=y1, y2=y2)
