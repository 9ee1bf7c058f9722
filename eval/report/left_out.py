"""The episodes that training left out, and why; shown only when there are any."""

from collections import Counter
from typing import Any

from markupsafe import Markup

from eval.report.markup import folded, plural, section, table
from eval.report.run_folder import Run

_SHOWN = 200  # rows of the folded table


def left_out_section(run: Run) -> Markup:
    """Counts by data set and kind, and the single episodes folded below; empty for clean data."""
    found = _found(run)
    if not found:
        return Markup()
    counts = sorted(Counter((row["dataset"], row["kind"]) for row in found).items())
    shown = [[row["dataset"], row["key"], row["kind"], row["detail"]] for row in found[:_SHOWN]]
    every = table(["Data set", "Episode", "Kind", "What is wrong"], shown, "plain")
    left = plural(len(found), "defect")
    return section(
        "left-out",
        "Data left out",
        table(["Data set", "Kind", "Episodes or files"], [[*key, count] for key, count in counts], "plain"),
        folded("Each of them" if len(found) <= _SHOWN else f"The first {_SHOWN}; all are in quarantine.jsonl", every),
        note=f"{left}: these episodes or files could not be used, and training went on without them.",
    )


def _found(run: Run) -> list[dict[str, Any]]:
    """Every distinct defect that any step noted, in order."""
    fields = ("dataset", "key", "kind", "detail")
    rows = (row for step in run.steps for row in run.rows(step.folder / "quarantine.jsonl"))
    whole = (tuple(str(row.get(name, "")) for name in fields) for row in rows)
    return [dict(zip(fields, values, strict=True)) for values in dict.fromkeys(whole)]
