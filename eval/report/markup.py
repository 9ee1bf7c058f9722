"""HTML by construction safe: every piece is a `Markup`, and whatever comes from data is escaped when it is put in.

Numbers are set the way the papers of this field set them: `.71`, `[.65, .76]`, `+.24`, `−.05`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup, escape

MINUS = "−"


def fill(template: str, **values: Any) -> Markup:
    """`template` with `{name}` filled in; values that are not already `Markup` are escaped."""
    return Markup(template).format(**values)


def join(pieces: Iterable[Any], separator: str = "") -> Markup:
    """All pieces one after the other, escaped unless they are `Markup`."""
    return Markup(separator).join(pieces)


def section(anchor: str, title: str, *content: Markup, note: Markup | str = "") -> Markup:
    """A titled section; `note` is the sentence under the title."""
    lead = fill('<p class="note">{n}</p>', n=note) if note else Markup()
    return fill(
        '<section id="{a}"><h2>{t}</h2>{lead}{content}</section>', a=anchor, t=title, lead=lead, content=join(content)
    )


def missing(sentence: str) -> Markup:
    """The plain sentence that stands where a part of the run is not there."""
    return fill('<p class="missing">{s}</p>', s=sentence)


def folded(summary: Markup | str, content: Markup) -> Markup:
    """Content the reader opens when wanted."""
    return fill("<details><summary>{s}</summary>{c}</details>", s=summary, c=content)


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], kind: str = "") -> Markup:
    """A table whose first column names the row; it scrolls sideways on a narrow page."""
    columns = join(fill('<th scope="col">{c}</th>', c=c) for c in head)
    body = join(
        fill('<tr><th scope="row">{h}</th>{rest}</tr>', h=row[0], rest=join(_cell(c) for c in row[1:])) for row in rows
    )
    return fill(
        '<div class="scroll"><table class="{k}"><thead><tr>{h}</tr></thead><tbody>{b}</tbody></table></div>',
        k=kind,
        h=columns,
        b=body,
    )


def _cell(value: Any) -> Markup:
    """A `<td>`; a value that already is one (it carries a class or a tint) is left alone."""
    if isinstance(value, Markup) and value.startswith("<td"):
        return value
    return fill("<td>{v}</td>", v=value)


def share(value: float, digits: int = 2) -> str:
    """A share in [0, 1] or a difference of shares, without the leading zero: `.71`, `1.00`, `−.05`."""
    text = f"{abs(value):.{digits}f}"
    text = text[1:] if text.startswith("0.") else text
    return MINUS + text if value < 0 and float(f"{value:.{digits}f}") != 0 else text


def signed(value: float) -> str:
    """A difference of shares with its sign: `+.24`, `−.05`, `.00`."""
    text = share(value)
    return text if text.startswith(MINUS) or float(f"{value:.2f}") == 0 else "+" + text


def interval(low: float, high: float) -> str:
    """`[.65, .76]`; one more digit where rounding would put an end on zero that is not there."""
    digits = 3 if any(end != 0 and float(f"{end:.2f}") == 0 for end in (low, high)) else 2
    return f"[{share(low, digits)}, {share(high, digits)}]"


def number(value: Any) -> str:
    """Any metric: integers whole, other numbers to three digits, everything else as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value == value and abs(value) < 1e15 and float(value).is_integer()):
        text = f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    else:
        text = f"{value:.3g}"
        text = text.replace("0.", ".", 1) if abs(value) < 1 and "e" not in text else text
    return text.replace("-", MINUS, 1) if text.startswith("-") else text


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `1 h 02 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(num_bytes: float) -> str:
    """Memory in binary units: `812 MiB`, `1.42 GiB`."""
    mebibytes = num_bytes / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:.2f} GiB"


def listed(words: Sequence[Any]) -> Markup:
    """`a`, `a and b`, `a, b and c`, each escaped."""
    pieces = [escape(w) for w in words]
    return pieces[0] if len(pieces) == 1 else join([join(pieces[:-1], ", "), pieces[-1]], " and ")


def plural(count: int, word: str) -> str:
    """`1 episode`, `240 episodes`, `1,200 episodes`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
