"""A study as a page of its own: the table, the picture, the tests, and what is to be read with them."""

import base64
from collections.abc import Iterator

from markupsafe import Markup

from eval.report.document import document
from eval.report.markup import fill, join, section, table
from eval.results.seed_tests import seed_tests
from eval.results.study import AVERAGE, Cell, Setting
from eval.results.study_written import Written, minus, ours, printed, test_line, told_tests


def study_page(written: Written, png: bytes) -> str:
    """The HTML of the whole page; `png` is `picture(written)`."""
    study = written.study
    tests = seed_tests(study)
    sections = [
        section("table", "Table", *_tables(written)),
        section("picture", "Picture", _image(png, written.title)),
    ]
    contents = [("table", "Table"), ("picture", "Picture")]
    if tests:
        words, listed = told_tests(study, tests)
        items = join(fill("<li>{t}</li>", t=test_line(test, study)) for test in listed)
        sections.append(section("tests", "Differences", fill("<ul>{i}</ul>", i=items), note=words))
        contents.append(("tests", "Differences"))
    notes = join(fill("<li>{s}</li>", s=sentence) for sentence in written.sentences[1:])
    sections.append(section("notes", "To be read with it", fill("<ul>{n}</ul>", n=notes)))
    contents.append(("notes", "Notes"))
    header = fill(
        '<p class="kicker">Results</p><h1>{t}</h1><div class="lead"><p>{m}</p></div>',
        t=written.title,
        m=written.sentences[0],
    )
    return document(written.title, header, contents, sections, "All of it is in this file.")


def _tables(written: Written) -> Iterator[Markup]:
    study = written.study
    if not written.axis:
        titles = study.methods.items()
        rows = [[title, *(_cell(written, method, column, None) for column in study.shown)] for method, title in titles]
        yield table(["Method", *study.shown], rows, "success bench")
        return
    for column in study.shown:
        rows = []
        for setting in (*study.settings, None):
            if any(study.cell(method, column, setting) for method in study.methods):
                name = "at any" if setting is None else str(setting)
                rows.append([name, *(_cell(written, method, column, setting) for method in study.methods)])
        yield fill("<h3>{c}</h3>", c=column)
        yield table([written.axis, *study.methods.values()], rows, "success bench")


def _cell(written: Written, method: str, column: str, setting: Setting) -> Markup:
    cell, value = written.study.cell(method, column, setting), written.paper(method, column, setting)
    odd = written.is_odd(method) and column == AVERAGE
    paper = fill("<small>paper {p}</small><small>{d}</small>", p=printed(value, odd), d=minus(cell, value))
    if cell is None:
        return fill('<td class="none">–{p}</td>', p=paper if value else "")
    return fill(
        '<td style="--p:{s:.3f}" title="{w}"><b>{o}</b>{p}</td>',
        s=min(max(cell.mean, 0.0), 1.0),
        w=_seeds(cell),
        o=ours(cell),
        p=paper if value else "",
    )


def _seeds(cell: Cell) -> str:
    """What each training reached, for the reader who points at a cell."""
    each = ", ".join(f"{'–' if seed is None else seed}: {100 * mean:.1f}" for seed, mean in cell.by_seed.items())
    return f"by seed: {each}; {sum(cell.episodes.values())} episodes"


def _image(png: bytes, title: str) -> Markup:
    data = base64.b64encode(png).decode()
    return fill(
        '<figure class="wide"><img src="data:image/png;base64,{d}" alt="{t}" style="max-width:100%"></figure>',
        d=data,
        t=title,
    )
