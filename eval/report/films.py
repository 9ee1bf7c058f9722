"""Rollout videos of both outcomes for every arm."""

import itertools

from markupsafe import Markup

from eval.intervals import Rate
from eval.report import media
from eval.report.markup import fill, join, missing, plural, section
from eval.report.results import Arm, Facet, Rollout, tally
from eval.report.run_folder import Run

_EACH = 2  # videos of each outcome, for each arm


def video_section(run: Run, judged: list[Facet], budget: int) -> Markup:
    """Successes and failures of every arm at the fewest demonstrations, as many as `budget` characters hold."""
    title = "What the policies do"
    if not judged:
        return section("videos", title, missing(run.absence("rollout videos", "rollout")))
    facet = judged[0]
    picks = {arm.key: _picks(facet, arm) for arm in facet.arms}
    in_turn = [r for turn in range(2 * _EACH) for rows in picks.values() for r in rows[turn : turn + 1]]
    if not in_turn:
        return section("videos", title, missing(_no_videos(facet)))
    fitting = media.within(budget, in_turn)
    note = (
        f"Up to {_EACH} solved and {_EACH} unsolved episodes of each arm{_with(facet)}: of those that were filmed the "
        "first initial states, one task after the other, not chosen otherwise."
    )
    if len(fitting) < len(in_turn):
        note += f" {plural(len(in_turn) - len(fitting), 'video')} left out to keep this file small."
    blocks = [_arm_videos(arm, [r for r in picks[arm.key] if r in fitting], facet) for arm in facet.arms]
    return section("videos", title, fill('<div class="films">{b}</div>', b=join(blocks)), note=note)


def _picks(facet: Facet, arm: Arm) -> list[Rollout]:
    """Solved and unsolved in turn, so that a small budget cuts both alike."""
    there = media.playable(facet.of(arm.key))
    solved = media.spread([r for r in there if r.success], _EACH)
    unsolved = media.spread([r for r in there if not r.success], _EACH)
    return [r for pair in itertools.zip_longest(solved, unsolved) for r in pair if r is not None]


def _arm_videos(arm: Arm, shown: list[Rollout], facet: Facet) -> Markup:
    counted = tally(facet.of(arm.key))
    pieces = [_film(r) for r in sorted(shown, key=lambda r: not r.success)]
    lacking = [] if not shown else [w for w, had in (("solved", True), ("unsolved", False)) if not _any(shown, had)]
    words = [_lacking(w, counted) for w in lacking] or ([] if shown else ["No video of this arm was kept."])
    return fill(
        '<div class="films-arm {k}"><h3>{l} <small>{s} of {n} solved</small></h3><div class="reel">{p}</div>{w}</div>',
        k=arm.role,
        l=arm.label,
        s=counted.successes,
        n=counted.trials,
        p=join(pieces),
        w=join(fill('<p class="missing">{w}</p>', w=w) for w in words),
    )


def _lacking(outcome: str, counted: Rate) -> str:
    number = counted.successes if outcome == "solved" else counted.trials - counted.successes
    return f"No {outcome} episode was kept on video." if number else f"It has no {outcome} episode."


def _any(shown: list[Rollout], success: bool) -> bool:
    return any(r.success == success for r in shown)


def _film(rollout: Rollout) -> Markup:
    assert rollout.video is not None
    outcome = "solved" if rollout.success else "not solved"
    steps = f", {plural(rollout.steps, 'step')}" if rollout.steps else ""
    trained = f", training {rollout.train_seed}" if rollout.train_seed is not None else ""
    return fill(
        '<figure class="film {k}">{v}<figcaption><b>{t}</b><span>{o}{s}</span><span>initial state {e}{tr}</span>'
        "</figcaption></figure>",
        k="yes" if rollout.success else "no",
        v=media.video(rollout.video, f"{rollout.task}, {outcome}"),
        t=rollout.task,
        o=outcome,
        s=steps,
        e=rollout.init,
        tr=trained,
    )


def _with(facet: Facet) -> str:
    return "" if facet.demos is None else f" with {facet.words}"


def _no_videos(facet: Facet) -> str:
    wanted = [r for r in facet.rollouts if r.video]
    if not wanted:
        return "No rollout videos: the rollout steps recorded none (set their recipe's number of videos above 0)."
    return f"No rollout videos: the rows name {plural(len(wanted), 'video')}, but no file is there; run the step again."
