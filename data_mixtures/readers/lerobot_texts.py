"""What an episode of a LeRobot data set was asked to do, and its sub-tasks by frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_mixtures.lerobot import layout
from data_mixtures.readers.lerobot_files import LeRobotFiles
from data_mixtures.readers.lerobot_tables import DAMAGE, vectors

_TASK, _SUBTASK, _ANNOTATION = "task_index", "subtask_index", "annotation."
# GR00T keeps the texts "valid" and "invalid" among the tasks, for this column.
_NOT_A_TASK = "validity"


@dataclass(frozen=True)
class EpisodeTexts:
    """The instruction ('' where there is none) and (first frame, text) of each sub-task."""

    instruction: str
    subtasks: list[tuple[int, str]]


def language_columns(names: Sequence[str]) -> list[str]:
    """Of a table's columns, those that texts are made of."""
    annotations = [name for name in names if name.startswith(_ANNOTATION) and _NOT_A_TASK not in name]
    return [name for name in (_TASK, *annotations, _SUBTASK, layout.LANGUAGE_COLUMN) if name in names]


def episode_texts(table: pa.Table, files: LeRobotFiles, index: int, fps: float) -> EpisodeTexts:
    """An episode's texts from its rows, and from the metadata where the rows say nothing.

    The instruction is the first row's task. Sub-tasks come from `language_persistent`, else `subtask_index`, else from
    a task or annotation column that changes its text on the way.
    """
    by_column = {
        name: _spans(table, name, files.subtasks if name == _SUBTASK else files.tasks)
        for name in language_columns(table.column_names)
        if name != layout.LANGUAGE_COLUMN
    }
    tasks = [spans for name, spans in by_column.items() if name != _SUBTASK and spans]
    listed = files.instructions(index)
    instruction = tasks[0][0][1] if tasks else (listed[0] if listed else "")
    subtasks = _spoken(table, fps) or by_column.get(_SUBTASK) or next((s for s in tasks if len(s) > 1), [])
    return EpisodeTexts(instruction, subtasks)


def _spans(table: pa.Table, name: str, texts: Mapping[int, str]) -> list[tuple[int, str]]:
    """(first frame, text) wherever a column of text numbers changes; [] unless all of them are known."""
    try:
        numbers = vectors(table.column(name))[:, 0]
        starts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist()]
        return [(start, texts[int(numbers[start])]) for start in starts]
    except DAMAGE:
        return []


def _spoken(table: pa.Table, fps: float) -> list[tuple[int, str]]:
    """The sub-tasks of `language_persistent`, which repeats an episode's whole list in every row."""
    if layout.LANGUAGE_COLUMN not in table.column_names:
        return []
    try:
        entries = table.column(layout.LANGUAGE_COLUMN)[0].as_py() or []
        spans = {
            min(max(round(entry["timestamp"] * fps), 0), len(table) - 1): str(entry["content"])
            for entry in entries
            if entry["style"] == layout.SUBTASK_STYLE and entry["content"] is not None
        }
    except DAMAGE:
        return []
    return sorted(spans.items())
