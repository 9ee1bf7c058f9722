"""Single frames of a video by number: exact, from the keyframe before, with a few files kept open.

Frame n of a file is the n-th in order of presentation, whatever its time stamps and B-frames. Times come from the
container's index where it has a regular one (mp4), else from a pass over the packets, which decodes nothing. A file
whose packets carry no time of presentation (avi) is counted through from its start.

Opening a file costs 0.9 ms, so each thread keeps a few open; a forked process starts with none.
"""

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from data_mixtures.defects import BadEpisodeError
from data_mixtures.video.encoding import rgb_pixels
from data_mixtures.video.opened_files import signature

OPEN_FILES = 16
# A picture larger than this is damage, not data: it would only be allocated to fail.
MAX_PIXELS = 8192 * 8192
# Errors in the stream are raised, not painted over with what the neighbours show.
_DECODER_OPTIONS = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
# What libav and PyAV raise on damaged files (FFmpegError is an OSError or a ValueError, by its code).
_DAMAGE = (av.FFmpegError, OSError, ValueError, IndexError, OverflowError, MemoryError, AttributeError, TypeError)


@dataclass(frozen=True)
class FrameTimes:
    """When each frame is shown, and where decoding can start.

    Attributes:
        shown: int64 [n], rising, in the stream's time base; empty where the packets do not say.
        num_frames: n, the frames whose bytes are all in the file.
        keyframes: decoding times at which decoding can start, rising, in the stream's time base.
        first_shown: for each of them, a frame number its own cannot be below.
    """

    shown: np.ndarray
    num_frames: int
    keyframes: list[int]
    first_shown: list[int]


class VideoFile:
    """One opened video.

    Attributes:
        num_frames: frames it holds, by its container.
        height, width: pixels, as its stream says (the decoder may know better).
        fps: its mean rate.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        self.signature = signature(self.path)
        self._container = av.open(self.path)
        if not self._container.streams.video:
            raise ValueError("it holds no video")
        self._stream: VideoStream = self._container.streams.video[0]
        context = self._stream.codec_context
        context.thread_count, context.options = 1, _DECODER_OPTIONS  # no threads: none is lost in a fork
        self.height, self.width = context.height, context.width
        regular = _index_times(self._stream, self.signature[0]) if _is_mp4(self._container) else None
        self._times = regular or _packet_times(self._container, self._stream)
        self.num_frames = self._times.num_frames
        self.fps = self._rate()
        self._decoded: Iterator[tuple[int, VideoFrame]] | None = None
        self._next, self._wanted = 0, 0  # the frame the decoder gives next; the one it is asked for

    def frames(self, numbers: np.ndarray) -> np.ndarray:
        """Frames with these numbers, int64 [n] in any order -> uint8 [n, H, W, 3], RGB.

        Raises:
            ValueError: a number is not in the file, or the stream is damaged.
        """
        wanted, places = np.unique(numbers, return_inverse=True)
        if len(wanted) == 0:
            return np.empty((0, self.height, self.width, 3), dtype=np.uint8)
        if wanted[0] < 0 or wanted[-1] >= self.num_frames:
            raise ValueError(f"frames {wanted[0]}..{wanted[-1]} were asked for, it holds {self.num_frames}")
        try:
            pictures = self._decode(wanted.tolist())
        except _DAMAGE:
            self._decoded = None  # the decoder's state is unknown: the next call starts at a keyframe
            raise
        return pictures[places.reshape(-1)]

    @property
    def seconds(self) -> np.ndarray:
        """When each frame is shown, counted from the first: float64 [n], s."""
        shown = self._times.shown[: self.num_frames]
        if not len(shown) or not self._stream.time_base:
            return np.arange(self.num_frames) / (self.fps or 1.0)
        return (shown - shown[0]) * float(self._stream.time_base)

    def number_at(self, seconds: float) -> int:
        """The frame shown nearest to `seconds` after the first one; what is past the end is no frame of this file."""
        if not 0 <= seconds < 1e9:
            raise ValueError(f"no frame is shown at {seconds} s")
        counted, times = round(seconds * self.fps), self._times
        if not self._stream.time_base or counted >= len(times.shown):
            return counted
        wanted = int(times.shown[0]) + float(seconds / self._stream.time_base)
        after = min(int(np.searchsorted(times.shown, wanted)), len(times.shown) - 1)
        return min((after, max(after - 1, 0)), key=lambda number: abs(int(times.shown[number]) - wanted))

    def close(self) -> None:
        """Close the file."""
        self._decoded = None
        self._container.close()

    def _rate(self) -> float:
        """The mean rate of the frames' times; the nominal one where that is the same but for rounding."""
        shown = self._times.shown
        nominal = float(self._stream.average_rate or 0)
        if len(shown) < 2 or not self._stream.time_base:
            return nominal
        mean = (len(shown) - 1) / float((shown[-1] - shown[0]) * self._stream.time_base)
        return nominal if abs(nominal / mean - 1) < 1e-3 else mean

    def _decode(self, wanted: list[int]) -> np.ndarray:
        pictures: np.ndarray | None = None
        for place, number in enumerate(wanted):
            frame = self._frame(number)
            pixels = rgb_pixels(frame)
            if pictures is None:
                pictures = np.empty((len(wanted), *pixels.shape), dtype=np.uint8)
            pictures[place] = pixels
        assert pictures is not None
        return pictures

    def _frame(self, number: int) -> VideoFrame:
        times = self._times
        start = max(bisect_right(times.first_shown, number) - 1, 0)
        ahead = self._decoded is not None and self._next <= number
        nearer = start < len(times.first_shown) and times.first_shown[start] > self._next
        found = self._advance(number) if ahead and not nearer else None
        return found if found is not None else self._frame_from(start, number)

    def _frame_from(self, start: int, number: int) -> VideoFrame:
        """Frame `number` decoded from keyframe `start`, or an earlier one where that is shown too late."""
        for keyframe in range(start, -1, -1):  # nothing in the loop where the index names no keyframe
            self._decoded = self._decode_from(keyframe)
            found = self._advance(number)
            if found is not None:
                return found
        self._decoded = None
        raise ValueError(f"frame {number} of {self.num_frames} does not decode")

    def _advance(self, number: int) -> VideoFrame | None:
        """The frame with this number, or None once a later one shows that it is not coming."""
        self._wanted = number
        for got, frame in self._decoded or ():
            self._next = got + 1
            if got == number:
                return frame
            if got > number:
                break
        return None

    def _decode_from(self, keyframe: int) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (number, frame) from a keyframe on, leaving out frames before the wanted ones where that is cheap."""
        times = self._times
        if not len(times.shown):
            yield from self._count_from_start()
            return
        self._container.seek(times.keyframes[keyframe], stream=self._stream, backward=True)
        context = self._stream.codec_context
        for packet in self._container.demux(self._stream):
            # Nothing depends on a frame that no other refers to: before the first wanted one, it need not be decoded.
            early = packet.pts is not None and packet.pts < times.shown[self._wanted]
            context.skip_frame = "NONREF" if early else "DEFAULT"
            for frame in packet.decode():
                yield self._number_of(frame), frame  # pyright: ignore[reportReturnType]

    def _number_of(self, frame: VideoFrame) -> int:
        times = self._times
        number = int(np.searchsorted(times.shown, frame.pts)) if frame.pts is not None else len(times.shown)
        if number == len(times.shown) or times.shown[number] != frame.pts:
            raise ValueError(f"a frame is shown at {frame.pts}, which its index does not know")
        return number

    def _count_from_start(self) -> Iterator[tuple[int, VideoFrame]]:
        self._container.seek(0, stream=self._stream)
        yield from enumerate(self._container.decode(self._stream))


def _is_mp4(container: InputContainer) -> bool:
    return "mp4" in container.format.name.split(",")


def _index_times(stream: VideoStream, file_bytes: int) -> FrameTimes | None:
    """The frames' times from an mp4's sample table, or None where it is not regular enough to tell."""
    entries = [(entry.timestamp, entry.pos + entry.size, entry.flags) for entry in stream.index_entries]
    if len(entries) < 2 or stream.start_time is None:
        return None
    table = np.array(entries, dtype=np.int64)
    steps = np.diff(table[:, 0])
    if (steps != steps[0]).any() or steps[0] <= 0 or (table[:, 2] & ~1).any():  # a flag but "keyframe": cut by edits
        return None
    cut = np.flatnonzero(table[:, 1] > file_bytes)
    starts = np.flatnonzero(table[:, 2] & 1)
    # In a regular stream the n-th packet to decode is a keyframe shown n-th, or later where pictures before it follow.
    return FrameTimes(
        shown=stream.start_time + steps[0] * np.arange(len(table)),
        num_frames=int(cut[0]) if len(cut) else len(table),
        keyframes=table[starts, 0].tolist(),
        first_shown=starts.tolist(),
    )


def _packet_times(container: InputContainer, stream: VideoStream) -> FrameTimes:
    """The frames' times from every packet's header."""
    packets = [(packet.pts, packet.dts, packet.is_keyframe) for packet in container.demux(stream) if packet.size]
    placed = [(pts, pts if dts is None else dts, is_keyframe) for pts, dts, is_keyframe in packets if pts is not None]
    shown = np.unique(np.array([pts for pts, _, _ in placed], dtype=np.int64))
    if len(shown) < len(packets):
        return FrameTimes(np.empty(0, dtype=np.int64), len(packets), [0], [0])
    keyframes = sorted((dts, pts) for pts, dts, is_keyframe in placed if is_keyframe)
    return FrameTimes(
        shown=shown,
        num_frames=len(shown),
        keyframes=[time for time, _ in keyframes],
        first_shown=np.searchsorted(shown, np.array([pts for _, pts in keyframes], dtype=np.int64)).tolist(),
    )


class _OpenFiles(threading.local):
    def __init__(self) -> None:
        self.by_path: OrderedDict[str, VideoFile] = OrderedDict()


_open_files = _OpenFiles()


def _forget() -> None:
    _open_files.by_path = OrderedDict()


os.register_at_fork(after_in_child=_forget)


def open_video(path: Path | str, key: str) -> VideoFile:
    """The file at `path`, opened now or by an earlier call.

    Raises:
        BadEpisodeError: for episode `key`, if it cannot be opened, or is not the file that was opened before.
    """
    name, opened = str(path), _open_files.by_path
    try:
        if name in opened and opened[name].signature == signature(name):
            opened.move_to_end(name)
            return opened[name]
        video = VideoFile(name)
    except _DAMAGE as error:
        raise BadEpisodeError(key, "video", f"{name} does not open: {_words(error)}") from error
    if name in opened:
        opened.pop(name).close()
    opened[name] = video
    while len(opened) > OPEN_FILES:
        opened.popitem(last=False)[1].close()
    return video


def check_video(path: Path | str, key: str, num_frames: int) -> VideoFile:
    """Open a video that must hold at least `num_frames` frames; BadEpisodeError if it does not. Nothing is decoded."""
    video = open_video(path, key)
    if video.num_frames < num_frames:
        raise BadEpisodeError(key, "video", f"{path} holds {video.num_frames} frames, {num_frames} are needed")
    return video


def video_frames(path: Path | str, key: str, numbers: np.ndarray) -> np.ndarray:
    """Frames of a video by number, int64 [n] in any order -> uint8 [n, H, W, 3], RGB; BadEpisodeError if damaged."""
    video = open_video(path, key)
    try:
        return video.frames(numbers)
    except _DAMAGE as error:
        raise BadEpisodeError(key, "video", f"{path}: {_words(error)}") from error


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
