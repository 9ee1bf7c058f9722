"""What the run cost: wall time, peak memory, data-wait share; and what made it: recipes, code, packages."""

import statistics
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from eval.report.markup import duration, fill, folded, join, missing, number, plural, section, size, table
from eval.report.run_folder import Run, Step

_LONGEST_RECIPE = 60_000  # characters


@dataclass(frozen=True)
class Cost:
    """One finished step; what its done.json does not say is None."""

    step: Step
    wall_seconds: float
    peak_bytes: float | None
    wait_share: float | None
    skipped: int | None
    rate: float | None  # median samples per second


def costs(run: Run) -> list[Cost]:
    """The finished steps in order, the report itself left out."""
    found = []
    for step in run.steps:
        done = run.json(step.folder / "done.json")
        if step.kind == "report" or not isinstance(done, dict) or _figure(done, "wall_seconds") is None:
            continue
        rates = [v for r in run.rows(step.folder / "metrics.jsonl") if (v := _figure(r, "samples_per_s")) is not None]
        skipped = _figure(done, "skipped_steps")
        found.append(
            Cost(
                step,
                _figure(done, "wall_seconds") or 0.0,
                _figure(done, "peak_memory_bytes"),
                _figure(done, "data_wait_share"),
                None if skipped is None else int(skipped),
                statistics.median(rates) if rates else None,
            )
        )
    return found


def cost_section(run: Run, spent: list[Cost]) -> Markup:
    """By kind of step; every single step folded below where there are many."""
    title = "What it cost"
    waiting = [s.name for s in run.steps if s.kind != "report" and s not in [c.step for c in spent]]
    unfinished = missing(f"Not finished: {', '.join(waiting)}.") if waiting else Markup()
    if not spent:
        return section("cost", title, missing("No step has finished, so there is no cost to show."))
    head = ["Step", "Wall time", "", "Peak memory", "Waiting for data", "Skipped steps", "Samples/s"]
    longest = max(c.wall_seconds for c in spent)
    every = table(head, [_row(c, longest) for c in spent], "cost")
    kinds = list(dict.fromkeys(c.step.kind for c in spent))
    note = "Steps may have run side by side, so their wall times add up to more than the pipeline took."
    if len(spent) <= 10:
        return section("cost", title, every, unfinished, note=note)
    by_kind = [_kind_row(k, [c for c in spent if c.step.kind == k], spent) for k in kinds]
    return section(
        "cost", title, table(head, by_kind, "cost"), folded(f"All {len(spent)} steps", every), unfinished, note=note
    )


def _row(cost: Cost, longest: float) -> list[Any]:
    return [
        fill("{t}<small>{k} · {n}</small>", t=cost.step.title, k=cost.step.kind, n=cost.step.name),
        duration(cost.wall_seconds),
        _bar(cost.wall_seconds / longest if longest else 0.0),
        "–" if cost.peak_bytes is None else size(cost.peak_bytes),
        "–" if cost.wait_share is None else _percent(cost.wait_share),
        "–" if cost.skipped is None else cost.skipped,
        "–" if cost.rate is None else number(cost.rate),
    ]


def _kind_row(kind: str, members: list[Cost], everything: list[Cost]) -> list[Any]:
    """Times and skipped steps added up, the largest memory, waiting weighted by time, the median rate."""
    total = sum(c.wall_seconds for c in members)
    kinds = {c.step.kind for c in everything}
    longest = max(sum(c.wall_seconds for c in everything if c.step.kind == k) for k in kinds)
    waits = [(c.wait_share, c.wall_seconds) for c in members if c.wait_share is not None]
    waited = sum(s for _, s in waits)
    peaks = [c.peak_bytes for c in members if c.peak_bytes is not None]
    skipped = [c.skipped for c in members if c.skipped is not None]
    rates = [c.rate for c in members if c.rate is not None]
    return [
        fill("{k}<small>{n}</small>", k=kind, n=plural(len(members), "step")),
        duration(total),
        _bar(total / longest if longest else 0.0),
        size(max(peaks)) if peaks else "–",
        _percent(sum(w * s for w, s in waits) / waited) if waited else "–",
        sum(skipped) if skipped else "–",
        number(statistics.median(rates)) if rates else "–",
    ]


def _bar(width: float) -> Markup:
    return fill('<td class="meter"><i style="--w:{w:.1f}%"></i></td>', w=100 * width)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _figure(row: dict[str, Any], name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None


def provenance_section(run: Run) -> Markup:
    """The resolved recipes and the versions, folded."""
    pipeline = run.text(run.folder / "recipe.yaml")
    recipes = [("The pipeline", pipeline)] + [(s.title, run.text(s.folder / "recipe.yaml")) for s in run.steps]
    there = [folded(title, fill("<pre>{t}</pre>", t=_cut(text))) for title, text in recipes if text]
    shown = folded(f"Resolved recipes ({len(there)})", join(there)) if there else missing("No recipe.yaml was found.")
    return section("provenance", "What made it", shown, _versions(run), _problems(run))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_RECIPE else text[:_LONGEST_RECIPE] + "\n… (cut here; see recipe.yaml)"


def _versions(run: Run) -> Markup:
    """Each distinct set of versions once, with the steps it made."""
    places = [(run.folder, "the pipeline"), *((s.folder, s.name) for s in run.steps)]
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for folder, name in places:
        versions = run.json(folder / "versions.json")
        if isinstance(versions, dict):
            found.setdefault(repr(versions), (versions, []))[1].append(name)
    if not found:
        return missing("No versions.json was found; each step writes one when it starts.")
    single = len(found) == 1
    return join(
        folded(
            "Code and package versions" if single else f"Code and package versions of {', '.join(names)}",
            table(["", "Version"], _flat(versions), "plain"),
        )
        for versions, names in found.values()
    )


def _flat(versions: dict[str, Any], before: str = "") -> list[list[Any]]:
    rows: list[list[Any]] = []
    for name, value in versions.items():
        if isinstance(value, dict):
            rows += _flat(value, "" if name == "packages" else f"{name} ")
        elif value is not None:
            rows.append([before + str(name), str(value)])
    return rows


def _problems(run: Run) -> Markup:
    if not run.problems:
        return Markup()
    items = join(fill("<li>{p}</li>", p=p) for p in dict.fromkeys(run.problems))
    return fill('<h3>Files that could not be read in full</h3><ul class="problems">{i}</ul>', i=items)
