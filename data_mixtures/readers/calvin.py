"""CALVIN as published (Mees et al., 2022): play of a Franka arm at a desk, a file a frame, at 30 Hz.

<split>/episode_0123456.npz holds rel_actions [7] (change of position and Euler angles as shares of a largest step, and
the gripper, all in [-1, 1]), robot_obs [15], scene_obs [24], rgb_static [200, 200, 3], rgb_gripper [84, 84, 3] and
more. <split>/ep_start_end_ids.npy names the first and last frame of each recording; lang_annotations/ spans with words.

State is robot_obs beside scene_obs, 39 numbers as CLAM has it (Liang et al. 2025, appendix E), and the action
rel_actions, both as recorded: door, drawer, lights and blocks have no place in the unified spaces.
"""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode, check_episode
from data_mixtures.readers.calvin_language import Annotation, read_annotations
from data_mixtures.readers.hdf5_reading import check_range
from data_mixtures.spaces.embodiments import CALVIN_SCENE
from data_mixtures.video.opened_files import OpenedFiles

FPS = 30.0
SPLITS = ("training", "validation")
ANNOTATIONS = "lang_annotations"
_IMAGES = {"primary": "rgb_static", "wrist": "rgb_gripper"}
_WIDTHS = {"robot_obs": 15, "scene_obs": 24, "rel_actions": 7}
_IDS = "ep_start_end_ids.npy"
_FARTHEST = 100.0  # m and rad; the desk is within 1
_MAX_FRAME_BYTES = 1 << 26


@dataclass(frozen=True)
class _Span:
    """Frames of one episode, and its words."""

    key: str
    first: int
    last: int
    annotation: Annotation | None = None


def is_calvin(root: Path) -> bool:
    """Whether the folder is a split of CALVIN, or holds one."""
    return any((folder / _IDS).is_file() for folder in (root, *(root / split for split in SPLITS)))


class CalvinReader:
    """CALVIN as a `Reader`.

    Args:
        root: A data set's folder (task_D_D, calvin_debug_dataset), or one of its splits.
        split: "training" or "validation", where both are there; with "/lang_annotations" after it each annotated span
            is an episode, keys "lang_<i>". Without, each recording is one, keys "play_<i>", and annotated spans are
            its sub-tasks.

    Raises:
        ValueError: there is no such split, or what lists its episodes cannot be read.
    """

    def __init__(self, root: str | Path, split: str | None = None) -> None:
        self.root, self.robot_type, self.cameras = str(root), CALVIN_SCENE.robot_type, list(_IMAGES)
        self._split, _, part = (split or "").partition("/")
        if part not in ("", ANNOTATIONS):
            raise ValueError(f"split is {split!r}: after the split's name only /{ANNOTATIONS} may stand")
        self._folder = _split_folder(Path(root), self._split)
        self._opened, self.defects = OpenedFiles(), list[Defect]()
        self._annotations = self._read_annotations(needed=bool(part))
        self._spans = self._annotated() if part else self._recordings()

    def _read_annotations(self, needed: bool) -> list[Annotation]:
        path = self._folder / ANNOTATIONS / "auto_lang_ann.npy"
        if not path.exists():
            if needed:
                raise ValueError(f"split asks for annotated spans, but {path} does not exist: leave /{ANNOTATIONS} out")
            return []
        return read_annotations(path)

    def _annotated(self) -> list[_Span]:
        return [_Span(f"lang_{i}", one.first, one.last, one) for i, one in enumerate(self._annotations)]

    def _recordings(self) -> list[_Span]:
        path = self._folder / _IDS
        try:
            ids = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} cannot be read ({error}): download it again") from error
        if ids.ndim != 2 or ids.shape[1] != 2 or ids.dtype.kind not in "iu" or (ids < 0).any():
            raise ValueError(f"{path} holds {ids.dtype} {ids.shape}, expected pairs of frame numbers [n, 2]")
        return [_Span(f"play_{i}", first, last) for i, (first, last) in enumerate(ids.tolist())]

    def __len__(self) -> int:
        return len(self._spans)

    def key(self, index: int) -> str:
        """As "play_0" or "lang_12"."""
        return self._spans[index].key

    def episode(self, index: int) -> Episode:
        """Episode `index`: the numbers of its frames read, the pictures not."""
        span = self._spans[index]
        if span.last < span.first:
            raise BadEpisodeError(span.key, "empty", f"it runs from frame {span.first} to {span.last}")
        columns, cameras = self._columns(span)
        state = np.concatenate([columns["robot_obs"], columns["scene_obs"]], axis=1)
        check_range(state, -_FARTHEST, _FARTHEST, "robot_obs and scene_obs (m, rad)", span.key)
        check_range(columns["rel_actions"], -1.001, 1.001, "rel_actions", span.key)
        episode = Episode(
            key=span.key,
            instruction=span.annotation.text if span.annotation else "",
            subtasks=[] if span.annotation else self._subtasks(span),
            fps=FPS,
            robot_type=self.robot_type,
            numerics=CALVIN_SCENE.numerics({"observation.state": state, "action": columns["rel_actions"]}),
            cameras=cameras,
            read_frames=partial(self.frames, index),
            info={"first_frame": span.first, "task": span.annotation.task if span.annotation else ""},
            robot=CALVIN_SCENE,
        )
        check_episode(episode)
        return episode

    def _columns(self, span: _Span) -> tuple[dict[str, np.ndarray], list[str]]:
        """Numbers float64 [T, width] of a span by name, and the cameras its first frame has."""
        rows: dict[str, list[np.ndarray]] = {name: [] for name in _WIDTHS}
        cameras: list[str] = []
        for number in range(span.first, span.last + 1):
            with _Frame(self._file(number, span.key), span.key) as frame:
                if number == span.first:
                    cameras = [name for name, stored in _IMAGES.items() if stored in frame.names]
                for name, width in _WIDTHS.items():
                    rows[name].append(frame.numbers(name, width))
        return {name: np.array(values) for name, values in rows.items()}, cameras

    def _subtasks(self, span: _Span) -> list[tuple[int, str]]:
        """Annotated spans within a recording; '' begins where one ends and no other has begun."""
        inside = sorted(
            (one.first, one.last, one.text)
            for one in self._annotations
            if span.first <= one.first and one.last <= span.last
        )
        marks: dict[int, str] = {}
        for first, last, text in inside:
            marks = {frame: words for frame, words in marks.items() if frame <= first - span.first}
            marks[first - span.first] = text
            if last < span.last:
                marks[last + 1 - span.first] = ""
        return sorted(marks.items())

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        """Pictures of episode `index`: uint8 [n, 200, 200, 3], wrist [n, 84, 84, 3]."""
        span, length = self._spans[index], self._spans[index].last - self._spans[index].first + 1
        wanted = np.asarray(numbers, dtype=np.int64)
        if camera not in _IMAGES:
            raise BadEpisodeError(span.key, "video", f"there is no camera {camera!r}")
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < length:
            raise BadEpisodeError(span.key, "video", f"it has {length} frames, {wanted.max()} was asked")
        pictures = []
        for number in wanted.tolist():
            with _Frame(self._file(span.first + number, span.key), span.key) as frame:
                pictures.append(frame.picture(_IMAGES[camera]))
        if len({picture.shape for picture in pictures}) > 1:
            raise BadEpisodeError(span.key, "video", f"{camera}'s pictures differ in size")
        return np.array(pictures, dtype=np.uint8)

    def _file(self, number: int, key: str) -> Path:
        path = self._folder / f"episode_{number:07d}.npz"
        self._opened.check(path, key)
        return path

    @property
    def fingerprint(self) -> str:
        """From the episodes and their words; files of single frames are too many to be asked for."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"calvin 1 {self._split}".encode())
        for span in self._spans:
            digest.update(f"{span.key} {span.first} {span.last}\n".encode())
        for one in self._annotations:
            digest.update(f"{one}\n".encode())
        return digest.hexdigest()[:16]


class _Frame:
    """One frame's file, for reading; whatever is wrong with it becomes BadEpisodeError."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        with ExitStack() as opened:
            try:
                # Opened here: numpy leaves a file open that it cannot read.
                stored = np.load(opened.enter_context(path.open("rb")), allow_pickle=False)
            except Exception as error:  # noqa: BLE001 - on damaged bytes zip and numpy raise nearly every kind there is
                raise self._bad(error) from error
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise BadEpisodeError(key, "unreadable", f"{path.name} is no .npz")
            self._stored = opened.enter_context(stored)
            self.names: Sequence[str] = stored.files
            self._opened = opened.pop_all()

    def __enter__(self) -> "_Frame":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _bad(self, error: Exception) -> BadEpisodeError:
        words = f"{self._path.name} cannot be read: {type(error).__name__}: {error}"
        return BadEpisodeError(self._key, "unreadable", words)

    def _array(self, name: str) -> np.ndarray:
        if name not in self.names:
            raise BadEpisodeError(self._key, "column", f"{self._path.name} has no {name}: it has {list(self.names)}")
        try:
            assert self._stored.zip is not None  # it is open
            if self._stored.zip.getinfo(f"{name}.npy").file_size > _MAX_FRAME_BYTES:
                raise ValueError(f"{name} claims more than {_MAX_FRAME_BYTES >> 20} MiB")
            return self._stored[name]
        except Exception as error:  # noqa: BLE001 - as above
            raise self._bad(error) from error

    def numbers(self, name: str, width: int) -> np.ndarray:
        """One row of numbers, float64 [width]."""
        values = self._array(name)
        if values.shape != (width,) or values.dtype.kind not in "fiu":
            words = f"{self._path.name}: {name} is {values.dtype} {values.shape}, expected {width} numbers"
            raise BadEpisodeError(self._key, "column", words)
        return values.astype(np.float64)

    def picture(self, name: str) -> np.ndarray:
        """One picture, uint8 [H, W, 3]."""
        values = self._array(name)
        if values.ndim != 3 or values.shape[2] != 3 or values.dtype != np.uint8:
            words = f"{self._path.name}: {name} is {values.dtype} {values.shape}, expected uint8 (height, width, 3)"
            raise BadEpisodeError(self._key, "column", words)
        return values


def _split_folder(root: Path, split: str) -> Path:
    """The folder of a split: the root itself, or one below."""
    there = [name for name in SPLITS if (root / name / _IDS).is_file()]
    if (root / _IDS).is_file():
        if split not in ("", root.name):
            raise ValueError(f"split is {split!r}, but {root} is one split itself: leave it out")
        return root
    if split and split not in there:
        raise ValueError(f"split is {split!r}, but {root} has {there or 'none'}")
    if not there:
        raise ValueError(
            f"{root} is no CALVIN data set: expected {_IDS} and episode_0000000.npz in it, or in "
            f"{' or '.join(SPLITS)}; published are task_D_D, task_ABC_D, task_ABCD_D and "
            "calvin_debug_dataset (github.com/mees/calvin)"
        )
    if not split and len(there) > 1:
        raise ValueError(f"split: {root} has {' and '.join(there)}; name one of them")
    return root / (split or there[0])
