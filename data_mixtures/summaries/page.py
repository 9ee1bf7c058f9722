"""Pages that need nothing beside themselves: the templates of `templates/` filled in, everything from data escaped."""

from pathlib import Path

import jinja2

from data_mixtures.storage.whole_file import write_whole


def render(template: str, **values: object) -> bytes:
    """The page of a template, in UTF-8; a name the template uses and `values` lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values).encode()


def write_page(path: Path, page: bytes) -> None:
    """Write a page, whole or not at all; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
