"""A reader over episodes made in memory, with known content and chosen defects."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode, check_episode
from data_mixtures.spaces.unified import Numerics, no_numerics


def one_arm(length: int, seed: int = 0) -> Numerics:
    """The left arm moves 1 cm a frame along x from 0; y and z are noise; the gripper closes at half time."""
    rng = np.random.default_rng(seed)
    made = no_numerics(length)
    made.state[:, 0] = np.arange(length) * 0.01
    made.state[:, 1:3] = rng.normal(0, 0.02, (length, 2))
    made.state[:, 6] = 1
    made.state[:, 7] = np.arange(length) < length // 2
    made.state_mask[:, :8] = True
    made.actions[:-1, :3] = np.diff(made.state[:, :3], axis=0)
    made.actions[:-1, 6] = made.state[1:, 7]
    made.action_mask[:-1, :7] = True
    return made


class MadeReader:
    """Episodes in memory; frame t of every camera is all t (mod 256), `bad` episodes raise what they are told to."""

    def __init__(
        self,
        lengths: Sequence[int],
        cameras: dict[str, tuple[int, int]] | None = None,
        bad: dict[int, Defect] | None = None,
        blind: dict[str, Defect] | None = None,
        defects: Sequence[Defect] = (),
        video_only: bool = False,
    ) -> None:
        self.root, self.robot_type = "made", "arm"
        self.cameras: Sequence[str]
        self.defects: Sequence[Defect] = defects
        self.warnings: list[str] = []
        self.sizes = {"primary": (48, 64)} if cameras is None else cameras
        self.cameras = list(self.sizes)
        self._lengths, self._bad, self._blind, self._video_only = lengths, bad or {}, blind or {}, video_only

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def fingerprint(self) -> str:
        return "0123456789abcdef"

    def key(self, index: int) -> str:
        return f"episode_{index:06d}"

    def episode(self, index: int) -> Episode:
        if index in self._bad:
            raise BadEpisodeError(self.key(index), self._bad[index].kind, self._bad[index].detail)
        length = self._lengths[index]
        episode = Episode(
            key=self.key(index),
            instruction=("open the <door>", "press the button & wait", "")[index % 3],
            subtasks=[(0, "reach"), (5, ""), (8, "grasp")] if index % 2 == 0 else [],
            fps=10.0,
            robot_type=self.robot_type,
            numerics=no_numerics(length) if self._video_only else one_arm(length, index),
            cameras=self.cameras,
            read_frames=lambda camera, numbers: self.frames(index, camera, numbers),
            info={"success": index % 2 == 0, "scene": f"kitchen {index}"},
        )
        check_episode(episode)
        return episode

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        if camera in self._blind:
            raise BadEpisodeError(self.key(index), self._blind[camera].kind, self._blind[camera].detail)
        shade = (np.asarray(numbers) % 256).astype(np.uint8)
        return np.broadcast_to(shade[:, None, None, None], (len(shade), *self.sizes[camera], 3)).copy()


def with_numerics(episode: Episode, numerics: Numerics) -> Episode:
    return replace(episode, numerics=numerics)
