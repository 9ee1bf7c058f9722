"""The HTML file around a page's parts; it needs nothing beside itself."""

from collections.abc import Iterable

from markupsafe import Markup

from eval.report.markup import fill, join
from eval.report.style import SCRIPT, STYLE

LARGEST_PAGE = 14_000_000  # bytes; videos give way first

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>{header}</header>
<nav aria-label="Sections">{nav}</nav>
<main>{main}</main>
<footer>{footer}</footer>
<script>{script}</script>
</body>
</html>
"""


def document(
    title: str, header: Markup, contents: Iterable[tuple[str, str]], sections: Iterable[Markup], footer: Markup | str
) -> str:
    """The whole file; `contents` are (anchor, title) of the sections."""
    return fill(
        _PAGE,
        title=title,
        style=Markup(STYLE),
        script=Markup(SCRIPT),
        header=header,
        nav=join(fill('<a href="#{a}">{t}</a>', a=a, t=t) for a, t in contents),
        main=join(sections),
        footer=footer,
    )


def room_for_videos(*parts: Markup) -> int:
    """How many characters a page with these parts has left."""
    return LARGEST_PAGE - sum(len(part.encode()) for part in parts) - len(STYLE) - len(SCRIPT)
