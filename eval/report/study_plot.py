"""A study as a picture: methods with their standard errors, or lines over a sweep; the paper's numbers as diamonds."""

import io
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from eval.results.study import Setting
from eval.results.study_written import Written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _MUTED, _RULE = "#1c1b19", "#6b675f", "#dcd8cd"
# Okabe and Ito's colours, which colour-blind readers tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a857a", "#000000")
_MOST_LINES = len(_COLOURS)


def picture(written: Written) -> bytes:
    """The study as a PNG, one panel a column, the same bytes for the same study."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"font.family": "DejaVu Sans", "font.size": 9, "text.color": _INK, "axes.edgecolor": _RULE}
    style |= {"xtick.color": _MUTED, "ytick.color": _INK, "axes.labelcolor": _MUTED, "axes.titlesize": 10}
    with rc_context(style):
        figure = Figure(dpi=150, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        if written.axis:
            _sweep(figure, written)
        else:
            _table(figure, written)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _table(figure: "Figure", written: Written) -> None:
    study = written.study
    methods = list(study.methods)
    figure.set_size_inches(2.4 + 1.75 * len(study.shown), 1.0 + 0.34 * len(methods))
    panels = figure.subplots(1, len(study.shown), sharey=True, squeeze=False)[0]
    for panel, column in zip(panels, study.shown, strict=True):
        for place, method in enumerate(methods):
            cell, value = study.cell(method, column), written.paper(method, column)
            if value is not None:
                panel.errorbar(100 * value[0], place + 0.18, xerr=100 * (value[1] or 0.0), **_paper(_MUTED))
            if cell is not None:
                low, high = cell.interval or (cell.mean, cell.mean)
                panel.plot([100 * low, 100 * high], [place - 0.12] * 2, color=_COLOURS[0], linewidth=2.5, alpha=0.5)
                panel.plot(100 * cell.mean, place - 0.12, "o", color=_COLOURS[0], markersize=5)
        panel.set_title(column)
        _percent(panel)
        panel.grid(axis="x", color=_RULE, linewidth=0.7)
    panels[0].set_yticks(range(len(methods)), list(study.methods.values()))
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    _explain(figure, written)


def _sweep(figure: "Figure", written: Written) -> None:
    study = written.study
    figure.set_size_inches(1.2 + 3.6 * len(study.shown), 3.4)
    panels = figure.subplots(1, len(study.shown), sharey=True, squeeze=False)[0]
    places: dict[Setting, float] = {setting: float(i) for i, setting in enumerate(study.settings)}
    for panel, column in zip(panels, study.shown, strict=True):
        for number, method in enumerate(study.methods):
            _line(panel, written, method, column, places, _COLOURS[number % _MOST_LINES])
        panel.set_title(column)
        panel.set_xticks(list(places.values()), [str(setting) for setting in places])
        panel.set_xlabel(written.axis)
        panel.set_ylim(-3, 103)
        panel.grid(axis="y", color=_RULE, linewidth=0.7)
        _bare(panel)
    panels[0].legend(frameon=False, fontsize=8, loc="best")
    _explain(figure, written)


def _line(panel: "Axes", written: Written, method: str, column: str, places: dict[Setting, float], colour: str) -> None:
    study = written.study
    title = study.methods[method]
    found = [(x, cell) for setting, x in places.items() if (cell := study.cell(method, column, setting)) is not None]
    if found:
        xs, cells = zip(*found, strict=True)
        ends = [cell.interval or (cell.mean, cell.mean) for cell in cells]
        panel.plot(xs, [100 * cell.mean for cell in cells], "o-", color=colour, markersize=4, label=title)
        panel.fill_between(
            xs, [100 * low for low, _ in ends], [100 * high for _, high in ends], color=colour, alpha=0.16, linewidth=0
        )
    if (always := study.cell(method, column, None)) is not None:  # does not depend on the axis
        panel.axhline(100 * always.mean, color=colour, linestyle="--", linewidth=1.2, label=title)
    for setting, x in places.items():
        if (value := written.paper(method, column, setting)) is not None:
            panel.errorbar(x, 100 * value[0], yerr=100 * (value[1] or 0.0), **_paper(colour))


def _paper(colour: str) -> dict[str, Any]:
    """The look of a published number."""
    return {"fmt": "D", "color": colour, "markerfacecolor": "white", "markersize": 4.5, "linewidth": 1.0}


def _percent(panel: "Axes") -> None:
    panel.set_xlim(-4, 104)
    panel.set_xticks([0, 50, 100])
    panel.tick_params(left=False)
    _bare(panel)


def _bare(panel: "Axes") -> None:
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)


def _explain(figure: "Figure", written: Written) -> None:
    study = written.study
    words = f"per cent of {study.measure.replace('_', ' ')}; dot and bar: mean ± standard error over training seeds"
    places = ((m, c, s) for m in study.methods for c in study.shown for s in study.settings)
    if any(written.paper(*place) for place in places):
        words += "; diamond: the paper"
    width = int(15 * figure.get_size_inches()[0])
    figure.supxlabel("\n".join(wrap(words, width)), color=_MUTED, fontsize=8)
