"""Pages that need nothing beside themselves: the templates of `templates/` filled in, everything from data escaped."""

import os
from pathlib import Path

import jinja2


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


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears with all of its content or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    aside.write_bytes(content)
    os.replace(aside, path)
