"""A reader over pictures made up on the spot, good and bad; picklable, so that worker processes can open it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode, check_episode
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM, Numerics

TEXTS = ("open the door", "press the button", "close the drawer")


def picture(episode: int, camera: int, frame: int, height: int, width: int) -> np.ndarray:
    """A drifting, coloured gradient uint8 [height, width, 3] that tells episode, camera and frame apart."""
    y, x = np.mgrid[0:height, 0:width]
    phase = 0.7 * episode + 2.1 * camera
    across = 2 * np.pi * (x / width + 0.05 * frame) + phase
    waves = [np.sin(across + color) * np.cos(np.pi * y / height + color) for color in range(3)]
    return np.round(127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


@dataclass
class ArrayReader:
    """Episode i has `lengths[i]` frames; those in `bad` raise at `episode`, those in `bad_frames` at frame n."""

    lengths: tuple[int, ...]
    cameras: Sequence[str] = ("front", "wrist/left")
    height: int = 48
    width: int = 64
    bad: frozenset[int] = frozenset()
    bad_frames: dict[int, int] = field(default_factory=dict)
    root: str = "made up"
    robot_type: str = "test_arm"
    defects: Sequence[Defect] = ()

    def __len__(self) -> int:
        return len(self.lengths)

    def key(self, index: int) -> str:
        return f"made-up-{index}"

    def episode(self, index: int) -> Episode:
        if index in self.bad:
            raise BadEpisodeError(self.key(index), "unreadable", "made to be bad")
        length = self.lengths[index]
        rng = np.random.default_rng(index)
        numerics = Numerics(
            rng.normal(size=(length, STATE_DIM)).astype(np.float32),
            np.tile(np.arange(STATE_DIM) < 8, (length, 1)),
            rng.normal(size=(length, ACTION_DIM)).astype(np.float32),
            np.tile(np.arange(ACTION_DIM) < 7, (length, 1)),
        )
        episode = Episode(
            key=self.key(index),
            instruction=TEXTS[index % len(TEXTS)],
            subtasks=[(0, "reach"), (length // 2, "grasp")],
            fps=10.0 + index % 2,
            robot_type=self.robot_type,
            numerics=numerics,
            cameras=self.cameras,
            read_frames=lambda camera, numbers: self.frames(index, camera, numbers),
        )
        check_episode(episode)
        return episode

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        if index in self.bad_frames and self.bad_frames[index] in numbers:
            raise BadEpisodeError(self.key(index), "video", f"frame {self.bad_frames[index]} does not decode")
        number = list(self.cameras).index(camera)
        return np.stack([picture(index, number, frame, self.height, self.width) for frame in numbers.tolist()])

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.lengths, self.cameras)).encode()).hexdigest()[:16]
