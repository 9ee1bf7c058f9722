"""What simulators answer, checked before anything believes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.suite import Film, Success, View


class BadReply(ValueError):
    """A reply that no simulator in its right mind gives; its process is not to be trusted further."""


@dataclass(frozen=True)
class Answer:
    """A reply to `reset`, `step` or `film`; parts that were not asked for are None.

    Attributes:
        flags: After each action that was carried out.
        steps: Actions carried out since the reset.
        over: The episode ended; `readings` says what else there is to say of it.
        view: What can be seen now.
        film: The episode's.
    """

    flags: tuple[Success, ...] = ()
    steps: int = 0
    over: bool = False
    readings: Mapping[str, Any] | None = None
    view: View | None = None
    film: Film | None = None


def answer_of(reply: Mapping[str, Any], op: str, look: bool, state_dim: int) -> Answer:
    """The reply to a request of kind `op`.

    Raises:
        BadReply: a part is missing, of another type or shape, or not finite.
    """
    if op == "film":
        return Answer(film=_film(reply))
    if op == "reset":
        return Answer(view=_view(reply, state_dim) if look else None)
    flags, steps, over = _flags(reply), reply.get("steps"), reply.get("over")
    if type(steps) is not int or steps < len(flags) or not isinstance(over, bool):
        raise BadReply(f"{len(flags)} actions were carried out, {steps!r} since the reset, over: {over!r}")
    if over:
        readings = reply.get("readings")
        if not isinstance(readings, dict):
            raise BadReply(f"its readings are a {type(readings).__name__}, not a table")
        return Answer(flags, steps, over, readings)
    return Answer(flags, steps, over, view=_view(reply, state_dim) if look else None)


def _flags(reply: Mapping[str, Any]) -> tuple[Success, ...]:
    now, ever = reply.get("now"), reply.get("ever")
    if not isinstance(now, list) or not isinstance(ever, list) or len(now) != len(ever) or not now:
        raise BadReply(f"its success flags are {now!r} and {ever!r}")
    return tuple(Success(bool(n), bool(e)) for n, e in zip(now, ever, strict=True))


def _view(reply: Mapping[str, Any], state_dim: int) -> View:
    view = reply.get("view")
    if not isinstance(view, dict) or view.keys() != {"images", "state", "instruction"}:
        raise BadReply("it shows nothing")
    state, images, instruction = view["state"], view["images"], view["instruction"]
    if not isinstance(state, np.ndarray) or state.shape != (state_dim,) or not np.isfinite(state).all():
        raise BadReply(f"its state is {state!r}, not {state_dim} finite numbers")
    if not isinstance(images, dict) or not isinstance(instruction, str):
        raise BadReply("its view holds no pictures by camera, or no instruction")
    for name, frame in images.items():
        if not _is_picture(frame, 3):
            raise BadReply(f"its picture {name!r} is not uint8 [H, W, 3]")
    # Copies: arrays off the wire are read-only, which torch refuses to share.
    return View({name: frame.copy() for name, frame in images.items()}, state.astype(np.float32), instruction)


def _film(reply: Mapping[str, Any]) -> Film:
    frames, fps = reply.get("frames"), reply.get("fps")
    if not isinstance(frames, np.ndarray) or not _is_picture(frames, 4) or not isinstance(fps, float) or not fps > 0:
        raise BadReply("its film is not uint8 [T, H, W, 3] with a rate")
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        raise BadReply(f"its film has frames of {list(frames.shape[1:3])} pixels; videos need even sizes")
    return Film(frames, fps)


def _is_picture(frame: Any, dims: int) -> bool:
    good = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == dims
    return good and frame.shape[-1] == 3 and frame.size > 0
