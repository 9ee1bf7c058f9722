"""Recorded episodes on their way into data sets: simulated and drawn in parts, by several processes, then merged.

A part is one file, written aside and renamed when whole. Interrupted anywhere, the same call goes on with the next
missing part and ends with the same bytes of data.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from data_mixtures.storage.whole_file import write_whole
from eval.gl_backend import select_gl_backend
from eval.metaworld.behaviours import KINDS, Kind, Manner, Trajectory, simulate
from eval.metaworld.episode import CompiledTask, MetaWorldEpisode, Observation
from eval.workers import run_jobs

RECORDED_SEEDS_FROM = 1_000_000
"""Initial states of recordings are drawn with seeds from here on; those of rollouts with smaller ones."""

EPISODES_PER_SEED, ATTEMPTS = 10_000, 20

# Of one recording's seeds: four groups of so many episodes and attempts fill what lies between two recordings.
_SEEDS_PER_GROUP = EPISODES_PER_SEED * ATTEMPTS
GROUPS = RECORDED_SEEDS_FROM // _SEEDS_PER_GROUP

Outcome = Literal["success", "failure", "any"]


def environment_seed(seed: int, episode: int, attempt: int, group: int = 0) -> int:
    """The initial state's seed for one attempt at one episode; distinct over all arguments (`group` below GROUPS)."""
    return RECORDED_SEEDS_FROM * (seed + 1) + group * _SEEDS_PER_GROUP + episode * ATTEMPTS + attempt


@dataclass(frozen=True)
class Wanted:
    """An episode to be recorded: the first attempt that ends as it is to.

    Attributes:
        kind: How it acts.
        first_seed: The first attempt's initial state; each further one has the next.
        outcome: What is kept.
        max_decisions: Its longest length.
    """

    kind: Kind
    first_seed: int
    outcome: Outcome
    max_decisions: int


@dataclass(frozen=True)
class Scene:
    """What is recorded of a task.

    Attributes:
        task: Its name.
        action_repeat: Simulator steps of a decision.
        observation: What the state column holds.
        cameras: Which pictures are drawn.
        image_size: Their pixels a side.
    """

    task: str
    action_repeat: int
    observation: Observation
    cameras: tuple[str, ...]
    image_size: int


@dataclass(frozen=True)
class Part:
    """One process's work: some episodes of one task, into one file."""

    path: Path
    scene: Scene
    manner: Manner
    wanted: tuple[Wanted, ...]


class Recorded(NamedTuple):
    """An episode as a part holds it, T decisions: see `Trajectory`.

    Attributes:
        frames: Camera -> uint8 [T, H, W, 3].
        states: float32 [T, d].
        commands: float32 [T, 4].
        executed: float32 [T, 4].
        touched: bool [T].
        info: What an episode's row in the data set says of it.
    """

    frames: Mapping[str, NDArray[np.uint8]]
    states: NDArray[np.float32]
    commands: NDArray[np.float32]
    executed: NDArray[np.float32]
    touched: NDArray[np.bool_]
    info: dict[str, str | int | float | bool]


def _attempt(compiled: CompiledTask, part: Part, wanted: Wanted, seed: int) -> tuple[MetaWorldEpisode, Trajectory]:
    episode = compiled.episode(seed)
    draws = np.random.default_rng([seed, KINDS.index(wanted.kind), crc32(compiled.task.name.encode())])
    return episode, simulate(episode, wanted.kind, draws, part.manner, wanted.max_decisions)


def _one_episode(compiled: CompiledTask, part: Part, wanted: Wanted) -> tuple[MetaWorldEpisode, Trajectory]:
    for seed in range(wanted.first_seed, wanted.first_seed + ATTEMPTS):
        episode, trajectory = _attempt(compiled, part, wanted, seed)
        if wanted.outcome == "any" or trajectory.success == (wanted.outcome == "success"):
            return episode, trajectory
    raise ValueError(
        f"{compiled.task.name}: not one of {ATTEMPTS} `{wanted.kind}` episodes was a {wanted.outcome} (seeds from "
        f"{wanted.first_seed}, expert_noise {part.manner.noise}); choose another expert_noise, or leave the task or "
        "the kind out"
    )


def _draw(
    compiled: CompiledTask, episode: MetaWorldEpisode, trajectory: Trajectory, scene: Scene
) -> dict[str, NDArray[np.uint8]]:
    """Pictures of every moment: camera -> uint8 [T, H, W, 3]."""
    frames: dict[str, list[NDArray[np.uint8]]] = {camera: [] for camera in scene.cameras}
    for snapshot in trajectory.snapshots if scene.cameras else ():
        episode.show(snapshot)
        for camera, pictures in frames.items():
            pictures.append(compiled.render(episode, camera, scene.image_size))
    return {camera: np.stack(pictures) for camera, pictures in frames.items()}


def _record_part(part: Part) -> float:
    """Record a part's episodes into its file; returns the CPU-seconds it took."""
    started = time.process_time()
    arrays: dict[str, NDArray] = {}
    scene = part.scene
    with CompiledTask(scene.task, scene.action_repeat, scene.observation) as compiled:
        for index, wanted in enumerate(part.wanted):
            episode, trajectory = _one_episode(compiled, part, wanted)
            for camera, frames in _draw(compiled, episode, trajectory, scene).items():
                arrays[f"{index}/frames/{camera}"] = frames
            arrays[f"{index}/state"], arrays[f"{index}/action"] = trajectory.states, trajectory.commands
            arrays[f"{index}/executed"] = trajectory.executed
            arrays[f"{index}/touched"] = trajectory.touched
            arrays[f"{index}/kind"] = np.array(wanted.kind)
            arrays[f"{index}/seed"] = np.array(episode.seed)
            arrays[f"{index}/success"] = np.array(trajectory.success)
            arrays[f"{index}/return"] = np.array(trajectory.rewards)
    seconds = time.process_time() - started
    aside = part.path.with_suffix(".partial")
    with aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    os.replace(aside, part.path)
    return seconds


def recorded_episodes(part: Part) -> Iterator[Recorded]:
    """The episodes of a part that is whole, in order."""
    with np.load(part.path, allow_pickle=False) as arrays:
        for index in range(len(part.wanted)):
            yield Recorded(
                frames={camera: arrays[f"{index}/frames/{camera}"] for camera in part.scene.cameras},
                states=arrays[f"{index}/state"],
                commands=arrays[f"{index}/action"],
                executed=arrays[f"{index}/executed"],
                touched=arrays[f"{index}/touched"],
                info={
                    "environment": part.scene.task,
                    "kind": str(arrays[f"{index}/kind"]),
                    "seed": int(arrays[f"{index}/seed"]),
                    "success": bool(arrays[f"{index}/success"]),
                    "return": float(arrays[f"{index}/return"]),
                },
            )


def _same(path: Path, fingerprint: str) -> bool:
    return path.exists() and path.read_text() == fingerprint


def record_in_parts(
    fingerprint: str,
    parts: Sequence[Part],
    folder: Path,
    merges: Mapping[Path, Callable[[Path], None]],
    workers: int,
) -> None:
    """Record what is missing of `parts`, then merge them into data sets; return at once if those are there.

    Args:
        fingerprint: What decides every byte, as text; kept in each data set's meta/recording.json.
        parts: The work; each writes its file in `folder`.
        folder: Holds unfinished work and is removed at the end.
        merges: A data set's folder -> what writes it there, given that folder, when the parts are whole.
        workers: Processes.

    Raises:
        ValueError: a data set's folder holds something else, or an episode cannot be had.
    """
    markers, part_marker = {root: root / "meta" / "recording.json" for root in merges}, folder / "recording.json"
    begun = _same(part_marker, fingerprint)
    for root, marker in markers.items():
        # Killed between a data set and its marker, the parts are still there.
        if root.exists() and not _same(marker, fingerprint) and (marker.exists() or not begun):
            raise ValueError(
                f"root: {root} exists and was not recorded from this configuration; name another or delete it"
            )
    if not all(root.exists() for root in merges):
        if not begun:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_whole(part_marker, fingerprint)
        with nullcontext() if any(part.scene.cameras for part in parts) else suppress(RuntimeError):
            select_gl_backend()  # once, not in every worker
        for _ in run_jobs(_record_part, [part for part in parts if not part.path.exists()], workers):
            pass
    for root, merge in merges.items():
        if not root.exists():
            merge(root)
        write_whole(markers[root], fingerprint)
    shutil.rmtree(folder, ignore_errors=True)
