"""`write_report`: the sections put on one page that needs nothing beside itself."""

from pathlib import Path

from markupsafe import Markup

from data_mixtures.storage.whole_file import write_whole
from eval.report.cost import Cost, cost_section, costs, provenance_section
from eval.report.curves import curves_section
from eval.report.document import document, room_for_videos
from eval.report.films import video_section
from eval.report.left_out import left_out_section
from eval.report.markup import duration, fill, interval, join, plural, share, signed
from eval.report.results import Facet, facets, read_rollouts, tally
from eval.report.run_folder import Run, read_run
from eval.report.subtasks import subtasks_section
from eval.report.success import success_section
from eval.report.teacher import health_section, pictures_section
from eval.report.verdict import METHOD, comparisons, headline, verdict

_CONTENTS = (
    ("success", "Success"),
    ("videos", "Rollouts"),
    ("teacher", "Teacher"),
    ("health", "Latents"),
    ("subtasks", "Sub-tasks"),
    ("curves", "Curves"),
    ("cost", "Cost"),
    ("provenance", "Recipe"),
)


def write_report(run: Path, out: Path) -> Path:
    """Write the report of a pipeline's run folder; the same folder gives the same bytes.

    A part of the run that is missing costs its own section only: a sentence there says what is missing and which
    step makes it.

    Args:
        run: A pipeline's run folder (it holds `pipeline.json`).
        out: The HTML file to write, replaced as a whole.

    Returns:
        `out`.

    Raises:
        ValueError: `run` is not a pipeline's run folder.
    """
    page = _compose(read_run(run))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page)
    return out


def _compose(run: Run) -> str:
    judged = facets(read_rollouts(run))
    spent = costs(run)
    success = success_section(run, judged)
    rest = [
        pictures_section(run),
        health_section(run),
        subtasks_section(run),
        curves_section(run),
        left_out_section(run),
        cost_section(run, spent),
    ]
    rest.append(provenance_section(run))  # last: it lists the problems the others met
    header = _header(run, judged, spent)
    videos = video_section(run, judged, room_for_videos(header, success, *rest))
    footer = fill("Report of the run “{r}”. All of it is in this file.", r=run.title)
    return document(f"{run.title}: report", header, _CONTENTS, [success, videos, *rest], footer)


def _header(run: Run, judged: list[Facet], spent: list[Cost]) -> Markup:
    title = headline(judged) if judged else Markup("No rollouts yet")
    claims = join(fill("<p>{v}</p>", v=verdict(f)) for f in judged)
    if not judged:
        claims = fill("<p>{s}</p>", s=run.absence("success rates", "rollout"))
    elif open_steps := [s for s in run.of_kind("rollout") if not (s.folder / "done.json").exists()]:
        total = plural(len(run.of_kind("rollout")), "rollout step")
        claims += fill("<p>Provisional: {n} of {t} not finished.</p>", n=len(open_steps), t=total)
    return fill(
        '<p class="kicker">{r}</p><h1>{h}</h1><div class="lead">{c}</div>{f}',
        r=run.title,
        h=title,
        c=claims,
        f=_facts(judged, spent),
    )


def _facts(judged: list[Facet], spent: list[Cost]) -> Markup:
    """The few numbers worth knowing before anything else."""
    facts: list[tuple[str, str, str]] = []
    for facet in [f for f in judged if f.of(METHOD)][:2]:
        counted = tally(facet.of(METHOD))
        facts.append((share(counted.mean), interval(*counted.interval), f"success, {facet.words}"))
    scratch = [c for f in judged[:1] for c in comparisons(f) if c.arm.key == "scratch"]
    if scratch:
        d = scratch[0].difference
        facts.append((signed(d.mean), interval(d.low, d.high), f"over training from scratch, {judged[0].words}"))
    if judged:
        episodes = {id(r): r for f in judged for r in f.rollouts}
        facts.append((f"{len(episodes):,}", "", f"episodes on {plural(len(judged[0].tasks), 'task')}"))
    if spent:
        facts.append((duration(sum(c.wall_seconds for c in spent)), "", f"of work in {plural(len(spent), 'step')}"))
    items = join(
        fill("<div><dd><b>{v}</b> <small>{i}</small></dd><dt>{t}</dt></div>", v=v, i=i, t=t) for v, i, t in facts
    )
    return fill('<dl class="facts">{i}</dl>', i=items) if facts else Markup()
