"""Films of failures first, then of successes: embedded as far as the page has room, linked where it has none."""

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from eval.report import media
from eval.report.markup import fill, join, missing, plural, section
from eval.results.reading import Played
from eval.results.tables import Table

_EACH = 4  # films of each outcome, for each policy of a table


def film_section(tables: Sequence[Table], out: Path, budget: int) -> Markup:
    """Failures and successes of every policy.

    Args:
        tables: What was counted.
        out: The page's own path; links are relative to it.
        budget: Characters the page has left.
    """
    title = "What the policies do"
    wanted = {(i, line.contestant): _picks(t, line.contestant) for i, t in enumerate(tables) for line in t.lines}
    in_turn = [p for turn in itertools.zip_longest(*wanted.values()) for p in turn if p is not None]
    if not in_turn:
        return section("videos", title, missing(_no_films(tables)))
    embedded = _within(budget, in_turn)
    note = (
        f"Up to {_EACH} failures and {_EACH} successes of each policy: of the episodes that were filmed the first, one "
        "task after the other, not chosen otherwise."
    )
    if len(embedded) < len(in_turn):
        note += f" {plural(len(in_turn) - len(embedded), 'film')} linked, not embedded, to keep this file small."
    blocks = []
    for (index, name), picks in wanted.items():
        if picks:
            blocks.append(_block(tables[index].benchmark.title, name, picks, embedded, out))
    return section("videos", title, fill('<div class="films">{b}</div>', b=join(blocks)), note=note)


def _picks(table: Table, contestant: str) -> list[Played]:
    """Failures and successes in turn, so that a small page cuts both alike."""
    there = [p for p in table.episodes if p.contestant == contestant and media.is_playable(p.video)]
    chosen = [_round([p for p in there if p.success == outcome])[:_EACH] for outcome in (False, True)]
    return [p for pair in itertools.zip_longest(*chosen) for p in pair if p is not None]


def _round(episodes: Iterable[Played]) -> list[Played]:
    """These going round the tasks: all firsts, then all seconds."""
    queues: dict[tuple[str, str], list[Played]] = {}
    for played in sorted(episodes, key=lambda p: (p.row.init, p.row.setting, p.row.seed, p.train_seed or 0)):
        queues.setdefault((played.row.suite, played.row.task), []).append(played)
    ranked = [(rank, played) for queue in queues.values() for rank, played in enumerate(queue)]
    return [played for _, played in sorted(ranked, key=lambda pair: pair[0])]


def _within(budget: int, films: Sequence[Played]) -> set[int]:
    """The ids of the films, in order, that fit together."""
    chosen = set()
    for played in films:
        assert played.video is not None
        cost = media.embedded_size(played.video)
        if cost <= budget:
            chosen.add(id(played))
            budget -= cost
    return chosen


def _block(benchmark: str, name: str, picks: Sequence[Played], embedded: set[int], out: Path) -> Markup:
    films = [_film(p, id(p) in embedded, out) for p in sorted(picks, key=lambda p: p.success)]
    return fill(
        '<div class="films-arm"><h3>{n} <small>{b}</small></h3><div class="reel">{f}</div></div>',
        n=name,
        b=benchmark,
        f=join(films),
    )


def _film(played: Played, embedded: bool, out: Path) -> Markup:
    row, path = played.row, played.video
    assert path is not None
    outcome = "solved" if played.success else "not solved"
    link = quote(os.path.relpath(path.resolve(), out.resolve().parent))
    shown = media.video(path, f"{row.task}, {outcome}") if embedded else fill('<a href="{h}">film</a>', h=link)
    setting = f", {row.setting}" if row.setting else ""
    return fill(
        '<figure class="film {k}">{v}<figcaption><b>{t}</b><span>{o}, {s}</span><span>initial state {i}{g}</span>'
        "</figcaption></figure>",
        k="yes" if played.success else "no",
        v=shown,
        t=row.task,
        o=outcome,
        s=plural(row.steps, "step"),
        i=row.init,
        g=setting,
    )


def _no_films(tables: Sequence[Table]) -> str:
    named = sum(p.row.video is not None for t in tables for p in t.episodes)
    if not named:
        return "No films: the episodes were played without any (set the recipe's number of videos above 0)."
    return f"No films: the rows name {plural(named, 'film')}, but no file is there; copy the videos folder along."
