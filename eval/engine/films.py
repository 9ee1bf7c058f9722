"""Small browser-playable films of finished episodes."""

import os
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Unlike a data set's video this one is only watched from start to end, so GOPs are long and quality is modest.
_ENCODER_OPTIONS = {"crf": "24", "preset": "veryfast"}
_CONTAINER_OPTIONS = {"movflags": "+faststart"}


def film_name(key: str, success: bool) -> str:
    """Where the film of a case lies in a run's folder."""
    return f"videos/{re.sub(r'[^A-Za-z0-9._-]+', '-', key)}-{'success' if success else 'failure'}.mp4"


def write_film(path: Path, frames: NDArray[np.uint8], fps: float) -> None:
    """Write RGB uint8 [T, H, W, 3] frames (H and W even) as H.264 in yuv420p; the file appears whole."""
    import av  # libraries of 100 MB, for the runs that film

    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".partial-{path.name}")
    with av.open(str(aside), "w", format="mp4", options=_CONTAINER_OPTIONS) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=_ENCODER_OPTIONS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    os.replace(aside, path)
