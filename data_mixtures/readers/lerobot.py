"""Reads LeRobot data sets of v2.0, v2.1 (GR00T's additions included) and v3.0 as they lie on disk."""

import difflib
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode, check_episode
from data_mixtures.lerobot import layout
from data_mixtures.readers.lerobot_files import LeRobotFiles
from data_mixtures.readers.lerobot_tables import DAMAGE, EpisodeRows, read_json, reading, vectors
from data_mixtures.readers.lerobot_texts import episode_texts, language_columns
from data_mixtures.readers.lerobot_v2 import LeRobotV2Files, modality_slices
from data_mixtures.readers.lerobot_v3 import LeRobotV3Files
from data_mixtures.spaces.embodiments import Embodiment, checked, embodiment_of
from data_mixtures.spaces.unified import Numerics, no_numerics
from data_mixtures.spaces.unified_columns import CAMERA_COLUMN, UnifiedColumns, unified_columns
from data_mixtures.video.files import MAX_PIXELS, VideoFile, check_video, open_video, video_frames
from data_mixtures.video.opened_files import OpenedFiles

VERSIONS = {"v2.0": LeRobotV2Files, "v2.1": LeRobotV2Files, "v3.0": LeRobotV3Files}
# Rates nearer to each other than this are the same, rounded differently.
_SAME_RATE = 0.02
# Episodes opened to find one whose time stamps can be read.
_EPISODES_TRIED = 5


def is_lerobot(root: Path) -> bool:
    """Whether the folder looks like a LeRobot data set of any version."""
    return (root / layout.INFO_PATH).is_file()


class LeRobotReader:
    """A LeRobot folder; see `Reader`.

    Frame t of an episode is row t of its table and the t-th frame of its video. Where info.json and the files disagree
    (rate, sizes, totals, paths, cameras), the files are believed and `warnings` says so.

    Args:
        root: the folder that holds `meta/info.json`.
        embodiment: how its columns map into the unified spaces; by default what its `robot_type` names, or its
            columns' own names where `conversion.convert_to_lerobot` wrote it.
        video_only: read no states and actions: all masked.

    Raises:
        ValueError: the folder is no LeRobot data set, its metadata cannot be read, or its robot is not described.
    """

    def __init__(self, root: Path | str, embodiment: Embodiment | None = None, video_only: bool = False) -> None:
        self.root = str(root)
        self._folder = Path(root)
        self._info = _read_info(self._folder)
        self.version: str = self._info["codebase_version"]
        self._files: LeRobotFiles = VERSIONS[self.version](self._folder, self._info)
        self.warnings: list[str] = self._files.warnings
        self.defects: Sequence[Defect] = ()
        self._features: dict[str, dict[str, Any]] = _features(self._folder, self._info)
        self.fps = self._true_rate()
        self._robot = None if video_only else self._mapping(embodiment)
        stated = str(self._info.get("robot_type") or "")
        self.robot_type = stated if embodiment is None else embodiment.robot_type or stated
        self._key_of = self._find_cameras()
        self.cameras: Sequence[str] = list(self._key_of)
        self._opened = OpenedFiles()
        self._look_at_first_videos()

    def __len__(self) -> int:
        return len(self._files.numbers)

    def key(self, index: int) -> str:
        """The name of episode `index`: as v2 calls its files."""
        return f"episode_{self._files.numbers[index]:06d}"

    def episode(self, index: int) -> Episode:
        """Episode `index`: numerics read and checked, videos opened but not decoded."""
        key = self.key(index)
        path = self._data_path(index, key)
        rows = self._files.rows(index, key)
        with reading(key, path):
            table = self._read(rows, key, index)
        texts = episode_texts(table, self._files, index, self.fps)
        numerics = self._numerics(table, key)
        for camera in self.cameras:
            self._check_camera(index, camera, len(table), rows.names)
        true_rate = self._robot.fps if self._robot is not None else None
        episode = Episode(
            key=key,
            instruction=texts.instruction,
            subtasks=texts.subtasks,
            fps=true_rate or self.fps,
            robot_type=self.robot_type,
            numerics=numerics,
            cameras=self.cameras,
            read_frames=_Frames(self, index),
            info=self._files.info(index) | self._camera_rotation(table, key),
            robot=self._robot if isinstance(self._robot, Embodiment) else None,
        )
        check_episode(episode)
        return episode

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        """Frames of episode `index` with these numbers, int64 [n] in any order -> uint8 [n, H, W, 3], RGB."""
        if camera not in self._key_of:
            raise ValueError(f"camera {camera!r} does not exist in {self.root}: it has {list(self.cameras)}")
        key, length, numbers = self.key(index), self._files.lengths[index], np.asarray(numbers, dtype=np.int64)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < length:
            raise ValueError(f"frames {numbers.min()}..{numbers.max()} of {key} were asked for: it has 0..{length - 1}")
        if self._is_image(camera):
            return self._stored_images(index, camera, numbers)
        video, numbers = self._placed(index, camera, numbers, length)
        return video_frames(video.path, key, numbers)

    def info(self, index: int) -> dict[str, Any]:
        """What else meta/episodes says of episode `index`: its `Episode.info`, without opening anything."""
        return self._files.info(index)

    def raw_columns(self, index: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Columns of episode `index` as they were recorded, [T, d] each; those it does not have are left out."""
        key = self.key(index)
        rows = self._files.rows(index, key)
        there = [name for name in names if name in rows.names]
        with reading(key, self._folder / "data"):
            table = rows.read(there)
            return {name: vectors(table.column(name)) for name in there}

    @property
    def fingerprint(self) -> str:
        """A name for this content and the way it is read: metadata, and every file's name and size."""
        digest = hashlib.sha256(f"{self._robot!r}".encode())
        for name in ("info.json", "modality.json", "episodes.jsonl", "tasks.jsonl", "tasks.parquet", "stats.json"):
            path = self._folder / "meta" / name
            digest.update(path.read_bytes() if path.is_file() else b"")
        for folder in ("data", "meta", "videos"):
            for line in sorted(_names_and_sizes(self._folder / folder, self._opened)):
                digest.update(line.encode())
        return digest.hexdigest()[:16]

    def _mapping(self, embodiment: Embodiment | None) -> Embodiment | UnifiedColumns:
        try:
            if embodiment is not None:
                return self._of_width(checked(embodiment, modality_slices(self._folder)))
            return unified_columns(self._features) or embodiment_of(str(self._info.get("robot_type") or ""))
        except ValueError as error:
            raise ValueError(f"{self.root}: {error}") from error

    def _of_width(self, robot: Embodiment) -> Embodiment:
        """Recorded columns with every place named: the widths are this data set's."""
        if robot.recorded is None:
            return robot
        widths = [_width(self._features, column) for column in (robot.state_column, robot.action_column)]
        return replace(robot, recorded=robot.recorded.of_width(*widths))

    def _find_cameras(self) -> dict[str, str]:
        """Camera name -> feature, for the features and folders that hold pictures."""
        folders = set(self._files.camera_folders())
        stated = {name: feature.get("dtype") for name, feature in self._features.items()}
        keys = [name for name, dtype in stated.items() if dtype == "image" or (dtype == "video" and name in folders)]
        for name in (name for name, dtype in stated.items() if dtype == "video" and name not in folders):
            self.warnings.append(f"info.json names the camera {name!r}, which has no videos: left out")
        for name in sorted(folders - set(stated)):
            self.warnings.append(f"videos/ holds the camera {name!r}, which info.json does not name: taken in")
            keys.append(name)
        return {key.removeprefix(layout.CAMERA_PREFIX): key for key in keys}

    def _look_at_first_videos(self) -> None:
        """Compare what info.json says of sizes and rate with the first episode's videos."""
        for camera in self.cameras:
            if self._is_image(camera):
                continue
            try:
                video = open_video(self._files.clip(0, self._key_of[camera]).path, self.key(0))
            except (BadEpisodeError, *DAMAGE):
                continue  # `episode` names it, for the episodes it concerns
            shape = self._features.get(self._key_of[camera], {}).get("shape")
            if isinstance(shape, list) and [video.height, video.width] not in (shape[:2], shape[1:]):
                self.warnings.append(f"info.json says {camera} is {shape}, it is {video.height} x {video.width}")
            if abs(video.fps / self.fps - 1) > _SAME_RATE:
                self.warnings.append(f"info.json says fps {self.fps:g}, {camera} has {video.fps:g}")

    def _is_image(self, camera: str) -> bool:
        return self._features.get(self._key_of[camera], {}).get("dtype") == "image"

    def _data_path(self, index: int, key: str) -> Path:
        """The parquet file of an episode, which must still be the one that was opened."""
        with reading(key, self._folder / "data"):
            path = self._files.data_path(index)
        self._opened.check(path, key)
        return path

    def _read(self, rows: EpisodeRows, key: str, index: int) -> pa.Table:
        """The columns an Episode is made of, checked for being there and for their number of rows."""
        wanted = list(self._robot.columns) if self._robot is not None else []
        wanted += [CAMERA_COLUMN] if CAMERA_COLUMN in self._features else []
        missing = [name for name in wanted if name not in rows.names]
        if missing:
            near = difflib.get_close_matches(missing[0], rows.names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {rows.names}"
            raise BadEpisodeError(key, "column", f"column {missing[0]!r} is missing{hint}")
        if len(rows) == 0:
            raise BadEpisodeError(key, "empty", "the episode has no rows")
        stated = self._files.lengths[index]
        if len(rows) != stated:
            raise BadEpisodeError(key, "length", f"its table has {len(rows)} rows, the metadata says {stated}")
        others = language_columns(rows.names)
        table = rows.read([*wanted, *(name for name in others if name not in wanted)])
        if table.num_rows != len(rows):
            raise BadEpisodeError(key, "truncated", f"its table gives {table.num_rows} of {len(rows)} rows")
        return table

    def _numerics(self, table: pa.Table, key: str) -> Numerics:
        if self._robot is None or not self._robot.columns:
            return no_numerics(len(table))
        columns = {}
        for name in self._robot.columns:
            try:
                columns[name] = vectors(table.column(name))
            except DAMAGE as error:
                raise BadEpisodeError(key, "column", f"column {name!r}: {error}") from error
        try:
            return self._robot.numerics(columns)
        except ValueError as error:
            raise BadEpisodeError(key, "column", str(error)) from error

    def _camera_rotation(self, table: pa.Table, key: str) -> dict[str, object]:
        if CAMERA_COLUMN not in table.column_names:
            return {}
        with reading(key, CAMERA_COLUMN):
            rotation = vectors(table.column(CAMERA_COLUMN)).astype(np.float32).reshape(len(table), 3, 3)
        if not np.isfinite(rotation).all():
            raise BadEpisodeError(key, "not_finite", f"{CAMERA_COLUMN} holds numbers that are not finite")
        return {"camera_rotation": rotation}

    def _true_rate(self) -> float:
        """The rate the first readable rows' time stamps have, where they have one; else what info.json says."""
        stated = _rate(self._folder, self._info)
        for index in range(min(len(self), _EPISODES_TRIED)):
            try:
                stamps = vectors(self._files.rows(index, self.key(index)).read(["timestamp"]).column(0))[:, 0]
            except (BadEpisodeError, *DAMAGE):
                continue
            with np.errstate(invalid="ignore", over="ignore"):
                step = float(np.median(np.diff(stamps.astype(np.float64)))) if len(stamps) > 2 else np.nan
            if not 0 < step < np.inf or abs(1 / step / stated - 1) < _SAME_RATE:
                return stated
            self.warnings.append(f"info.json says fps {stated:g}, the rows' time stamps {1 / step:.4g}")
            return round(1 / step, 3)
        return stated

    def _check_camera(self, index: int, camera: str, length: int, names: Sequence[str]) -> None:
        if not self._is_image(camera):
            self._placed(index, camera, np.arange(length), length)
        elif self._key_of[camera] not in names:
            raise BadEpisodeError(self.key(index), "column", f"column {self._key_of[camera]!r} is missing")

    def _placed(self, index: int, camera: str, numbers: np.ndarray, length: int) -> tuple[VideoFile, np.ndarray]:
        """The video of an episode and the numbers that its frames have there; BadEpisodeError if it is too short."""
        key = self.key(index)
        with reading(key, self._folder / "videos"):
            clip = self._files.clip(index, self._key_of[camera])
        self._opened.check(clip.path, key)
        video = check_video(clip.path, key, 1)
        with reading(key, clip.path):
            first, rate = video.number_at(clip.start_s), 1.0
        if video.num_frames != length and video.fps > 0 and abs(video.fps / self.fps - 1) > _SAME_RATE:
            rate = video.fps / self.fps  # a video with a rate of its own beside the rows: by time
        check_video(clip.path, key, first + round((length - 1) * rate) + 1)
        return video, first + np.round(numbers * rate).astype(np.int64)

    def _stored_images(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        key, name = self.key(index), self._key_of[camera]
        path = self._data_path(index, key)
        rows = self._files.rows(index, key)
        with reading(key, path):
            column = rows.read([name]).column(0)
            entries = column.take(pa.array(numbers)).to_pylist()
        images = []
        for number, entry in zip(numbers.tolist(), entries, strict=True):
            try:
                images.append(_image(entry, self._folder))
            except (*DAMAGE, SyntaxError) as error:  # PIL raises SyntaxError on some broken PNGs
                raise BadEpisodeError(key, "video", f"{name}, frame {number} does not decode: {error}") from error
        if len({image.shape for image in images}) > 1:
            raise BadEpisodeError(key, "video", f"{name} holds pictures of several sizes")
        return np.stack(images) if images else np.empty((0, 0, 0, 3), dtype=np.uint8)


class _Frames:
    """`Episode.read_frames` of one episode: a class, so that an Episode crosses process borders."""

    def __init__(self, reader: LeRobotReader, index: int) -> None:
        self.reader, self.index = reader, index

    def __call__(self, camera: str, numbers: np.ndarray) -> np.ndarray:
        return self.reader.frames(self.index, camera, numbers)


def _read_info(root: Path) -> dict[str, Any]:
    path = root / layout.INFO_PATH
    if not path.exists():
        raise ValueError(f"no data set at {root}: {path.resolve()} does not exist")
    info = read_json(path)
    if str(info.get("codebase_version")) not in VERSIONS:
        raise ValueError(f"{path}: codebase_version is {info.get('codebase_version')!r}, known are {list(VERSIONS)}")
    return info


def _rate(root: Path, info: Mapping[str, Any]) -> float:
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < 1e6:
        raise ValueError(f"{root / layout.INFO_PATH}: fps is {fps!r}, expected frames a second")
    return fps


def _features(root: Path, info: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    features = info.get("features")
    if not isinstance(features, dict) or not all(isinstance(feature, dict) for feature in features.values()):
        raise ValueError(
            f"{root / layout.INFO_PATH}: features is {json.dumps(features)[:80]}, expected a description each"
        )
    return features


def _image(entry: object, root: Path) -> np.ndarray:
    """A picture as Hugging Face's image feature stores it: bytes, or a path below the root; uint8 [H, W, 3]."""
    if isinstance(entry, dict):
        entry = entry.get("bytes") or (root / str(entry["path"])).read_bytes()
    if not isinstance(entry, bytes):
        raise ValueError(f"it is a {type(entry).__name__}, not a stored picture")
    with Image.open(io.BytesIO(entry)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"it says it is {image.width} x {image.height}")
        return np.asarray(image.convert("RGB"))


def _names_and_sizes(folder: Path, opened: OpenedFiles) -> Iterable[str]:
    stack = [str(folder)] if folder.is_dir() else []
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    stack.append(entry.path)
                else:
                    status = entry.stat()
                    opened.remember(entry.path, status)
                    yield f"{entry.path[len(str(folder.parent)) :]} {status.st_size}\n"


def _width(features: Mapping[str, dict[str, Any]], column: str) -> int:
    """How many numbers a row of a column holds, as info.json says."""
    shape = features.get(column, {}).get("shape")
    if not isinstance(shape, list) or len(shape) != 1 or not isinstance(shape[0], int):
        raise ValueError(f"info.json names no column {column!r} of plain numbers; it names {sorted(features)}")
    return shape[0]
