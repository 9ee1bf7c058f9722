"""Texts for the files of a video folder: csv, json or jsonl.

captions.jsonl     {"file": "a.mp4", "text": "open the drawer", "subtasks": [{"start_s": 0, "text": "reach"}]}
captions.json      a list of such objects, or {"a.mp4": "open the drawer"}, or {"a.mp4": {"text": ..., "subtasks": ...}}
captions.csv       file,text[,start_s,end_s]; a row with start_s is a sub-task of its file

`end_s` may be left out: a sub-task then lasts until the next one. Hugging Face's metadata.csv and metadata.jsonl
(`file_name`) and the lang_annotations.json of Moto are understood as well.
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE_NAMES = (
    "captions.jsonl",
    "captions.json",
    "captions.csv",
    "lang_annotations.json",
    "metadata.jsonl",
    "metadata.csv",
)
_FILE_FIELDS, _TEXT_FIELDS = ("file", "file_name", "video"), ("text", "caption", "instruction")


@dataclass
class Caption:
    """What is said of one video.

    Attributes:
        text: the instruction.
        subtasks: (start in seconds, end in seconds or None, text).
    """

    text: str = ""
    subtasks: list[tuple[float, float | None, str]] = field(default_factory=list)


def captions_file(root: Path) -> Path | None:
    """The captions file of a folder, if it has one."""
    return next((root / name for name in FILE_NAMES if (root / name).is_file()), None)


def read_captions(path: Path) -> dict[str, Caption]:
    """The captions of a file, by the name it gives each video.

    Raises:
        ValueError: it cannot be read, or an entry lacks its file or has a span that is none; the entry is named.
    """
    captions: dict[str, Caption] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
        for number, entry in enumerate(_entries(text, path.suffix), start=1):
            _take(captions, entry, f"entry {number}")
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise ValueError(f"{path}: {error}: correct the captions file") from error
    for caption in captions.values():
        caption.subtasks.sort(key=lambda span: span[0])
    return captions


def _entries(text: str, suffix: str) -> list[Any]:
    if suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text)))
    if suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    content = json.loads(text)
    if not isinstance(content, dict):
        return content if isinstance(content, list) else [content]
    return [{"file": name} | (said if isinstance(said, dict) else {"text": said}) for name, said in content.items()]


def _take(captions: dict[str, Caption], entry: object, where: str) -> None:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} is {entry!r}, expected a file and its text")
    name = next((entry[field] for field in _FILE_FIELDS if entry.get(field)), None)
    if not isinstance(name, str):
        raise ValueError(f"{where} names no file: give it one of {list(_FILE_FIELDS)}")
    said = next((entry[field] for field in _TEXT_FIELDS if entry.get(field)), "")
    caption = captions.setdefault(name, Caption())
    if entry.get("start_s") not in (None, ""):
        caption.subtasks.append(_span(entry, said, f"{where} ({name})"))
        return
    if not isinstance(said, str):
        raise ValueError(f"{where} ({name}): its text is {said!r}")
    caption.text = said
    subtasks = entry.get("subtasks") or []
    if not isinstance(subtasks, list):
        raise ValueError(f"{where} ({name}): subtasks is {subtasks!r}, expected a list")
    for span in subtasks:
        if not isinstance(span, Mapping):
            raise ValueError(f"{where} ({name}): sub-task {span!r} has no start_s and text")
        words = next((span[field] for field in _TEXT_FIELDS if span.get(field)), "")
        caption.subtasks.append(_span(span, words, f"{where} ({name})"))


def _span(span: Mapping[str, Any], text: object, where: str) -> tuple[float, float | None, str]:
    try:
        start = float(span["start_s"])
        end = float(span["end_s"]) if span.get("end_s") not in (None, "") else None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: sub-task {dict(span)} needs start_s in seconds") from error
    if not 0 <= start < 1e9 or (end is not None and not start < end < 1e9) or not isinstance(text, str):
        raise ValueError(f"{where}: sub-task {dict(span)} starts at {start} and ends at {end}")
    return start, end, text
