"""One recording, whatever format it came from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from data_mixtures.defects import BadEpisodeError
from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM, Numerics, NumericSpace


@dataclass(frozen=True)
class Episode:
    """T frames of one embodiment doing one task.

    Attributes:
        key: the episode's name in its data set, stable between readings (a file's stem, a record's number).
        instruction: what was asked for; '' where the data set says nothing.
        subtasks: (first frame, text) in rising order; each holds until the next starts, '' where none is named.
        fps: frames a second; action t is executed between frames t and t + 1.
        robot_type: the embodiment's name.
        numerics: states [T, 46] and actions [T, 44] in the unified spaces (physical units), with masks; or the robot's
            own columns in the first dimensions of each (`space`).
        cameras: the names `frames` takes.
        read_frames: (camera, frame numbers int64 [n]) -> uint8 [n, H, W, 3], RGB, decoded when called.
        info: what else was recorded of the episode (success, seed, ...).
        robot: how the robot's own columns map into `numerics`; None where its reader has no such description.
    """

    key: str
    instruction: str
    subtasks: Sequence[tuple[int, str]]
    fps: float
    robot_type: str
    numerics: Numerics
    cameras: Sequence[str]
    read_frames: Callable[[str, np.ndarray], np.ndarray]
    info: dict[str, object] = field(default_factory=dict)
    robot: Embodiment | None = None

    @property
    def space(self) -> NumericSpace:
        """What the dimensions of `numerics` are."""
        return "unified" if self.robot is None else self.robot.space

    def __len__(self) -> int:
        return len(self.numerics.state)

    def frames(self, camera: str, numbers: np.ndarray | None = None) -> np.ndarray:
        """Frames of one camera, all of them or those with these numbers: uint8 [n, H, W, 3], RGB, as stored."""
        if camera not in self.cameras:
            raise ValueError(f"camera {camera!r} does not exist in episode {self.key}: it has {list(self.cameras)}")
        return self.read_frames(camera, np.arange(len(self)) if numbers is None else np.asarray(numbers))

    def subtask_at(self, frame: int) -> str:
        """The sub-task whose span holds `frame`; '' before the first span or without any."""
        return next((text for start, text in reversed(self.subtasks) if start <= frame), "")


def check_episode(episode: Episode) -> None:
    """Raise BadEpisodeError for what no format allows: no frames, shapes that disagree, numbers that are none."""
    numerics, length = episode.numerics, len(episode)
    if length == 0:
        raise BadEpisodeError(episode.key, "empty", "the episode has no frames")
    for name, values, mask, dim in (
        ("state", numerics.state, numerics.state_mask, STATE_DIM),
        ("actions", numerics.actions, numerics.action_mask, ACTION_DIM),
    ):
        if values.shape != (length, dim) or mask.shape != (length, dim):
            raise BadEpisodeError(
                episode.key, "length", f"{name} is {values.shape} with mask {mask.shape}, expected {(length, dim)}"
            )
        if not np.isfinite(values[mask]).all():
            row, column = np.argwhere(mask & ~np.isfinite(values))[0]
            raise BadEpisodeError(
                episode.key,
                "not_finite",
                f"{name}[{row}, {column}] (frame, unified dimension) is {values[row, column]}",
            )
