"""What differs between LeRobot's versions: where an episode's rows, frames and texts lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data_mixtures.readers.lerobot_tables import EpisodeRows


@dataclass(frozen=True)
class Clip:
    """Where one episode's frames of one camera lie: in `path`, from `start_s` seconds on."""

    path: Path
    start_s: float


class LeRobotFiles(Protocol):
    """A LeRobot folder of one version.

    Attributes:
        numbers: the episodes' own numbers (`episode_index`).
        lengths: frames of each, as the metadata says.
        tasks: task_index -> text.
        subtasks: subtask_index -> text; empty where the set has none.
        warnings: what info.json says and the files do not.
    """

    numbers: Sequence[int]
    lengths: Sequence[int]
    tasks: dict[int, str]
    subtasks: dict[int, str]
    warnings: list[str]

    def data_path(self, index: int) -> Path:
        """The parquet file that holds episode `index`."""
        ...

    def rows(self, index: int, key: str) -> EpisodeRows:
        """Its rows; BadEpisodeError for `key` if the file does not open or does not hold them."""
        ...

    def clip(self, index: int, video_key: str) -> Clip:
        """Its frames of one camera."""
        ...

    def instructions(self, index: int) -> Sequence[str]:
        """The texts its metadata lists."""
        ...

    def info(self, index: int) -> dict[str, Any]:
        """What else its metadata says."""
        ...

    def camera_folders(self) -> list[str]:
        """The video keys that have files."""
        ...
