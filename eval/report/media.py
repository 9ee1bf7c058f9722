"""Pictures and videos put into the page itself, as base64."""

import base64
import io
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from eval.report.markup import fill
from eval.report.results import Rollout

_LARGEST_SIDE = 384  # pixels; a published-size frame is shrunk to this, which is more than the page shows
_TYPES = {".mp4": "video/mp4", ".webm": "video/webm"}


def picture(frame: np.ndarray, label: str) -> Markup:
    """An `<img>` of a uint8 [H, W, 3] (or [H, W]) frame; small frames are enlarged without smoothing by the page."""
    image = Image.fromarray(np.ascontiguousarray(frame, dtype=np.uint8))
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return fill(
        '<img alt="{a}" width="{w}" height="{h}" src="data:image/png;base64,{d}">',
        a=label,
        w=image.width,
        h=image.height,
        d=base64.b64encode(buffer.getvalue()).decode(),
    )


def video(path: Path, label: str) -> Markup:
    """A `<video>` holding the file; the page's script starts it when it comes into view."""
    return fill(
        '<video controls muted loop playsinline preload="auto" aria-label="{a}" src="data:{t};base64,{d}"></video>',
        a=label,
        t=_TYPES[path.suffix.lower()],
        d=base64.b64encode(path.read_bytes()).decode(),
    )


def playable(rollouts: list[Rollout]) -> list[Rollout]:
    """The rollouts whose video is there and of a type browsers play."""
    return [r for r in rollouts if is_playable(r.video)]


def is_playable(path: Path | None) -> bool:
    """Whether a video is there and of a type browsers play."""
    return path is not None and path.suffix.lower() in _TYPES and path.is_file()


def embedded_size(path: Path) -> int:
    """Characters `video` takes of a page, its caption included."""
    return (path.stat().st_size + 2) // 3 * 4 + 512


def spread(rollouts: list[Rollout], count: int) -> list[Rollout]:
    """The first `count` of these, going round the tasks so that they are not all of one; no other selection."""
    queues: dict[tuple[str, str], list[Rollout]] = {}
    for rollout in sorted(rollouts, key=lambda r: (r.start, r.train_seed or 0)):
        queues.setdefault((rollout.suite, rollout.task), []).append(rollout)
    # Counting each task's own order first makes the round: all firsts, then all seconds.
    ranked = [(rank, r) for queue in queues.values() for rank, r in enumerate(queue)]
    return [r for _, r in sorted(ranked, key=lambda pair: pair[0])][:count]


def within(budget: int, rollouts: list[Rollout]) -> set[Rollout]:
    """The rollouts, in order, whose videos together fit `budget` characters of base64."""
    chosen: set[Rollout] = set()
    for rollout in rollouts:
        assert rollout.video is not None
        cost = embedded_size(rollout.video)
        if cost <= budget:
            chosen.add(rollout)
            budget -= cost
    return chosen
