"""Files that appear with all of their content or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file aside, bring it to disk and rename it into place: whole or not there, also through a power cut.

    Args:
        path: in a folder that exists; what was there is replaced.
        content: text is written as UTF-8.
    """
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
