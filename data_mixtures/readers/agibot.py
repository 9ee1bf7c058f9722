"""AgiBot World (Alpha, Beta and the simulated Digital World), raw as published, folders or tars.

What an episode's h5 holds and what is taken from it (sources: the data sets' cards, and real files):
- state/end/position [N, 2, 3] m and orientation [N, 2, 4], left then right, in the robot's base frame. Recorded
  data has quaternions xyzw; simulation (proprio_states.h5) wxyz, in the world's frame.
- state/effector/position [N, 2], or state/left_effector and right_effector/position [N, 1] in newer files: 0 is open
  and 120 closed. The card says the opposite; a real recording reaches for a kettle at 0.2 and carries it at 118. Hands
  with fingers ([N, 12]) and simulation, whose numbers run to 240, are no such gripper: masked.
- action/end and action/joint equal the state of the same frame, so they command nothing: changes are differenced from
  the state. In tasks 352-421 some are longer than the state; only `info` says so.
- timestamp [N], ns: 30 Hz with 14 to 53 ms of jitter, so frames go by their number.
- Many datasets are placeholders of shape (0,).
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode, check_episode
from data_mixtures.readers.agibot_files import PROPRIO_FOLDERS, AgiBotFiles, StoredFile
from data_mixtures.readers.agibot_labels import episode_labels
from data_mixtures.readers.agibot_states import ArmStates, read_arm_states
from data_mixtures.readers.hdf5_reading import open_hdf5
from data_mixtures.spaces.poses import unify
from data_mixtures.video.files import check_video, video_frames

FPS = 30.0
_CAMERAS = {"head": "primary", "hand_left": "wrist_left", "hand_right": "wrist_right"}


def is_agibot(root: Path) -> bool:
    """Whether the folder has AgiBot World's observations beside its proprioception."""
    return (root / "observations").is_dir() and any((root / name).is_dir() for name in PROPRIO_FOLDERS)


class AgiBotReader:
    """AgiBot World as a `Reader`; both arms, keys "<task>/<episode>", sub-tasks from the task's action_config.

    Cameras are primary (head), wrist_left, wrist_right and, under their own names without "_color", the fisheyes.
    A pickled reader remembers what is in the tars.
    """

    def __init__(self, root: str | Path) -> None:
        path = Path(root)
        if not is_agibot(path):
            raise ValueError(f"{path} is no AgiBot World folder: it needs observations/ and proprio_stats/")
        self.root, self.robot_type = str(root), "agibot_g1"
        self._files = AgiBotFiles(path)
        self.defects: Sequence[Defect] = self._files.defects
        if not len(self) and not self.defects:
            raise ValueError(
                f"{path} holds no episode: expected observations/<task>/<episode>/videos/, or tars of them"
            )

    def __len__(self) -> int:
        return len(self._files.keys)

    @property
    def cameras(self) -> Sequence[str]:
        """Those of a few episodes: all have the same three, tasks with hands have other fisheyes."""
        return self._cameras

    @cached_property
    def _cameras(self) -> Sequence[str]:
        found = dict.fromkeys(_CAMERAS.values())
        for key in self._files.keys[:: max(1, len(self) // 8)]:
            try:
                found.update(dict.fromkeys(_camera(name) for name in self._files.of(key).videos))
            except BadEpisodeError:
                continue
        return list(found)

    def key(self, index: int) -> str:
        """As "327/648642": task and episode."""
        return self._files.keys[index]

    def episode(self, index: int) -> Episode:
        """Episode `index`; see the top of this file for what its numbers are."""
        key = self.key(index)
        videos, states, labels = self._videos(key), self._states(key), episode_labels(Path(self.root), key)
        for file in videos.values():
            check_video(self._files.path(file, key), key, states.length)
        info: dict[str, object] = {"task": key.partition("/")[0], "scene": labels.scene, **states.info}
        if labels.ignored:
            info["segments_ignored"] = labels.ignored
        episode = Episode(
            key=key,
            instruction=labels.task_name,
            subtasks=labels.subtasks(states.length),
            fps=FPS,
            robot_type=self.robot_type,
            numerics=unify(states.length, left=states.left, right=states.right),
            cameras=list(videos),
            read_frames=partial(self.frames, index),
            info=info,
        )
        check_episode(episode)
        return episode

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        """Frames as recorded, uint8 [n, 480, 640, 3] (748 x 960 for fisheyes)."""
        key = self.key(index)
        videos = self._videos(key)
        if camera not in videos:
            raise BadEpisodeError(key, "video", f"there is no camera {camera!r}, only {list(videos)}")
        return video_frames(self._files.path(videos[camera], key), key, numbers)

    @property
    def fingerprint(self) -> str:
        """From the episodes' names and the sizes of all files."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(b"agibot 2")
        for name, size in self._files.names_and_sizes():
            digest.update(f"{name} {size}\n".encode())
        return digest.hexdigest()[:16]

    def _videos(self, key: str) -> dict[str, StoredFile]:
        """By camera, the three that every robot has first."""
        found = {_camera(name): file for name, file in self._files.of(key).videos.items()}
        if not found:
            raise BadEpisodeError(key, "video", "there is no video of it")
        first = [camera for camera in _CAMERAS.values() if camera in found]
        return {camera: found[camera] for camera in dict.fromkeys([*first, *found])}

    def _states(self, key: str) -> ArmStates:
        files = self._files.of(key)
        if files.proprio is None:
            raise BadEpisodeError(key, "unreadable", "there is no h5 of its states")
        with open_hdf5(self._files.content(files.proprio, key), key, "the h5 of its states") as file:
            return read_arm_states(file, key, files.simulated)


def _camera(file_name: str) -> str:
    name = file_name.removesuffix("_color")
    return _CAMERAS.get(name, name)
