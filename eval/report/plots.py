"""The page's plots: strips with intervals drawn in percent of their width, and matplotlib's small multiples.

Colours are the page's CSS variables, so one drawing serves the light and the dark page. A strip stretches with its
column without stretching its text, which is what makes it readable on a telephone.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from eval.report.markup import fill, join

# Stand-ins matplotlib accepts as colours, exchanged in its output for what only the page knows.
_COLOURS = {"#010101": "var(--ink)", "#020202": "var(--muted)", "#030303": "var(--accent)", "#040404": "var(--rule)"}
_INK, _MUTED, _ACCENT, _RULE = _COLOURS
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": _RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "axes.unicode_minus": True,
}
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
        lines: (steps, values) of each run; finite values.
        label: What a screen reader says.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(3.3, 1.9))
        canvas = FigureCanvasSVG(figure)
        axes = figure.add_axes((0.13, 0.14, 0.84, 0.82))
        for steps, values in lines:
            x, y = np.asarray(steps, float), np.asarray(values, float)
            axes.plot(*_thinned(x, y), color=_ACCENT, alpha=0.22, linewidth=0.7)
            axes.plot(*_running_mean(x, y), color=_ACCENT, linewidth=1.5, solid_capstyle="round")
        _scale(axes, np.concatenate([np.asarray(v, float) for _, v in lines]))
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(length=2.5, pad=2)
        axes.grid(axis="y", color=_RULE, linewidth=0.5, alpha=0.7)
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inlined(buffer.getvalue(), label)


def _scale(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic axis where the loss falls by more than a factor of 30; no room for single spikes."""
    if values.min() > 0 and values.max() / values.min() > 30:
        axes.set_yscale("log")
    elif len(values) > 50:
        low, high = np.quantile(values, [0.002, 0.998])
        room = 0.06 * (high - low) or 0.5
        axes.set_ylim(low - room, high + room)
        axes.locator_params(axis="y", nbins=4)


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


def _inlined(svg: str, label: str) -> Markup:
    """Matplotlib's file as an element of the page: no prologue, no metadata, the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg )[^>]*?(viewBox="[^"]*")[^>]*>', r"\1\2>", svg, count=1)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", svg)
    svg = re.sub(r' id="(?:figure|axes|patch|line2d|matplotlib|xtick|ytick|text)[^"]*"', "", svg)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r"\n\s*", "\n", svg)
    opening = fill('<svg class="curves" role="img" aria-label="{l}" ', l=label)
    return opening + Markup(svg.removeprefix("<svg "))


def _line(x1: str, x2: str, y1: str, y2: str, kind: str) -> Markup:
    return fill('<line class="{k}" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>', k=kind, x1=x1, x2=x2, y1=y1, y2=y2)
