"""One recording, whatever format it came from."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Episode:
    """T frames of one robot doing one task.

    Attributes:
        index: the episode's number in its data set.
        instruction: what the robot was asked to do.
        subtasks: (first frame, text) in rising order; each holds until the next starts.
        fps: frames a second; action t is executed between frames t and t + 1.
        robot_type: the embodiment's name.
        state: float32 [T, 46] in the unified space (physical units), and `state_mask` bool [46].
        actions: float32 [T, 44] in the unified space (physical units), and `action_mask` bool [44].
        load_frames: camera name -> uint8 [T, H, W, 3], decoded when called.
        info: what else was recorded of the episode (success, seed, ...).
    """

    index: int
    instruction: str
    subtasks: list[tuple[int, str]]
    fps: float
    robot_type: str
    state: np.ndarray
    state_mask: np.ndarray
    actions: np.ndarray
    action_mask: np.ndarray
    load_frames: Callable[[str], np.ndarray]
    info: dict[str, object] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.state)

    def subtask_at(self, frame: int) -> str:
        """The sub-task whose span holds `frame`; '' before the first span or without any."""
        return next((text for start, text in reversed(self.subtasks) if start <= frame), "")
