"""Writes folders as CALVIN publishes them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def state(number: int) -> np.ndarray:
    """robot_obs beside scene_obs of a frame, [39]: no two alike."""
    return np.arange(39) / 100 + number / 10


def action(number: int) -> np.ndarray:
    """rel_actions of a frame, [7]."""
    return np.clip(np.arange(7) / 10 - number / 50, -1, 1)


def picture(number: int, size: int) -> np.ndarray:
    """uint8 [size, size, 3]."""
    rows, columns = np.mgrid[0:size, 0:size]
    return np.stack([rows, columns, np.full_like(rows, number)], axis=-1).astype(np.uint8)


def write_frame(split: Path, number: int, **other: np.ndarray) -> None:
    """One frame's file; `other` replaces arrays, an empty one leaves it out."""
    arrays = {
        "rel_actions": action(number),
        "actions": np.zeros(7),
        "robot_obs": state(number)[:15],
        "scene_obs": state(number)[15:],
        "rgb_static": picture(number, 20),
        "rgb_gripper": picture(number, 8),
    } | other
    np.savez(split / f"episode_{number:07d}.npz", allow_pickle=False, **{n: a for n, a in arrays.items() if a.size})


def write_split(split: Path, spans: Sequence[tuple[int, int]]) -> None:
    """A split of recordings that go from a first frame to a last one."""
    split.mkdir(parents=True)
    np.save(split / "ep_start_end_ids.npy", np.array(spans, dtype=np.int64))
    for first, last in spans:
        for number in range(first, last + 1):
            write_frame(split, number)


def write_annotations(
    split: Path, spans: Sequence[tuple[int, int]], texts: Sequence[str], tasks: Sequence[str]
) -> Path:
    """lang_annotations/auto_lang_ann.npy with numpy numbers, texts and vectors in it, as the published ones."""
    folder = split / "lang_annotations"
    folder.mkdir()
    content = {
        "language": {"ann": list(texts), "task": list(tasks), "emb": np.ones((len(texts), 1, 4), dtype=np.float32)},
        "info": {"episodes": [], "indx": [(np.int64(first), last) for first, last in spans]},
    }
    np.save(folder / "auto_lang_ann.npy", np.array(content, dtype=object), allow_pickle=True)
    return folder / "auto_lang_ann.npy"
