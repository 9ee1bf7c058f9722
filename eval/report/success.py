"""Success: the dot-and-interval plot, the differences, the table per task, and videos of both outcomes."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from eval.report import media
from eval.report.markup import fill, interval, join, missing, plural, section, share, signed, table
from eval.report.plots import axis, strip
from eval.report.results import Arm, Facet, Rollout, Tally, tally
from eval.report.run_folder import Run
from eval.report.verdict import METHOD, Comparison, comparisons

_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_EACH = 2  # videos of each outcome, for each arm

_HOW = (
    "A dot is the share of episodes solved, over all tasks; its bar the 95 % Wilson interval of that share; a small "
    "mark one training seed. An episode counts as solved if it is solved at any step. Differences are paired on "
    "training seed, task and starting state. Their 95 % interval is the wider, at each end, of a bootstrap over "
    "training seeds and starting states (4,000 resamples, tasks fixed) and Newcombe’s score interval for paired "
    "proportions."
)


def success_section(run: Run, judged: list[Facet]) -> Markup:
    """The centrepiece."""
    if not judged:
        return section("success", "Success in rollouts", missing(run.absence("rollout results", "rollout")))
    figure = fill(
        '<figure class="wide"><div class="facets">{f}</div><figcaption>{c}</figcaption></figure>',
        f=join(_facet_plot(f) for f in judged),
        c=_HOW,
    )
    return section("success", "Success in rollouts", figure, join(_task_table(f, len(judged) > 1) for f in judged))


def _facet_plot(facet: Facet) -> Markup:
    rows = [_arm_row(facet, arm) for arm in facet.arms]
    compared = comparisons(facet)
    title = facet.words[0].upper() + facet.words[1:] if facet.demos is not None else "All episodes"
    forest = _forest(compared) if compared else Markup()
    return fill(
        '<div class="facet"><h3>{t}</h3><div class="rows">{r}{a}</div>{f}</div>',
        t=title,
        r=join(rows),
        a=_axis_row(axis([(t, share(t) if t % 1 else str(int(t))) for t in _QUARTERS])),
        f=forest,
    )


def _arm_row(facet: Facet, arm: Arm) -> Markup:
    counted = tally(facet.of(arm.key))
    seeds = [tally(facet.of(arm.key, train_seed=s)).mean for s in facet.train_seeds(arm.key)]
    words = f"{arm.label}: {share(counted.mean)} {interval(*counted.interval)}"
    drawn = strip(counted.interval, counted.mean, arm.role, words, _QUARTERS, marks=seeds if len(seeds) > 1 else ())
    return _row(arm, drawn, share(counted.mean), interval(*counted.interval))


def _forest(compared: list[Comparison]) -> Markup:
    """The method minus each other arm, on one axis symmetric about zero."""
    furthest = max(max(abs(c.difference.low), abs(c.difference.high)) for c in compared)
    end = min(math.ceil(furthest * 4) / 4, 1.0) or 0.25
    ticks = (-end, -end / 2, 0.0, end / 2, end)
    rows = [
        _row(
            c.arm,
            strip(
                (c.difference.low, c.difference.high),
                c.difference.mean,
                f"{c.arm.role} {c.difference.outcome}",
                f"distilled minus {c.arm.label}: {signed(c.difference.mean)}",
                ticks,
                (-end, end),
            ),
            signed(c.difference.mean),
            interval(c.difference.low, c.difference.high),
            f"{c.difference.pairs:,} pairs" if c.difference.pairs else "not paired",
        )
        for c in compared
    ]
    labels = axis([(t, signed(t).removeprefix(".00") or "0") for t in ticks], (-end, end))
    return fill('<h4>Distilled minus …</h4><div class="rows">{r}{a}</div>', r=join(rows), a=_axis_row(labels))


def _row(arm: Arm, drawn: Markup, value: str, ends: str, note: str = "") -> Markup:
    return fill(
        '<div class="row {k}"><span class="name" title="{w}">{n}</span><span class="track">{d}</span>'
        '<span class="value"{t}><b>{v}</b> {e}</span></div>',
        k=arm.role,
        w=arm.what,
        n=arm.label,
        d=drawn,
        t=fill(' title="{n}"', n=note) if note else Markup(),
        v=value,
        e=ends,
    )


def _axis_row(labels: Markup) -> Markup:
    return fill('<div class="row"><span class="name"></span><span class="track">{l}</span></div>', l=labels)


def _task_table(facet: Facet, titled: bool) -> Markup:
    suites = {suite for suite, _ in facet.tasks}
    tasks = [f"{s}: {t}" if len(suites) > 1 else t for s, t in facet.tasks]
    head = ["Arm", *tasks, "All tasks", "At the last step", "Seeds"]
    rows = [
        [
            fill('{l}<small>{w}</small>', l=arm.label, w=arm.what),
            *(_cell([r for r in facet.of(arm.key, task)]) for task in facet.tasks),
            _cell(facet.of(arm.key), total=True),
            _cell(facet.of(arm.key), final=True),
            ", ".join(map(str, facet.train_seeds(arm.key))) or "–",
        ]
        for arm in facet.arms
    ]
    title = fill("<h3>Per task, {w}</h3>", w=facet.words) if titled else Markup("<h3>Per task</h3>")
    return title + table(head, rows, "success")


def _cell(rollouts: Sequence[Rollout], total: bool = False, final: bool = False) -> Markup:
    if not rollouts:
        return Markup('<td class="none">–</td>')
    counted: Tally = tally(rollouts, final)
    return fill(
        '<td class="{k}" style="--p:{p:.3f}"><b>{m}</b><small>{i}</small><small>{s}/{n}</small></td>',
        k="final" if final else "total" if total else "",
        p=counted.mean,
        m=share(counted.mean),
        i=interval(*counted.interval),
        s=counted.successes,
        n=counted.trials,
    )


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
        f"{_EACH} solved and {_EACH} unsolved episodes of each arm{_with(facet)}: those with the lowest seeds, one task "
        "after the other, not chosen otherwise."
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
    pairs = [(s, u) for s, u in zip(solved + [None] * _EACH, unsolved + [None] * _EACH, strict=False)]
    return [r for pair in pairs for r in pair if r is not None]


def _arm_videos(arm: Arm, shown: list[Rollout], facet: Facet) -> Markup:
    counted = tally(facet.of(arm.key))
    pieces = [_film(r) for r in sorted(shown, key=lambda r: not r.success)]
    lacking = [] if not shown else [w for w, had in (("solved", True), ("unsolved", False)) if not _any(shown, had)]
    words = [_lacking(w, counted) for w in lacking] or ([] if shown else ["No video of this arm was kept."])
    return fill(
        '<div class="films-arm {k}"><h3>{l} <small>{s} of {n} solved</small></h3><div class="reel">{p}</div>{w}</div>',
        k="method" if arm.key == METHOD else arm.role,
        l=arm.label,
        s=counted.successes,
        n=counted.trials,
        p=join(pieces),
        w=join(fill('<p class="missing">{w}</p>', w=w) for w in words),
    )


def _lacking(outcome: str, counted: Tally) -> str:
    number = counted.successes if outcome == "solved" else counted.trials - counted.successes
    return f"No video of an {outcome} episode was kept." if number else f"It has no {outcome} episode."


def _any(shown: list[Rollout], success: bool) -> bool:
    return any(r.success == success for r in shown)


def _film(rollout: Rollout) -> Markup:
    assert rollout.video is not None
    outcome = "solved" if rollout.success else "not solved"
    steps = f" · {plural(rollout.steps, 'step')}" if rollout.steps else ""
    trained = f" · training seed {rollout.train_seed}" if rollout.train_seed is not None else ""
    return fill(
        '<figure class="film {k}">{v}<figcaption><b>{t}</b><span>{o}{s}</span><span>seed {e}{tr}</span>'
        "</figcaption></figure>",
        k="yes" if rollout.success else "no",
        v=media.video(rollout.video, f"{rollout.task}, {outcome}"),
        t=rollout.task,
        o=outcome,
        s=steps,
        e=rollout.seed,
        tr=trained,
    )


def _with(facet: Facet) -> str:
    return "" if facet.demos is None else f" with {facet.words}"


def _no_videos(facet: Facet) -> str:
    wanted = [r for r in facet.rollouts if r.video]
    if not wanted:
        return "No rollout videos: the rollout steps recorded none (set their recipe's number of videos above 0)."
    return f"No rollout videos: the rows name {plural(len(wanted), 'video')}, but no file is there; run the step again."
