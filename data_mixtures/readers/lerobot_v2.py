"""LeRobot v2.0 and v2.1 on disk: a parquet file and an mp4 a camera for every episode.

meta/info.json                    features, fps, totals, path templates (none of which need be true)
meta/episodes.jsonl               episode_index, tasks, length
meta/tasks.jsonl                  task_index, task
meta/stats.json                   (v2.0), or meta/episodes_stats.jsonl (v2.1); neither is read here
meta/modality.json                (GR00T) slices of state and action by name
data/chunk-000/episode_000000.parquet
videos/chunk-000/<camera key>/episode_000000.mp4
"""

from pathlib import Path
from typing import Any

from data_mixtures.readers.lerobot_files import Clip
from data_mixtures.readers.lerobot_tables import (
    EpisodeRows,
    is_path_template,
    open_parquet,
    read_json,
    read_jsonl,
    reading,
)
from data_mixtures.spaces.arm_columns import Slices

DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
EPISODES_PATH, TASKS_PATH, MODALITY_PATH = "meta/episodes.jsonl", "meta/tasks.jsonl", "meta/modality.json"
EPISODES_PER_CHUNK = 1000


class LeRobotV2Files:
    """The files of a v2.0 or v2.1 data set; see `LeRobotFiles`."""

    def __init__(self, root: Path, info: dict[str, Any]) -> None:
        self.root = root
        self.warnings: list[str] = []
        self._chunks_size = _count(info.get("chunks_size"), EPISODES_PER_CHUNK)
        self._templates = {
            "data": _templates(info.get("data_path"), DATA_PATH),
            "video": _templates(info.get("video_path"), VIDEO_PATH),
        }
        rows = _episode_rows(root)
        self.numbers = [row["episode_index"] for row in rows]
        self.lengths = [row["length"] for row in rows]
        self._rows = rows
        self.tasks = {
            row["task_index"]: row["task"]
            for row in (read_jsonl(root / TASKS_PATH) if (root / TASKS_PATH).exists() else [])
            if isinstance(row.get("task_index"), int) and isinstance(row.get("task"), str)
        }
        self.subtasks: dict[int, str] = {}
        self._check_totals(info)

    def data_path(self, index: int) -> Path:
        """The parquet file that holds episode `index`."""
        return self._path("data", index)

    def rows(self, index: int, key: str) -> EpisodeRows:
        """Its rows; BadEpisodeError for `key` if the file does not open."""
        path = self.data_path(index)
        with reading(key, path):
            return EpisodeRows(open_parquet(path))

    def clip(self, index: int, video_key: str) -> Clip:
        """Its frames of one camera: a file of its own."""
        return Clip(self._path("video", index, video_key), 0.0)

    def instructions(self, index: int) -> list[str]:
        """The texts its line in episodes.jsonl lists."""
        tasks = self._rows[index].get("tasks")
        return [task for task in tasks if isinstance(task, str)] if isinstance(tasks, list) else []

    def info(self, index: int) -> dict[str, Any]:
        """What else its line in episodes.jsonl says."""
        known = ("episode_index", "tasks", "length")
        return {name: value for name, value in self._rows[index].items() if name not in known}

    def camera_folders(self) -> list[str]:
        """The folders of the first chunk of videos that is there."""
        for chunk in sorted((self.root / "videos").glob("chunk-*")):
            return sorted(folder.name for folder in chunk.iterdir() if folder.is_dir())
        return []

    def _path(self, kind: str, index: int, video_key: str = "") -> Path:
        number = self.numbers[index]
        paths = []
        for chunks_size in dict.fromkeys((self._chunks_size, EPISODES_PER_CHUNK)):
            fields = {"episode_chunk": number // chunks_size, "episode_index": number, "video_key": video_key}
            paths += [self.root / template.format(**fields) for template in self._templates[kind]]
        for path in paths:
            if _exists(path):
                if path is not paths[0]:
                    stated = f"{self._templates[kind][0]!r} with chunks of {self._chunks_size}"
                    self._warn(f"info.json's {kind}_path {stated} names no file")
                return path
        return paths[-1]

    def _check_totals(self, info: dict[str, Any]) -> None:
        for name, found in (("total_episodes", len(self.numbers)), ("total_frames", sum(self.lengths))):
            if info.get(name) != found:
                self._warn(f"info.json's {name} is {info.get(name)}, episodes.jsonl has {found}")

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def modality_slices(root: Path) -> Slices:
    """The slices GR00T's modality.json names, as "state.left_arm" -> (column, indices); empty where there is none."""
    path = root / MODALITY_PATH
    if not path.exists():
        return {}
    slices: dict[str, tuple[str, list[int]]] = {}
    modality = read_json(path)
    for space, column in (("state", "observation.state"), ("action", "action")):
        entries = modality.get(space, {})
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            try:
                indices = list(range(int(entry["start"]), min(int(entry["end"]), int(entry["start"]) + 1000)))
                slices[f"{space}.{name}"] = (str(entry.get("original_key", column)), indices)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ValueError(f"{path}: {space}.{name} is {entry!r}: it needs start and end") from error
    return slices


def _episode_rows(root: Path) -> list[dict[str, Any]]:
    rows = read_jsonl(root / EPISODES_PATH)
    for number, row in enumerate(rows, start=1):
        for name in ("episode_index", "length"):
            if not isinstance(row.get(name), int) or isinstance(row[name], bool) or row[name] < 0:
                raise ValueError(
                    f"{root / EPISODES_PATH}, line {number}: {name} is {row.get(name)!r}: fetch the data set again"
                )
    if not rows:
        raise ValueError(f"{root / EPISODES_PATH} names no episode: fetch the data set again")
    return rows


def _templates(stated: object, standard: str) -> list[str]:
    """The path templates to try, the stated one first if it can be filled in at all."""
    usable = is_path_template(stated, episode_chunk=0, episode_index=0)
    return [stated, standard] if usable and stated != standard else [standard]


def _count(value: object, default: int) -> int:
    return value if isinstance(value, int) and value > 0 else default


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False
