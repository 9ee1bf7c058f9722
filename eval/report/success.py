"""Success: the dot-and-interval plot, the differences and the table per task."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from eval.report.markup import fill, interval, join, missing, section, share, signed, table
from eval.report.plots import axis, strip
from eval.report.results import Arm, Facet, Rollout, tally
from eval.report.run_folder import Run
from eval.report.verdict import Comparison, comparisons

_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)

_HOW = (
    "A dot is the share of episodes solved, over all tasks; its bar the 95 % Wilson interval of that share; a small "
    "mark one training seed. An episode counts as solved if it is solved at any step. Differences are paired on "
    "training seed, task and starting state. Their 95 % interval is the wider, at each end, of a bootstrap over "
    "training seeds and starting states (4,000 resamples, tasks fixed) and Newcombe’s score interval for paired "
    "proportions. Green: distillation is ahead; red: it is behind; black: the interval includes zero."
)


def success_section(run: Run, judged: list[Facet]) -> Markup:
    """The centrepiece."""
    if not judged:
        return section("success", "Success in rollouts", missing(run.absence("rollout results", "rollout")))
    figure = fill(
        '<figure class="wide"><div class="facets">{f}</div><figcaption>{c}</figcaption></figure>',
        f=join(_facet_plot(f, _furthest(judged)) for f in judged),
        c=_HOW,
    )
    return section("success", "Success in rollouts", figure, join(_task_table(f, len(judged) > 1) for f in judged))


def _facet_plot(facet: Facet, end: float) -> Markup:
    rows = [_arm_row(facet, arm) for arm in facet.arms]
    compared = comparisons(facet)
    title = facet.words[0].upper() + facet.words[1:] if facet.demos is not None else "All episodes"
    controls = [c for c in compared if c.arm.role == "control"]  # a reference would stretch the axis
    forest = _forest(controls, end) if controls else Markup()
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


def _furthest(judged: list[Facet]) -> float:
    """Where the axes of differences end: a round number that holds every interval of every facet."""
    ends = [abs(e) for f in judged for c in comparisons(f) if c.arm.role == "control" for e in _ends(c)]
    return min(max(math.ceil(max(ends, default=0) * 5) / 5, 0.2), 1.0)


def _forest(compared: Sequence[Comparison], end: float) -> Markup:
    """The method minus each other arm, on one axis symmetric about zero."""
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
            _pairs(c),
        )
        for c in compared
    ]
    labels = axis([(t, signed(t).replace("1.00", "1") if t else "0") for t in ticks], (-end, end))
    return fill('<h4>Distilled minus …</h4><div class="rows">{r}{a}</div>', r=join(rows), a=_axis_row(labels))


def _ends(compared: Comparison) -> tuple[float, float]:
    return compared.difference.low, compared.difference.high


def _pairs(compared: Comparison) -> str:
    return f"{compared.difference.pairs:,} pairs" if compared.difference.pairs else "not paired"


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
    compared = comparisons(facet)
    suites = {suite for suite, _ in facet.tasks}
    tasks = [f"{s}: {t}" if len(suites) > 1 else t for s, t in facet.tasks]
    head = ["Arm", *tasks, "All tasks", "At the last step", "Distilled minus it", "Seeds"]
    rows = [
        [
            fill("{l}<small>{w}</small>", l=arm.label, w=arm.what),
            *(_cell([r for r in facet.of(arm.key, task)]) for task in facet.tasks),
            _cell(facet.of(arm.key), total=True),
            _cell(facet.of(arm.key), final=True),
            _difference_cell(next((c for c in compared if c.arm == arm), None)),
            ", ".join(map(str, facet.train_seeds(arm.key))) or "–",
        ]
        for arm in facet.arms
    ]
    title = fill("<h3>Per task, {w}</h3>", w=facet.words) if titled else Markup("<h3>Per task</h3>")
    return title + table(head, rows, "success")


def _cell(rollouts: Sequence[Rollout], total: bool = False, final: bool = False) -> Markup:
    if not rollouts:
        return Markup('<td class="none">–</td>')
    counted = tally(rollouts, final)
    return fill(
        '<td class="{k}" style="--p:{p:.3f}"><b>{m}</b><small>{i}</small><small>{s}/{n}</small></td>',
        k="final" if final else "total" if total else "",
        p=counted.mean,
        m=share(counted.mean),
        i=interval(*counted.interval),
        s=counted.successes,
        n=counted.trials,
    )


def _difference_cell(compared: Comparison | None) -> Markup:
    if compared is None:
        return Markup('<td class="none">–</td>')
    return fill(
        '<td class="final"><b>{d}</b><small>{i}</small><small>{p}</small></td>',
        d=signed(compared.difference.mean),
        i=interval(*_ends(compared)),
        p=_pairs(compared),
    )
