"""Any data set that can be read, written as LeRobot v3.0."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode
from data_mixtures.lerobot import layout
from data_mixtures.lerobot.writer import LeRobotWriter, Scalar
from data_mixtures.readers.reader import Reader
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.spaces.unified_columns import CAMERA_COLUMN, UnifiedColumns
from data_mixtures.video.encoding import PixelFormat

QUARANTINE = "quarantine.jsonl"
SOURCE_KEY = "source_key"
_SAME_RATE = 0.01

# (steps done, steps in all): every episode is read and checked first, then written.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Conversion:
    """What a conversion wrote.

    Attributes:
        root: the LeRobot folder.
        num_episodes: episodes in it.
        num_frames: their frames.
        quarantined: what was left out, and why; also in the folder's quarantine.jsonl.
    """

    root: Path
    num_episodes: int
    num_frames: int
    quarantined: Sequence[Defect]


def convert_to_lerobot(
    reader: Reader,
    target: Path,
    episodes: Iterable[int] | None = None,
    pixel_format: PixelFormat = "yuv420p",
    progress: Progress | None = None,
) -> Conversion:
    """Write a data set's episodes to `target`, which appears whole or not at all.

    States and actions are kept in the unified spaces, only the dimensions the set has, as columns whose dimensions are
    named (`unified_columns`); `LeRobotReader` reads them back exactly. Pictures become H.264, all of a camera in the
    size of its first one (an odd size is padded by a pixel), black where an episode lacks the camera. Damaged
    episodes, and those of another rate, are left out and listed. An episode's name is kept as `source_key`; of its
    `info`, numbers, texts and a moving camera's rotations are kept.

    Args:
        reader: of the data set.
        target: the folder to make; must not exist.
        episodes: their numbers in the reader; all when None.
        pixel_format: of the videos; "yuv444p" keeps the colours' full resolution, which few players know.
        progress: called after every step.

    Raises:
        ValueError: `target` exists, or no episode is left.
    """
    if target.exists():
        raise ValueError(f"target {target} exists already: delete it or name another folder")
    chosen = list(range(len(reader)) if episodes is None else episodes)
    survey = _Survey(reader, chosen, progress)
    if not survey.good:
        why = f", the first because {survey.quarantined[0].detail}" if survey.quarantined else ""
        raise ValueError(f"none of the {len(chosen)} episodes of {reader.root} can be used{why}")
    writer = LeRobotWriter(
        target, survey.fps, reader.robot_type, survey.sizes, survey.features, pixel_format, survey.columns.names
    )
    lengths = []
    try:
        for done, index in enumerate(survey.good, start=1):
            try:
                lengths.append(_write(writer, reader.episode(index), survey))
            except BadEpisodeError as error:  # what only decoding finds
                survey.quarantined.append(error.defect)
            if progress is not None:
                progress(len(chosen) + done, len(chosen) + len(survey.good))
        lines = "".join(json.dumps(asdict(defect)) + "\n" for defect in survey.quarantined)
        writer.finish({QUARANTINE: lines} if lines else {})
    except BaseException:
        writer.abort()
        raise
    return Conversion(target, len(lengths), sum(lengths), survey.quarantined)


class _Survey:
    """What the writer must know before the first frame: which episodes are whole, and what they have between them.

    Attributes:
        good: the episodes to write.
        quarantined: what is wrong with the others.
        fps: the first good one's rate.
        columns: the unified dimensions that any of them has.
        features: numeric column -> values a frame.
        sizes: camera -> (height, width) of its first picture, made even.
    """

    def __init__(self, reader: Reader, chosen: Sequence[int], progress: Progress | None) -> None:
        self.good: list[int] = []
        self.quarantined: list[Defect] = list(reader.defects)
        self.fps = 0.0
        self.sizes: dict[str, tuple[int, int]] = {}
        self._state, self._action = np.zeros(STATE_DIM, dtype=bool), np.zeros(ACTION_DIM, dtype=bool)
        self._camera_moves = False
        for done, index in enumerate(chosen, start=1):
            try:
                self._take(index, reader.episode(index))
            except BadEpisodeError as error:
                self.quarantined.append(error.defect)
            if progress is not None:
                progress(done, 2 * len(chosen))
        state, action = np.flatnonzero(self._state).tolist(), np.flatnonzero(self._action).tolist()
        self.columns = UnifiedColumns(tuple(state), tuple(action))
        self.features = {name: len(names) for name, names in self.columns.names.items()}
        if self._camera_moves:
            self.features[CAMERA_COLUMN] = 9

    def _take(self, index: int, episode: Episode) -> None:
        if episode.space != "unified":
            raise ValueError(
                f"{episode.robot_type}'s columns are read as recorded: this set is LeRobot already, and its columns "
                "have no unified names to be written under"
            )
        if self.fps and abs(episode.fps / self.fps - 1) > _SAME_RATE:
            detail = f"it was recorded at {episode.fps:g} frames a second, the data set at {self.fps:g}"
            raise BadEpisodeError(episode.key, "length", detail)
        for camera in set(episode.cameras) - set(self.sizes):
            height, width = episode.frames(camera, np.array([0])).shape[1:3]
            self.sizes[camera] = (height + height % 2, width + width % 2)
        self.fps = self.fps or episode.fps
        self._state |= episode.numerics.state_mask.any(axis=0)
        self._action |= episode.numerics.action_mask.any(axis=0)
        self._camera_moves |= "camera_rotation" in episode.info
        self.good.append(index)


def _write(writer: LeRobotWriter, episode: Episode, survey: _Survey) -> int:
    columns = survey.columns.pack(episode.numerics)
    if CAMERA_COLUMN in survey.features:
        rotation = episode.info.get("camera_rotation", np.tile(np.eye(3), (len(episode), 1, 1)))
        columns[CAMERA_COLUMN] = np.asarray(rotation, dtype=np.float32).reshape(len(episode), 9)
    frames = {camera: _FittedFrames(episode, camera, size) for camera, size in survey.sizes.items()}
    writer.add_episode(frames, columns, episode.instruction, episode.subtasks, _scalars(episode))
    return len(episode)


def _scalars(episode: Episode) -> dict[str, Scalar]:
    """An episode's info as the format can keep it."""
    kept: dict[str, Scalar] = {}
    for name, value in _flat(episode.info).items():
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, str | int | float | bool):
            kept[f"source_{name}" if name in layout.EPISODE_COLUMNS else name] = plain
    return {SOURCE_KEY: episode.key} | kept


def _flat(info: Mapping[str, object]) -> dict[str, object]:
    return {name.replace("/", "."): value for name, value in info.items()}


class _FittedFrames:
    """One camera's frames of an episode in one size, decoded as the writer asks for them."""

    def __init__(self, episode: Episode, camera: str, size: tuple[int, int]) -> None:
        self.episode, self.camera, self.size = episode, camera, size
        self.shape, self.dtype = (len(episode), *size, 3), np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        numbers = np.arange(len(self))[rows]
        if self.camera not in self.episode.cameras:
            return np.zeros((len(numbers), *self.size, 3), dtype=np.uint8)
        return _fitted(self.episode.frames(self.camera, numbers), *self.size)


def _fitted(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames uint8 [n, H, W, 3] -> [n, height, width, 3]: padded by a pixel, else resized, aspect kept, on black."""
    missing = height - frames.shape[1], width - frames.shape[2]
    if set(missing) <= {0, 1}:
        return np.pad(frames, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    scale = min(height / frames.shape[1], width / frames.shape[2])
    inner = max(1, round(frames.shape[1] * scale)), max(1, round(frames.shape[2] * scale))
    planes = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
    resized = torch.nn.functional.interpolate(planes, inner, mode="bilinear", antialias=True, align_corners=False)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    fitted = np.zeros((len(frames), height, width, 3), dtype=np.uint8)
    fitted[:, top : top + inner[0], left : left + inner[1]] = resized.numpy().transpose(0, 2, 3, 1)
    return fitted
