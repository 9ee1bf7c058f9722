"""How the numbers were made: how fast the policies answered, versions, weights, protocols, what was left out."""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from eval.report.markup import duration, fill, folded, join, missing, number, plural, section, table
from eval.results.reading import Played, Results, grouped
from eval.results.row import EpisodeRow, protocol_digest

_SHOWN = 100  # episodes that could not be played, listed one by one


def speed_section(results: Results) -> Markup:
    """Latency percentiles and wall time of every policy on every suite."""
    head = ["Policy", "Suite", "Median, ms", "95 %", "99 %", "Calls an episode", "Time an episode", "Restarts"]
    rows = [_speed(members) for members in grouped(results.episodes, lambda p: (p.contestant, p.row.suite)).values()]
    note = (
        "Milliseconds from asking the policy, for all episodes of a batch at once, to having their actions; gathering "
        "the batch is not in it. Percentiles within each episode, of which the median over episodes is shown. The time "
        "is of the wall clock, whatever ran beside."
    )
    return section("speed", "How fast", table(head, rows, "cost"), note=note)


def _speed(members: Sequence[Played]) -> list[Any]:
    rows = [p.row for p in members]
    return [
        members[0].contestant,
        rows[0].suite,
        *(_median(rows, name) for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")),
        _median(rows, "calls"),
        duration(statistics.median(row.seconds for row in rows)),
        sum(row.restarts for row in rows),
    ]


def _median(rows: Sequence[EpisodeRow], name: str) -> str:
    values = [v for row in rows if (v := getattr(row, name)) is not None]
    return number(float(statistics.median(values))) if values else "–"


def made_section(results: Results) -> Markup:
    """Everything needed to repeat the numbers."""
    parts = [_weights(results.episodes), _versions(results.episodes), _protocols(results.episodes), _files(results)]
    return section("made", "What made it", *parts, _notes(results), _not_played(results.errors))


def _weights(episodes: Sequence[Played]) -> Markup:
    """A line for each checkpoint."""
    found = grouped(episodes, lambda p: (p.contestant, p.train_seed, p.row.checkpoint))
    rows = [
        [name, "–" if seed is None else seed, fill("<code>{c}</code>", c=checkpoint), len(members)]
        for (name, seed, checkpoint), members in found.items()
    ]
    return table(["Policy", "Training seed", "Weights, SHA-256", "Episodes"], rows, "plain")


def _versions(episodes: Sequence[Played]) -> Markup:
    """Versions by suite; one that differs between episodes of a suite is said aloud."""
    rows: list[list[Any]] = []
    warnings: list[str] = []
    for suite, members in grouped(episodes, lambda p: p.row.suite).items():
        for name in sorted({n for p in members for n in p.row.versions}):
            found = Counter(str(p.row.versions.get(name, "not said")) for p in members)
            words = ", ".join(v if len(found) == 1 else f"{v} ({plural(n, 'episode')})" for v, n in found.items())
            rows.append([suite, name, words])
            if len(found) > 1:
                warnings.append(f"{suite}: {name} differs between episodes: {words}. Results may hang on it.")
    if not rows:
        return missing("The rows name no versions.")
    warned = join(fill('<p class="reading">{w}</p>', w=w) for w in warnings)
    return warned + folded("Versions", table(["Suite", "", "Version"], rows, "plain"))


def _protocols(episodes: Sequence[Played]) -> Markup:
    blocks = []
    for (suite, digest), members in grouped(episodes, lambda p: (p.row.suite, p.row.protocol_hash)).items():
        text = json.dumps(members[0].row.protocol_json, indent=2, sort_keys=True, ensure_ascii=False)
        assert protocol_digest(members[0].row.protocol_json) == digest
        blocks.append(folded(f"{suite}: {members[0].row.protocol}, {digest}", fill("<pre>{t}</pre>", t=text)))
    return folded(f"Protocols ({len(blocks)})", join(blocks))


def _files(results: Results) -> Markup:
    counts = Counter(p.file for p in (*results.episodes, *results.errors))
    rows = [[str(file), plural(count, "row")] for file, count in counts.items()]
    return folded(f"Read from {plural(len(rows), 'file')}", table(["File", "Counted or listed here"], rows, "plain"))


def _notes(results: Results) -> Markup:
    if not results.notes:
        return Markup()
    items = join(fill("<li>{n}</li>", n=note) for note in results.notes)
    return fill('<h3>On the way</h3><ul class="problems">{i}</ul>', i=items)


def _not_played(errors: Sequence[Played]) -> Markup:
    if not errors:
        return Markup()
    rows = [[p.contestant, p.row.case, p.row.restarts, p.row.error] for p in errors[:_SHOWN]]
    title = f"{plural(len(errors), 'episode')} not played"
    return folded(title, table(["Policy", "Case", "Restarts", "Why"], rows, "plain"))
