"""A JSON file that must hold an object, or an error that says which file does not and what to do."""

import json
from pathlib import Path
from typing import Any


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The object a JSON file holds.

    Args:
        path: UTF-8 text.
        remedy: What the user should do about a file that is damaged, absent or another's; the error ends with it.

    Raises:
        ValueError: It cannot be read, is no JSON, or holds something else; the message names it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} cannot be read: {reason}: {remedy}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, expected an object: {remedy}")
    return value
