"""Small browser-playable videos of finished episodes, drawn afterwards from their snapshots."""

import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from eval.metaworld import DECISION_HZ, CompiledTask, MetaWorldEpisode, Snapshot

# Every second decision is drawn (13 pictures a second, real time): drawing is most of a video's cost.
_STRIDE = 2

# Unlike a data set's video this one is only watched from start to end, so GOPs are long and quality is modest.
_ENCODER_OPTIONS = {"crf": "24", "preset": "veryfast"}
_CONTAINER_OPTIONS = {"movflags": "+faststart"}


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], size: int, fps: float) -> None:
    """Write RGB uint8 [size, size, 3] frames (even size) as H.264 in yuv420p; the file appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".partial-{path.name}")
    with av.open(str(aside), "w", format="mp4", options=_CONTAINER_OPTIONS) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=_ENCODER_OPTIONS)
        stream.width = stream.height = size
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    os.replace(aside, path)


def film(
    path: Path, compiled: CompiledTask, episode: MetaWorldEpisode, snapshots: Sequence[Snapshot], camera: str, size: int
) -> None:
    """Draw a finished episode's snapshots with `camera` at size x size pixels, and write them to `path`."""

    def pictures() -> Iterable[NDArray[np.uint8]]:
        for snapshot in snapshots[::_STRIDE]:
            episode.show(snapshot)
            yield compiled.render(episode, camera, size)

    write_video(path, pictures(), size, DECISION_HZ / _STRIDE)
