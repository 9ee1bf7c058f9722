"""What AgiBot World's task_info says of an episode: its task and the segments of its action_config."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_mixtures.defects import BadEpisodeError
from data_mixtures.video.opened_files import Signature, signature


@dataclass(frozen=True)
class EpisodeLabels:
    """The texts of one episode; '' where the data set says nothing.

    Attributes:
        task_name: the task in words, the same for all of its episodes.
        scene: what stands on the table at the start.
        segments: (first frame, frame after the last, text), sorted.
        ignored: segments that make no sense (no numbers, an end before its start).
    """

    task_name: str
    scene: str
    segments: tuple[tuple[int, int, str], ...]
    ignored: int

    def subtasks(self, length: int) -> list[tuple[int, str]]:
        """`Episode.subtasks` of `length` frames: '' begins where a segment ends and no other begins."""
        spans: dict[int, str] = {}
        for position, (start, end, text) in enumerate(self.segments):
            following = self.segments[position + 1][0] if position + 1 < len(self.segments) else length
            if start < min(following, length):
                spans[start] = text
                if end < min(following, length):
                    spans[end] = ""
        return sorted(spans.items())


def episode_labels(root: Path, key: str) -> EpisodeLabels:
    """The labels of episode "<task>/<episode>"; BadEpisodeError when its task's file is there but is no JSON."""
    task, _, episode = key.partition("/")
    try:
        entries = _entries(root / "task_info" / f"task_{task}.json")
        if not entries:  # simulation keeps one file an episode
            entries = _entries(root / "meta_info" / task / episode / "task_info.json")
    except (OSError, ValueError, RecursionError) as error:
        raise BadEpisodeError(key, "unreadable", f"the labels of task {task} cannot be read: {error}") from error
    entry = entries.get(episode, {})
    name = entry.get("task_name") or next(
        (other["task_name"] for other in entries.values() if other.get("task_name")), ""
    )
    # The published files spell it both ways.
    label = next((entry[name] for name in ("label_info", "lable_info") if isinstance(entry.get(name), dict)), {})
    config = label.get("action_config")
    found = [_segment(item) for item in config] if isinstance(config, list) else []
    segments = sorted(segment for segment in found if segment is not None)
    return EpisodeLabels(str(name), str(entry.get("init_scene_text") or ""), tuple(segments), found.count(None))


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    """Entries by episode; empty where there is no such file."""
    return _task_info(path, signature(path)) if path.exists() else {}


@lru_cache(maxsize=8)  # some 1.5 MB and 20 ms a task; episodes are read task by task
def _task_info(path: Path, _: Signature) -> dict[str, dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    entries = content if isinstance(content, list) else [content]
    return {str(entry.get("episode_id")): entry for entry in entries if isinstance(entry, dict)}


def _segment(item: object) -> tuple[int, int, str] | None:
    if not isinstance(item, dict):
        return None
    start, end = item.get("start_frame"), item.get("end_frame")
    if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end:
        return None
    # Simulation leaves the text empty and names the skill.
    return start, end, str(item.get("action_text") or item.get("skill") or "").strip()
