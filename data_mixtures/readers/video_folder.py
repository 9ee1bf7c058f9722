"""Reads a folder of videos, captioned or not, as action-free data: pictures and texts, every number masked."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode, check_episode
from data_mixtures.readers.captions import Caption, captions_file, read_captions
from data_mixtures.spaces.unified import no_numerics
from data_mixtures.video.files import check_video, video_frames
from data_mixtures.video.opened_files import OpenedFiles

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v")
CAMERA = "primary"
_LOWEST_FPS, _HIGHEST_FPS = 0.1, 1000.0


def is_video_folder(root: Path) -> bool:
    """Whether the folder holds captions or, at its top or one level below, videos."""
    if not root.is_dir():
        return False
    places = [root, *(path for path in root.iterdir() if path.is_dir())]
    return captions_file(root) is not None or any(
        path.suffix.lower() in VIDEO_SUFFIXES for place in places for path in place.iterdir()
    )


class VideoFolderReader:
    """Every video below a folder is an episode of one camera, "primary"; see `Reader`.

    Frames are on a constant rate: frame t is the picture on screen t / fps seconds after the first one, so pictures are
    repeated or left out, never mixed. Without `fps` each video keeps its mean rate: one of constant rate gives its
    frames as they are.

    Args:
        root: the folder; its captions file, if there is one, is described in `captions`.
        fps: the rate every video is resampled onto, Hz.

    Raises:
        ValueError: no video, captions that cannot be read, or an `fps` that is no rate.
    """

    def __init__(self, root: Path | str, fps: float | None = None) -> None:
        self.root, self._folder, self.fps = str(root), Path(root), fps
        if fps is not None and not _LOWEST_FPS <= fps <= _HIGHEST_FPS:
            raise ValueError(f"fps is {fps}: give frames a second, {_LOWEST_FPS} to {_HIGHEST_FPS:g}, or leave it out")
        self.robot_type, self.cameras = "", (CAMERA,)
        paths = sorted(self._folder.rglob("*")) if self._folder.is_dir() else []
        self._paths = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
        if not self._paths:
            raise ValueError(f"no video below {self._folder.resolve()}: looked for {', '.join(VIDEO_SUFFIXES)}")
        self._captions_path = captions_file(self._folder)
        captions = read_captions(self._captions_path) if self._captions_path else {}
        self._captions, lost = self._match(captions)
        self.defects: Sequence[Defect] = [
            Defect(name, "unreadable", f"the captions name {name}, which is not below {self.root}") for name in lost
        ]
        self._opened = OpenedFiles()

    def __len__(self) -> int:
        return len(self._paths)

    def key(self, index: int) -> str:
        """The video's path below the root."""
        return self._paths[index].relative_to(self._folder).as_posix()

    def episode(self, index: int) -> Episode:
        """Video `index`: opened, not decoded."""
        places, fps = self._places(index)
        caption = self._captions.get(index, Caption())
        episode = Episode(
            key=self.key(index),
            instruction=caption.text,
            subtasks=_spans(caption, fps, len(places)),
            fps=fps,
            robot_type=self.robot_type,
            numerics=no_numerics(len(places)),
            cameras=self.cameras,
            read_frames=_Frames(self, index),
        )
        check_episode(episode)
        return episode

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        """Frames of video `index` with these numbers, int64 [n] in any order -> uint8 [n, H, W, 3], RGB."""
        if camera != CAMERA:
            raise ValueError(f"camera {camera!r} does not exist in {self.root}: it has {list(self.cameras)}")
        places, _ = self._places(index)
        numbers = np.asarray(numbers, dtype=np.int64)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(places):
            raise ValueError(f"frames {numbers.min()}..{numbers.max()} of {self.key(index)}: it has {len(places)}")
        return video_frames(self._paths[index], self.key(index), places[numbers])

    @property
    def fingerprint(self) -> str:
        """A name for this content and the way it is read: captions, rate, and every video's name and size."""
        digest = hashlib.sha256(f"{self.fps}".encode())
        digest.update(self._captions_path.read_bytes() if self._captions_path else b"")
        for index, path in enumerate(self._paths):
            digest.update(f"{self.key(index)} {self._opened.size(path)}\n".encode())
        return digest.hexdigest()[:16]

    def _match(self, captions: dict[str, Caption]) -> tuple[dict[int, Caption], list[str]]:
        """The caption of each video, by its path below the root, else by its bare name or stem; and those left over."""
        found, used = {}, set()
        for index, path in enumerate(self._paths):
            for name in (self.key(index), path.name, path.stem):
                if name in captions:
                    found[index] = captions[name]
                    used.add(name)
                    break
        return found, sorted(set(captions) - used)

    def _places(self, index: int) -> tuple[np.ndarray, float]:
        """The file's frame shown at each frame of the episode, int64 [T], and the episode's rate."""
        path, key = self._paths[index], self.key(index)
        self._opened.check(path, key)
        video = check_video(path, key, 1)
        fps = video.fps if self.fps is None else self.fps
        if not _LOWEST_FPS <= video.fps <= _HIGHEST_FPS:
            raise BadEpisodeError(key, "video", f"{path} says it has {video.fps:g} frames a second")
        seconds = video.seconds
        count = max(round((seconds[-1] + 1 / video.fps) * fps), 1)
        # A quarter of a frame is granted to jitter and rounded time stamps, so that a constant rate is left alone.
        times = np.arange(count) / fps + 0.25 / video.fps
        return np.searchsorted(seconds, times, side="right") - 1, fps


class _Frames:
    """`Episode.read_frames` of one video: a class, so that an Episode crosses process borders."""

    def __init__(self, reader: VideoFolderReader, index: int) -> None:
        self.reader, self.index = reader, index

    def __call__(self, camera: str, numbers: np.ndarray) -> np.ndarray:
        return self.reader.frames(self.index, camera, numbers)


def _spans(caption: Caption, fps: float, length: int) -> list[tuple[int, str]]:
    """A caption's sub-tasks as (first frame, text), '' where one ends before the next starts."""
    spans: dict[int, str] = {}
    for start, end, text in caption.subtasks:
        first = round(start * fps)
        if first >= length:
            continue
        spans = {frame: words for frame, words in spans.items() if frame < first} | {first: text}
        if end is not None and round(end * fps) < length:
            spans[max(round(end * fps), first + 1)] = ""
    return sorted(spans.items())
