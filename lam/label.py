"""`vla label`: a teacher's latents of every window become columns of a copy of the data set.

The latent of frame t is that of the window starting at t; near an episode's end the window holds its last frame.
A killed run goes on where it was: latents gather in a file beside the target, with a count of the rows that are done.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.defects import Defect
from data_mixtures.lerobot.latent_columns import check_source, write_latent_columns
from data_mixtures.mixture import Mixture
from data_mixtures.storage.whole_file import write_whole
from lam.teacher import LatentTeacher

_SAVE_EVERY = 20  # batches between two notes of the progress


def label(
    teacher: LatentTeacher,
    source_root: Path | str,
    target_root: Path | str,
    *,
    cameras: list[str],
    image_size: int,
    name: str = "latent",
    vision_features: str | None = None,
    batch_size: int = 64,
    on_progress: Callable[[int, int], None] | None = None,
    quarantine: Path | None = None,
    strict: bool = False,
) -> Path:
    """Write `<name>.scene` and `<name>.motion` for every frame into a labelled copy of a data set.

    Args:
        teacher: Gives the latents; actions are never shown to it.
        source_root: A LeRobot v3.0 folder; only read.
        target_root: The labelled copy; returned as it is if this teacher wrote it already.
        cameras: The cameras the teacher was trained with, in its order.
        image_size: Pixels, as in its training mixture.
        name: Column prefix.
        vision_features: Folder of cached vision features, or None to compute them.
        batch_size: Windows a call of the teacher.
        on_progress: Called with (frames done, frames in all).
        quarantine: The quarantine.jsonl that names the episodes without latents: those that cannot be read, and those
            of which some window cannot be seen. Their rows hold 0, and training on the copy leaves them out.
        strict: Stop at the first of these instead.

    Returns:
        target_root.
    """
    target = Path(target_root)
    aside = target.with_name(f".{target.name}.{name}.latents")
    if _is_done(target, aside, teacher, name):
        shutil.rmtree(aside, ignore_errors=True)
        return target
    check_source(source_root)
    mixture = Mixture(
        MixtureConfig(
            [DatasetConfig(str(source_root), labelled_share=0.0)],
            cameras,
            WindowConfig(teacher.num_frames, teacher.horizon),
            image_size,
            strict=strict,
            vision_features=vision_features,
        ),
        seed=0,
    )
    if quarantine is not None:
        mixture.quarantine.write_to(quarantine)
    latents = _encode_all(teacher, mixture, aside, batch_size, on_progress or (lambda done, total: None))
    source = mixture.sources[0]
    for episode in source.bad_episodes:
        latents[slice(*source.index.first_row[episode : episode + 2])] = 0
    left_out = {int(source.index.source_episode[e]): defect for e, defect in source.bad_episodes.items()}
    # Episodes that the index does not hold have no latents: their rows stay 0, and no reader takes them either.
    whole = source.dataset.recorded.spread(latents)
    write_latent_columns(source_root, target, name, whole, teacher.scene_tokens, left_out)
    _record(target, name, teacher.fingerprint)
    shutil.rmtree(aside)
    return target


def _record_path(target: Path, name: str) -> Path:
    return target / "meta" / f"{name}.teacher.json"


def _record(target: Path, name: str, fingerprint: str) -> None:
    _record_path(target, name).write_text(json.dumps({"teacher": fingerprint}) + "\n")


def _is_done(target: Path, aside: Path, teacher: LatentTeacher, name: str) -> bool:
    """Whether this teacher labelled the target; a target of another's making is an error."""
    if not target.exists():
        return False
    record, progress = _record_path(target, name), _progress(aside)
    if record.is_file() and json.loads(record.read_text())["teacher"] == teacher.fingerprint:
        return True
    if not record.is_file() and progress["teacher"] == teacher.fingerprint:  # killed between the two last writes
        _record(target, name, teacher.fingerprint)
        return True
    raise ValueError(
        f"target_root {target} exists and holds no {name!r} latents of this teacher: delete it, or name another folder"
    )


def _encode_all(
    teacher: LatentTeacher, mixture: Mixture, aside: Path, batch_size: int, on_progress: Callable[[int, int], None]
) -> np.ndarray:
    """All latents float16 [num_frames, tokens, dim], going on from what `aside` holds of this teacher."""
    total = mixture.num_frames
    shape = (total, teacher.num_latents, teacher.latent_dim)
    latents, done = _open_partial(aside, shape, teacher.fingerprint)
    bad = mixture.sources[0].bad_episodes
    bad |= {entry.pop("episode"): Defect(**entry) for entry in _progress(aside)["left_out"]}
    for count, first in enumerate(range(done, total, batch_size), start=1):
        rows = range(first, min(first + batch_size, total))
        latents[rows.start : rows.stop] = teacher.encode(mixture.batch_at(rows)).numpy().astype(np.float16)
        if count % _SAVE_EVERY == 0 or rows.stop == total:
            latents.flush()
            _note(aside, teacher.fingerprint, rows.stop, bad)
        on_progress(rows.stop, total)
    if not np.isfinite(latents).all():
        raise ValueError("the teacher gave latents that are not finite in float16: its training went wrong")
    return latents


def _open_partial(aside: Path, shape: tuple[int, ...], fingerprint: str) -> tuple[np.memmap, int]:
    progress = _progress(aside)
    if progress["teacher"] == fingerprint and progress["shape"] == list(shape):
        return np.lib.format.open_memmap(aside / "latents.npy", mode="r+"), progress["done"]
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    array = np.lib.format.open_memmap(aside / "latents.npy", mode="w+", dtype=np.float16, shape=shape)
    return array, 0


def _progress(aside: Path) -> dict[str, Any]:
    note = aside / "progress.json"
    nothing = {"teacher": None, "shape": None, "done": 0, "left_out": []}
    return nothing | json.loads(note.read_text()) if note.is_file() else nothing


def _note(aside: Path, fingerprint: str, done: int, bad: Mapping[int, Defect]) -> None:
    shape = np.load(aside / "latents.npy", mmap_mode="r").shape
    left_out = [{"episode": episode, **asdict(defect)} for episode, defect in bad.items()]
    note = {"teacher": fingerprint, "shape": list(shape), "done": done, "left_out": left_out}
    write_whole(aside / "progress.json", json.dumps(note))
