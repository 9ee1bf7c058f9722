"""Learning curves: one small panel for each number a stage reports, training seeds over one another."""

import math
from typing import Any

from markupsafe import Markup

from eval.report.markup import fill, join, missing, number, plural, section
from eval.report.plots import curves
from eval.report.run_folder import Group, Run

_KINDS = ("lam", "distill", "finetune")
_NOT_LEARNING = {"step", "loss", "lr", "grad_norm", "samples_per_s", "data_wait_share", "seconds"}
_TERMS = 7  # panels beside the loss

Series = dict[str, list[tuple[float, float]]]


def curves_section(run: Run) -> Markup:
    """Every training stage's loss, and its terms where the stage is not one of many fine-tunings."""
    groups = [g for kind in _KINDS for g in run.groups(kind)]
    if not groups:
        return section("curves", "Learning curves", missing(run.absence("learning curves", "lam")))
    many = sum(g.kind == "finetune" for g in groups) > 2
    wide = [_group(run, g) for g in groups if not (many and g.kind == "finetune")]
    narrow = [_panel_of(run, g) for g in groups if many and g.kind == "finetune"]
    if narrow:
        wide.append(fill('<h3>Fine-tuning, loss</h3><div class="panels">{p}</div>', p=join(narrow)))
    note = "Faint: every logged step; bold: the running mean. A line for each training seed; numbers: the last values."
    return section("curves", "Learning curves", *wide, note=note)


def _group(run: Run, group: Group) -> Markup:
    series = [_series(run, group, i) for i in range(len(group.steps))]
    names = [n for n in dict.fromkeys(n for s in series for n in s) if n != "loss"]
    shown = ["loss", *names[:_TERMS]]
    left = f" {plural(len(names) - _TERMS, 'other number')} of metrics.jsonl not drawn." if len(names) > _TERMS else ""
    panels = join(_panel(name, [s.get(name, []) for s in series]) for name in shown)
    words = _words(group, series)
    return fill(
        '<h3>{t}</h3><p class="note">{w}{l}</p><div class="panels">{p}</div>', t=group.title, w=words, l=left, p=panels
    )


def _panel_of(run: Run, group: Group) -> Markup:
    series = [_series(run, group, i) for i in range(len(group.steps))]
    return _panel(group.title, [s.get("loss", []) for s in series])


def _words(group: Group, series: list[Series]) -> str:
    last = max((int(points[-1][0]) for s in series for points in s.values()), default=0)
    seeds = f"training seeds {', '.join(map(str, group.seeds))}; " if len(group.seeds) > 1 else ""
    words = f"{seeds}{plural(last, 'step')}." if last else ""
    return words[:1].upper() + words[1:]


def _panel(name: str, lines: list[list[tuple[float, float]]]) -> Markup:
    there = [line for line in lines if line]
    if not there:
        return fill(
            '<figure class="panel"><figcaption>{n}</figcaption>{m}</figure>', n=name, m=missing("Not logged yet.")
        )
    ends = ", ".join(number(line[-1][1]) for line in there)
    drawn = curves([([x for x, _ in line], [y for _, y in line]) for line in there], f"{name} over steps")
    return fill(
        '<figure class="panel"><figcaption>{n} <span>{e}</span></figcaption>{d}</figure>', n=name, e=ends, d=drawn
    )


def _series(run: Run, group: Group, index: int) -> Series:
    """Points of every number over steps; a step logged twice (after a resume) keeps its later row."""
    step = group.steps[index]
    rows = {r["step"]: r for r in run.rows(step.folder / "metrics.jsonl") if isinstance(r.get("step"), int)}
    series: Series = {}
    bad = 0
    for at in sorted(rows):
        for name, value in _learning(rows[at]):
            if math.isfinite(value):
                series.setdefault(name, []).append((float(at), float(value)))
            else:
                bad += 1
    if bad:
        run.problems.append(f"{step.name}/metrics.jsonl: {plural(bad, 'value')} not finite, left out of the curves.")
    return series


def _learning(row: dict[str, Any]) -> list[tuple[str, float]]:
    """The numbers worth a curve; the loop writes null for one that was not finite, which is nan here."""
    numbers = ((name, math.nan if value is None else value) for name, value in row.items())
    return [
        (name, value)
        for name, value in numbers
        if (name == "loss" or name not in _NOT_LEARNING)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    ]
