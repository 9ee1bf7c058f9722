"""What the page claims, in words computed from the intervals and from nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from markupsafe import Markup

from eval.report.markup import fill, interval, join, listed, plural, share, signed
from eval.report.results import ARMS, Arm, Facet, tally
from eval.results.differences import Difference, difference

METHOD = "distilled"


@dataclass(frozen=True)
class Comparison:
    """The method against one other arm."""

    arm: Arm
    difference: Difference


@lru_cache(maxsize=16)  # the headline, the sentences and the plot all ask
def comparisons(facet: Facet) -> tuple[Comparison, ...]:
    """The method minus every other arm it can be compared with."""
    method = facet.of(METHOD)
    found = [(arm, difference(method, facet.of(arm.key))) for arm in facet.arms if arm.key != METHOD]
    return tuple(Comparison(arm, d) for arm, d in found if d is not None)


def headline(judged: list[Facet]) -> Markup:
    """One line on the method against its controls at the fewest demonstrations (references are no claims).

    It names the number of demonstrations wherever another number of them came out differently.
    """
    lines = [_claim(facet) for facet in judged]
    if len(judged) == 1:
        return lines[0]
    counts = [str(f.demos) for f, line in zip(judged, lines, strict=True) if f.demos is not None and line == lines[0]]
    if not counts:
        return lines[0]
    return fill("With {n} demonstrations a task, {line}", line=lines[0][:1].lower() + lines[0][1:], n=listed(counts))


def _claim(facet: Facet) -> Markup:
    controls = [c for c in comparisons(facet) if c.arm.role == "control"]
    if not facet.of(METHOD):
        return Markup("The distilled student was not rolled out")
    if not controls:
        return Markup("The distilled student was rolled out without controls")
    beaten, lost, undecided = (_phrases(controls, outcome) for outcome in ("beats", "loses", "open"))
    if len(beaten) == len(controls) > 1 and not _absent(facet):
        return Markup("Distillation beats every control")
    if not beaten and not lost:
        others = "any control" if len(controls) > 1 else undecided[0]
        return fill("Distillation is not shown to differ from {x}", x=others)
    parts = [fill(f"{verb} {{x}}", x=listed(names)) for verb, names in (("beats", beaten), ("loses to", lost)) if names]
    against = fill("; against {x} it is undecided", x=listed(undecided)) if undecided else Markup()
    return fill("Distillation {x}{a}", x=listed(parts), a=against)


def verdict(facet: Facet) -> Markup:
    """The sentences under the headline: the method's success, then each comparison with its interval."""
    if not facet.of(METHOD):
        return fill("With {w} no rollout of the distilled student is there to judge.", w=facet.words)
    sentences = [_success_sentence(facet), *_comparison_sentences(comparisons(facet))]
    if absent := _absent(facet):
        sentences.append(fill("Not compared: {x}.", x=listed(absent)))
    if len(facet.train_seeds(METHOD)) == 1:
        sentences.append(Markup("One training seed says nothing of how much training itself varies."))
    return join(sentences, " ")


def _absent(facet: Facet) -> list[str]:
    """The controls this project always asks for that have no episode here."""
    return [arm.phrase for arm in ARMS if arm.role == "control" and not facet.of(arm.key)]


def _success_sentence(facet: Facet) -> Markup:
    counted = tally(facet.of(METHOD))
    seeds = facet.train_seeds(METHOD)
    return fill(
        "With {w} the distilled student solves <b>{m}</b>\N{NO-BREAK SPACE}{i} of {e}{s}.",
        w=facet.words,
        m=share(counted.mean),
        i=interval(*counted.interval),
        e=plural(counted.trials, "episode"),
        s=f" ({plural(len(seeds), 'training seed')})" if seeds else "",
    )


def _comparison_sentences(compared: Sequence[Comparison]) -> list[Markup]:
    controls = [c for c in compared if c.arm.role == "control"]
    sentences = []
    if beaten := _by_outcome(controls, "beats"):
        sentences.append(fill("It beats {x}.", x=listed([_against(c) for c in beaten])))
    if lost := _by_outcome(controls, "loses"):
        sentences.append(fill("It loses to {x}.", x=listed([_against(c) for c in lost])))
    if undecided := _by_outcome(controls, "open"):
        x = listed([_against(c) for c in undecided])
        sentences.append(fill("Against {x} the interval includes zero.", x=x))
    if not controls:
        sentences.append(Markup("Without a control beside it nothing can be credited to distillation."))
    floor = [c for c in compared if c.arm.key == "random" and c.difference.outcome != "beats"]
    if floor:
        sentences.append(fill("It is not shown to beat the random policy ({d}).", d=_figures(floor[0].difference)))
    return sentences


def _against(compared: Comparison) -> Markup:
    d, arm = compared.difference, compared.arm.phrase
    if d.outcome == "open":
        return fill("{a} ({d})", a=arm, d=_figures(d))
    return fill("{a} by {d}", a=arm, d=_figures(d))


def _figures(d: Difference) -> Markup:
    """The difference as read after "beats by", "loses by" (both positive) or in brackets (signed)."""
    sign = -1 if d.outcome == "loses" else 1
    low, high = sorted((sign * d.low, sign * d.high))
    mean = signed(d.mean) if d.outcome == "open" else share(sign * d.mean)
    return fill("<b>{m}</b>\N{NO-BREAK SPACE}{i}", m=mean, i=interval(low, high))


def _by_outcome(compared: Sequence[Comparison], outcome: str) -> list[Comparison]:
    return [c for c in compared if c.difference.outcome == outcome]


def _phrases(compared: Sequence[Comparison], outcome: str) -> list[str]:
    return [c.arm.phrase for c in _by_outcome(compared, outcome)]
