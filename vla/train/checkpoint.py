"""Checkpoints for resuming: written aside, marked complete, renamed; a half-written one is never picked up.

    checkpoints/step-00001000/            torch.distributed.checkpoint files (or DeepSpeed's own) + progress.json
    checkpoints/.step-00001000.partial/   one in the making

They are read by nothing but the run that wrote them, and must not be taken from strangers: torch's and DeepSpeed's
formats both pickle their index. What is shared is safetensors (see export.py).
"""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor

from data_mixtures.storage.whole_file import write_whole
from vla.train.distributed import World

_MARKER = "progress.json"


@dataclass
class Progress:
    """How far a run is; written beside the weights, and last, so that its presence says the checkpoint is whole.

    Attributes:
        step: Updates done or skipped: the next one is step + 1.
        skipped_steps: Those skipped because loss or gradient was not finite.
        bad_in_row: Of those, the ones since the last good step.
        wall_seconds: Time spent on the run, over all its interruptions.
        wait_seconds: Of that, waiting for data.
        peak_memory_bytes: The largest any process held.
    """

    step: int = 0
    skipped_steps: int = 0
    bad_in_row: int = 0
    wall_seconds: float = 0.0
    wait_seconds: float = 0.0
    peak_memory_bytes: int = 0

    def count(self, step: int, good: bool) -> None:
        """Take in one more step."""
        self.step = step
        self.skipped_steps += not good
        self.bad_in_row = 0 if good else self.bad_in_row + 1


def settings_of(config: Any, name: str) -> dict[str, object]:
    """A configuration as `Checkpoints` compares it: {`name.field.field`: value}, in the order of its dataclasses.

    Args:
        config: A dataclass of plain values, lists and further such dataclasses.
        name: What a recipe calls it.
    """
    return dict(_leaves(asdict(config), name))


def _leaves(value: object, name: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}")
    else:
        yield name, list(value) if isinstance(value, tuple) else value  # as JSON gives it back


def write_json(path: Path, content: object) -> None:
    """Write a JSON file so that it appears whole or not at all, also through a power cut."""
    write_whole(path, json.dumps(content, indent=1))


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to disk: without it a rename can be lost though the files are not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path) -> None:
    """Bring all files below a folder to disk."""
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            os.fsync(file.fileno())


class Checkpoints:
    """The `checkpoints` folder of one run.

    Args:
        folder: Where they live.
        keep_last: How many stay.
        settings: What a run may not change between start and resume ({recipe field: value}); stored and compared.
        world: The processes taking part; all call every method together.
    """

    def __init__(self, folder: Path, keep_last: int, settings: dict[str, object], world: World) -> None:
        self._folder, self._keep_last, self._settings, self._world = folder, keep_last, settings, world
        if world.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            for partial in folder.glob(".step-*.partial"):
                shutil.rmtree(partial)
        world.barrier()

    def complete(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(f for f in self._folder.glob("step-*") if (f / _MARKER).is_file())

    def save(self, progress: Progress, write: Callable[[Path], None]) -> None:
        """Keep a checkpoint; `write` fills the folder it is given, on every rank."""
        final = self._folder / f"step-{progress.step:08d}"
        if final in self.complete():
            return
        aside = self._folder / f".{final.name}.partial"
        if self._world.is_main:
            if final.exists():  # without its marker: not ours to trust
                shutil.rmtree(final)
            aside.mkdir()
        self._world.barrier()
        write(aside)
        self._world.barrier()
        if self._world.is_main:
            sync_files(aside)
            write_json(aside / _MARKER, {"progress": asdict(progress), "settings": self._settings})
            sync_folder(aside)
            aside.replace(final)
            sync_folder(self._folder)
            for old in self.complete()[: -self._keep_last]:
                _remove(old)
        self._world.barrier()

    def resume(self, read: Callable[[Path], None]) -> Progress:
        """Load the newest whole checkpoint through `read`, if there is one, and say how far it is."""
        found = self.complete()
        if not found:
            return Progress()
        content = json.loads((found[-1] / _MARKER).read_text())
        stored = content["settings"]
        for field in self._settings | stored:  # a part that is None now has no fields, but had some then
            value, was = self._settings.get(field), stored.get(field)
            if was != value:
                raise ValueError(
                    f"{field} is {value!r}, but {found[-1]} was written with {was!r}: "
                    f"set it back to continue that run, or give this one another folder"
                )
        read(found[-1])
        known = {f.name for f in fields(Progress)}
        return Progress(**{key: value for key, value in content["progress"].items() if key in known})


def _remove(checkpoint: Path) -> None:
    # Renamed first: a deletion killed half-way must not leave something that looks whole.
    doomed = checkpoint.with_name(f".{checkpoint.name}.partial")
    checkpoint.replace(doomed)
    shutil.rmtree(doomed)


def save_sharded(state: dict[str, Tensor], folder: Path) -> None:
    """Each rank writes its shards of `state`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process: as intended
        dcp.state_dict_saver.save(state, checkpoint_id=folder, no_dist=not dist.is_initialized())


def load_sharded(state: dict[str, Tensor], folder: Path) -> None:
    """Fill `state` in place, whatever number of ranks wrote it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        dcp.state_dict_loader.load(state, checkpoint_id=folder, no_dist=not dist.is_initialized())
