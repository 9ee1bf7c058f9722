"""The numerics and texts of a whole data set as flat memory maps: what a mixture draws from, whatever the format.

A row is one frame; episode e owns the rows first_row[e] .. first_row[e + 1] - 1. Opening costs the same for ten
episodes and for a million: nothing is read until it is asked for.

    meta.json            counts, cameras, robot type, fingerprint, the unified dimensions that are stored
    texts.json           every instruction and sub-task text once; "" is number 0
    defects.json         the episodes left out, with reasons
    first_row.npy        int64 [E + 1]
    fps.npy              float32 [E]
    task.npy             int32 [E]           number of the instruction in texts
    source_episode.npy   int64 [E]           the episode's number in the reader
    success.npy          int8 [E]            1 it was a success, 0 it was not, -1 the data set does not say
    span_of.npy          int64 [E + 1]       the episode's sub-task spans, as rows of
    span_start.npy       int32 [S]             the frame of the episode where the span begins
    span_text.npy        int32 [S]             its text
    state.npy            float32 [N, d]      d stored dimensions of 46; state_mask.npy bool [N, d]
    actions.npy          float32 [N, a]      a stored dimensions of 44; action_mask.npy bool [N, a]
    camera_rotation.npy  float32 [N, 9]      only with a moving camera: camera-to-world, row by row
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode
from data_mixtures.spaces.embodiments import EMBODIMENTS, Embodiment, embodiment_from
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM, Numerics, NumericSpace
from data_mixtures.storage.array_store import open_array
from data_mixtures.storage.npy_stream import NpyStream

VERSION = 1
_BLOCK = 1 << 16  # rows copied at a time when parts are joined


@dataclass(frozen=True)
class IndexMeta:
    """What an index says of itself; see the attributes of `Index`."""

    version: int
    name: str
    num_rows: int
    num_episodes: int
    cameras: list[str]
    robot_type: str
    fingerprint: str
    state_dims: list[int]
    action_dims: list[int]
    robot: dict[str, object] | None = None  # its description, as `embodiment_from` reads it


class IndexWriter:
    """Collects episodes into an index; the folder is the caller's to make aside and to rename.

    Every unified dimension is kept while writing; `finish` drops those that no episode has.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._texts: dict[str, int] = {"": 0}
        self._first_row, self._span_of = [0], [0]
        self._fps: list[float] = []
        self._task: list[int] = []
        self._source_episode: list[int] = []
        self._success: list[int] = []
        self._spans: list[tuple[int, int]] = []
        self._camera: NpyStream | None = None
        self._robot: Embodiment | None = None
        self._numerics = {
            "state": NpyStream(folder / "state.npy", "float32", STATE_DIM),
            "state_mask": NpyStream(folder / "state_mask.npy", "bool", STATE_DIM),
            "actions": NpyStream(folder / "actions.npy", "float32", ACTION_DIM),
            "action_mask": NpyStream(folder / "action_mask.npy", "bool", ACTION_DIM),
        }

    def check(self, episode: Episode) -> None:
        """Raise BadEpisodeError unless the episode has a moving camera's rotation just as the first one has."""
        if self._fps and (self._camera is None) != (episode.info.get("camera_rotation") is None):
            raise BadEpisodeError(episode.key, "column", "of camera_rotation, all episodes have it, or none does")

    def add(self, episode: Episode, source_episode: int) -> None:
        """Append an episode that `check_episode` and `check` find sound; `source_episode` is its number in the reader.

        Raises:
            BadEpisodeError: as `check` does; nothing was added.
        """
        self.check(episode)
        self._robot = episode.robot  # the reader's: the same for all of its episodes
        for name, stream in self._numerics.items():
            stream.append(getattr(episode.numerics, name))
        self._add_camera(episode)
        self._first_row.append(self._first_row[-1] + len(episode))
        self._fps.append(episode.fps)
        self._task.append(self._number(episode.instruction))
        self._source_episode.append(source_episode)
        success = episode.info.get("success")
        self._success.append(int(success) if isinstance(success, bool | np.bool_) else -1)
        self._spans += [(start, self._number(text)) for start, text in episode.subtasks]
        self._span_of.append(len(self._spans))

    def finish(
        self, *, name: str, cameras: Sequence[str], robot_type: str, fingerprint: str, quarantined: Sequence[Defect]
    ) -> None:
        """Write everything; the folder is an index afterwards."""
        dims = {part: self._numerics[part].columns_with_any() for part in ("state_mask", "action_mask")}
        for part, stream in self._numerics.items():
            stream.close(keep=dims["state_mask" if part.startswith("state") else "action_mask"])
        if self._camera is not None:
            self._camera.close()
        spans = np.array(self._spans, dtype=np.int32).reshape(-1, 2)
        arrays = {
            "first_row": np.array(self._first_row, dtype=np.int64),
            "fps": np.array(self._fps, dtype=np.float32),
            "task": np.array(self._task, dtype=np.int32),
            "source_episode": np.array(self._source_episode, dtype=np.int64),
            "success": np.array(self._success, dtype=np.int8),
            "span_of": np.array(self._span_of, dtype=np.int64),
            "span_start": spans[:, 0],
            "span_text": spans[:, 1],
        }
        for array, values in arrays.items():
            np.save(self.folder / f"{array}.npy", values)
        meta = IndexMeta(
            version=VERSION,
            name=name,
            num_rows=self._first_row[-1],
            num_episodes=len(self._fps),
            cameras=list(cameras),
            robot_type=robot_type,
            fingerprint=fingerprint,
            state_dims=dims["state_mask"],
            action_dims=dims["action_mask"],
            robot=None if self._robot is None else asdict(self._robot),
        )
        _write_words(self.folder, meta, list(self._texts), quarantined)

    def close(self) -> None:
        """Let go of the files; what is not finished is no index."""
        for stream in (*self._numerics.values(), *([self._camera] if self._camera else [])):
            stream.abandon()

    def __enter__(self) -> "IndexWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add_camera(self, episode: Episode) -> None:
        rotation = episode.info.get("camera_rotation")
        if not isinstance(rotation, np.ndarray):
            return
        if self._camera is None:
            self._camera = NpyStream(self.folder / "camera_rotation.npy", "float32", 9)
        self._camera.append(rotation.astype(np.float32).reshape(len(episode), 9))

    def _number(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))


class Index:
    """An index folder, opened.

    Attributes:
        first_row: int64 [E + 1].
        fps: frames a second, float32 [E].
        task: number of each episode's instruction in `texts`, int32 [E].
        source_episode: each episode's number in the reader it came from, int64 [E].
        success: 1, 0, or -1 where the data set does not say, int8 [E].
        texts: instructions and sub-task texts; "" is number 0.
        quarantined: what was left out, and why.
        meta: counts, cameras, robot type, fingerprint.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        stored = json.loads((self.folder / "meta.json").read_text())
        if stored["version"] != VERSION:
            raise ValueError(
                f"{self.folder} is an index of version {stored['version']}, this code reads {VERSION}: rebuild it"
            )
        self.meta = IndexMeta(**stored)
        self.first_row = self._array("first_row")
        self.fps = self._array("fps")
        self.task = self._array("task")
        self.source_episode = self._array("source_episode")
        self.success = self._array("success")

    @property
    def num_rows(self) -> int:
        """Frames of all episodes."""
        return self.meta.num_rows

    @property
    def num_episodes(self) -> int:
        """Episodes that can be used."""
        return self.meta.num_episodes

    @cached_property
    def robot(self) -> Embodiment | None:
        """How the robot's own columns map into the numerics; None where nothing describes them."""
        if self.meta.robot is not None:
            return embodiment_from(self.meta.robot)
        return EMBODIMENTS.get(self.meta.robot_type)

    @property
    def space(self) -> NumericSpace:
        """What the dimensions of the numerics are."""
        return "unified" if self.robot is None else self.robot.space

    @cached_property
    def texts(self) -> list[str]:
        """Instructions and sub-task texts, each once."""
        return json.loads((self.folder / "texts.json").read_text())

    @cached_property
    def quarantined(self) -> list[Defect]:
        """What was left out."""
        return [Defect(**defect) for defect in json.loads((self.folder / "defects.json").read_text())]

    def episode_of(self, rows: np.ndarray) -> np.ndarray:
        """The episodes that rows [...] lie in, int64."""
        return np.searchsorted(self.first_row, rows, side="right") - 1

    def last_row(self, rows: np.ndarray) -> np.ndarray:
        """The last row of the episode of each of rows [...]."""
        return self.first_row[self.episode_of(rows) + 1] - 1

    def numerics(self, rows: np.ndarray) -> Numerics:
        """States [..., 46] and actions [..., 44] of rows [...], with masks."""
        meta = self.meta
        return Numerics(
            state=_spread(self._state[rows], meta.state_dims, STATE_DIM),
            state_mask=_spread(self._state_mask[rows], meta.state_dims, STATE_DIM),
            actions=_spread(self._actions[rows], meta.action_dims, ACTION_DIM),
            action_mask=_spread(self._action_mask[rows], meta.action_dims, ACTION_DIM),
        )

    def states(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States of rows [...]: float32 [..., 46] and their mask."""
        dims = self.meta.state_dims
        return _spread(self._state[rows], dims, STATE_DIM), _spread(self._state_mask[rows], dims, STATE_DIM)

    def actions(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Actions of rows [...]: float32 [..., 44] and their mask."""
        dims = self.meta.action_dims
        return _spread(self._actions[rows], dims, ACTION_DIM), _spread(self._action_mask[rows], dims, ACTION_DIM)

    def camera_rotation(self, rows: np.ndarray) -> np.ndarray | None:
        """Camera-to-world rotations of rows [...]: float32 [..., 3, 3]; None where the camera stands still."""
        if not (self.folder / "camera_rotation.npy").exists():
            return None
        return self._camera_rotation[rows].reshape(*np.shape(rows), 3, 3)

    def instructions(self, rows: np.ndarray) -> list[str]:
        """The instruction at each of rows [n]."""
        return [self.texts[number] for number in self.task[self.episode_of(rows)].tolist()]

    def subtasks(self, rows: np.ndarray) -> list[str]:
        """The sub-task text at each of rows [n]; "" where there is none."""
        episodes = self.episode_of(rows)
        frames = rows - self.first_row[episodes]
        return [self._subtask(int(e), int(f)) for e, f in zip(episodes, frames, strict=True)]

    def subtask_spans(self, episode: int) -> list[tuple[int, str]]:
        """An episode's sub-tasks as (first frame, text)."""
        spans = slice(*self._span_of[episode : episode + 2])
        starts, numbers = self._span_start[spans].tolist(), self._span_text[spans].tolist()
        return [(start, self.texts[number]) for start, number in zip(starts, numbers, strict=True)]

    @cached_property
    def subtask_texts(self) -> list[str]:
        """Every sub-task text that occurs, sorted, without ""."""
        return sorted({self.texts[number] for number in np.unique(self._span_text).tolist()} - {""})

    def _subtask(self, episode: int, frame: int) -> str:
        first, stop = self._span_of[episode : episode + 2].tolist()
        span = first + int(np.searchsorted(self._span_start[first:stop], frame, side="right")) - 1
        return self.texts[int(self._span_text[span])] if span >= first else ""

    def _array(self, name: str) -> np.ndarray:
        return open_array(self.folder / f"{name}.npy")

    # Opened when first used: statistics need no spans, training on video alone no actions.
    _state = cached_property(lambda self: self._array("state"))
    _state_mask = cached_property(lambda self: self._array("state_mask"))
    _actions = cached_property(lambda self: self._array("actions"))
    _action_mask = cached_property(lambda self: self._array("action_mask"))
    _camera_rotation = cached_property(lambda self: self._array("camera_rotation"))
    _span_of = cached_property(lambda self: self._array("span_of"))
    _span_start = cached_property(lambda self: self._array("span_start"))
    _span_text = cached_property(lambda self: self._array("span_text"))


def merge_indices(parts: Sequence[Path], target: Path) -> None:
    """Join indices of one data set, in order, into a new one in the folder `target`.

    Args:
        parts: at least one index folder; name, cameras, robot type and fingerprint are the first one's.
        target: the folder to write; made if need be.
    """
    target.mkdir(parents=True, exist_ok=True)
    indices = [Index(part) for part in parts]
    texts: dict[str, int] = {"": 0}
    numbers = [np.array([texts.setdefault(t, len(texts)) for t in index.texts], dtype=np.int32) for index in indices]
    rows = np.cumsum([0, *(index.num_rows for index in indices)])
    spans = np.cumsum([0, *(len(index._span_start) for index in indices)])
    joined = {
        "first_row": [i.first_row[:-1] + base for i, base in zip(indices, rows[:-1], strict=True)] + [rows[-1:]],
        "span_of": [i._span_of[:-1] + base for i, base in zip(indices, spans[:-1], strict=True)] + [spans[-1:]],
        "fps": [i.fps for i in indices],
        "source_episode": [i.source_episode for i in indices],
        "success": [i.success for i in indices],
        "span_start": [i._span_start for i in indices],
        "task": [table[i.task] for table, i in zip(numbers, indices, strict=True)],
        "span_text": [table[i._span_text] for table, i in zip(numbers, indices, strict=True)],
    }
    for name, pieces in joined.items():
        np.save(target / f"{name}.npy", np.concatenate(pieces))
    metas = [index.meta for index in indices]
    state_dims = sorted({dim for meta in metas for dim in meta.state_dims})
    action_dims = sorted({dim for meta in metas for dim in meta.action_dims})
    _join_numerics(indices, target, state_dims, action_dims)
    _join_cameras(indices, target)
    meta = replace(
        metas[0],
        num_rows=int(rows[-1]),
        num_episodes=sum(m.num_episodes for m in metas),
        state_dims=state_dims,
        action_dims=action_dims,
    )
    _write_words(target, meta, list(texts), [defect for index in indices for defect in index.quarantined])


def _join_numerics(indices: Sequence[Index], target: Path, state_dims: list[int], action_dims: list[int]) -> None:
    streams = {
        "state": NpyStream(target / "state.npy", "float32", len(state_dims)),
        "state_mask": NpyStream(target / "state_mask.npy", "bool", len(state_dims)),
        "actions": NpyStream(target / "actions.npy", "float32", len(action_dims)),
        "action_mask": NpyStream(target / "action_mask.npy", "bool", len(action_dims)),
    }
    for index in indices:
        for first in range(0, index.num_rows, _BLOCK):
            numerics = index.numerics(np.arange(first, min(first + _BLOCK, index.num_rows)))
            for name, stream in streams.items():
                stream.append(getattr(numerics, name)[:, state_dims if name.startswith("state") else action_dims])
    for stream in streams.values():
        stream.close()


def _join_cameras(indices: Sequence[Index], target: Path) -> None:
    have = [(index.folder / "camera_rotation.npy").exists() for index in indices]
    if not any(have):
        return
    if not all(have):
        raise ValueError(f"{indices[0].meta.name}: camera_rotation is given for some parts of the data set only")
    stream = NpyStream(target / "camera_rotation.npy", "float32", 9)
    for index in indices:
        stream.append(index._camera_rotation)
    stream.close()


def _spread(stored: np.ndarray, dims: list[int], size: int) -> np.ndarray:
    """Stored columns [..., d] at their places among `size` unified dimensions; 0 or False elsewhere."""
    unified = np.zeros((*stored.shape[:-1], size), dtype=stored.dtype)
    unified[..., dims] = stored
    return unified


def _write_words(folder: Path, meta: IndexMeta, texts: list[str], quarantined: Sequence[Defect]) -> None:
    defects = [asdict(defect) for defect in quarantined]
    # meta last: it is what makes the folder an index
    for name, value in (("texts", texts), ("defects", defects), ("meta", asdict(meta))):
        (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False, indent=1))
