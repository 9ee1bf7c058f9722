"""Sub-task spans, cut where the gripper opens or closes and where contact with an object begins or ends."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Opening, 0 closed .. 1 open, above which the gripper is called open. Meta-World's settles at 1 and at .28-.45.
OPEN_ABOVE = 0.7

# Frames without a touch that do not end a contact; Meta-World's experts push with touches up to 5 decisions apart.
MAX_GAP = 5


def subtask_text(part: str, act: str, is_open: bool, in_contact: bool) -> str:
    """The plain sentence for one phase: approach without contact, act with it."""
    gripper = "open" if is_open else "closed"
    return f"{act} with the {gripper} gripper" if in_contact else f"move the {gripper} gripper to the {part}"


def _without_gaps(contact: NDArray[np.bool_], max_gap: int) -> NDArray[np.bool_]:
    """`contact` with gaps of up to `max_gap` frames between two touches filled: pushing is a string of taps."""
    filled, touches = contact.copy(), np.flatnonzero(contact)
    for before, after in pairwise(touches):
        if after - before <= max_gap + 1:
            filled[before:after] = True
    return filled


def _phases(opening: NDArray[np.float32], contact: NDArray[np.bool_]) -> list[tuple[bool, bool]]:
    return [(bool(o > OPEN_ABOVE), bool(c)) for o, c in zip(opening, contact, strict=True)]


def _runs(phases: Sequence[tuple[bool, bool]]) -> list[tuple[int, int]]:
    """[start, end) of each maximal run of equal phases."""
    cuts = [i for i in range(1, len(phases)) if phases[i] != phases[i - 1]]
    return list(zip([0, *cuts], [*cuts, len(phases)], strict=True))


def subtask_spans(
    opening: NDArray[np.float32], contact: NDArray[np.bool_], part: str, act: str, min_frames: int = 3
) -> list[tuple[int, str]]:
    """Cut an episode into sub-tasks.

    Args:
        opening: Gripper opening at each frame, [T], 0 closed .. 1 open.
        contact: Whether the robot touches an object in the step that follows each frame, [T].
        part: Noun phrase the gripper goes to.
        act: Imperative for what is done on contact.
        min_frames: Runs shorter than this are taken for flicker and join the span before them (the one after, at
            the start of an episode).

    Returns:
        (start frame, text) in order; the first starts at 0 and neighbours differ in text.
    """
    phases = _phases(opening, _without_gaps(contact, MAX_GAP))
    spans: list[tuple[int, str]] = []
    for start, end in _runs(phases):
        if end - start < min_frames and len(phases) >= min_frames:
            continue
        text = subtask_text(part, act, *phases[start])
        if not spans or spans[-1][1] != text:
            spans.append((start if spans else 0, text))
    return spans or [(0, subtask_text(part, act, *phases[0]))]
