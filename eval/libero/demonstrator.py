"""Plays and draws demonstrations of one LIBERO task; `eval.libero.recording` starts it in LIBERO's own environment.

    python -m eval.libero.demonstrator     reads one line of JSON, a `Job`; writes a file an episode; prints a line each

Ends when its standard input closes: when whoever started it is gone.
"""

import json
import os
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eval.libero.drawing import CAMERAS, Renderer, Snapshot
from eval.libero.experts.expert import Expert, Jitter
from eval.libero.experts.grasps import NUM_VARIANTS
from eval.libero.experts.scene import Scene
from eval.libero.task import SETTLING_ACTION, Task
from eval.libero.upstream import load_upstream, versions

SETTLING_STEPS = 10

_ATTEMPTS = 20
_EPISODES_PER_SEED = 10_000
_SEEDS_FROM = 1_000_000


def placement_seed(seed: int, episode: int, attempt: int) -> int:
    """What numpy is seeded with to place the objects anew; distinct over all arguments, below 2**32.

    Evaluations play LIBERO's fixed initial states, drawn by its authors: no demonstration starts in one of them.
    """
    return _SEEDS_FROM * (seed + 1) + episode * _ATTEMPTS + attempt


@dataclass(frozen=True)
class Job:
    """What one process makes.

    Attributes:
        assets: Folder of meshes.
        suite, task: As in eval/libero/tasks.py.
        episodes: Indices; each becomes the file `folder/NNNNN.npz`.
        folder: Of these files.
        seed: Of the data set.
        image_size: Pixels a side.
        waypoint_jitter_m, noise: See `Jitter`.
        past_success: Steps recorded after the first success.
        max_steps: Longest episode.
    """

    assets: str
    suite: str
    task: str
    episodes: list[int]
    folder: str
    seed: int
    image_size: int
    waypoint_jitter_m: float
    noise: float
    past_success: int
    max_steps: int


class Trajectory(NamedTuple):
    """One episode as simulated, not yet drawn; T moments.

    Attributes:
        states: [T, 8] float32, before each command.
        actions: [T, 7] float32: the expert's command.
        executed: [T, 7] float32: what was carried out; replayed from the same placement it succeeds again.
        subtasks: (first moment, text).
        snapshots: T moments to draw.
        success: Whether the task was solved.
    """

    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    executed: NDArray[np.float32]
    subtasks: list[tuple[int, str]]
    snapshots: list[Snapshot]
    success: bool


def play(task: Task, expert: Expert, past_success: int, max_steps: int) -> Trajectory:
    """Let the expert act until it is done, or some steps past its first success."""
    states, actions, executed, snapshots, subtasks = [], [], [], [], []
    left = past_success
    succeeded = False
    while len(actions) < max_steps and left > 0:
        action = expert.action()
        if expert.is_done:
            break
        if not subtasks or subtasks[-1][1] != expert.subtask:
            subtasks.append((len(actions), expert.subtask))
        states.append(task.seen.state)
        snapshots.append(task.seen.snapshot)
        actions.append(action)
        executed.append(expert.executed(action))
        task.step(executed[-1])
        succeeded |= task.success()
        left -= succeeded
    return Trajectory(np.array(states), np.array(actions), np.array(executed), subtasks, snapshots, succeeded)


def demonstrate(task: Task, job: Job, episode: int) -> tuple[Trajectory, int, int]:
    """A successful episode, the seed of its placement and how often the expert failed before.

    Raises:
        RuntimeError: the expert failed too often.
    """
    jitter = Jitter(job.waypoint_jitter_m, job.noise)
    for attempt in range(_ATTEMPTS):
        seed = placement_seed(job.seed, episode, attempt)
        task.scatter(seed)
        for _ in range(SETTLING_STEPS):
            task.step(SETTLING_ACTION)
        rng = np.random.default_rng([seed, zlib.crc32(job.task.encode())])
        expert = Expert(Scene(task.env), attempt % NUM_VARIANTS, jitter, rng)
        trajectory = play(task, expert, job.past_success, job.max_steps)
        if trajectory.success:
            return trajectory, seed, attempt
    raise RuntimeError(
        f"the expert of {job.task} failed {_ATTEMPTS} times at episode {episode}: lower the noise (now {job.noise}) or "
        "leave the task out"
    )


def draw(renderer: Renderer, trajectory: Trajectory, size: int) -> dict[str, NDArray[np.uint8]]:
    """Pictures of every moment, upright: camera -> [T, size, size, 3]."""
    return {
        camera: np.stack([renderer.draw(snapshot, camera, size) for snapshot in trajectory.snapshots])
        for camera in CAMERAS
    }


def _write(path: Path, arrays: dict[str, Any]) -> None:
    aside = path.with_suffix(".partial")
    with aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    os.replace(aside, path)


def run(job: Job) -> Iterator[dict[str, Any]]:
    """Make the job's files one by one; yields what is said of each."""
    task = Task(load_upstream(Path(job.assets)), job.suite, job.task)
    renderer = Renderer(task.model)
    facts = json.dumps(versions(), sort_keys=True)
    for episode in job.episodes:
        trajectory, seed, failures = demonstrate(task, job, episode)
        arrays: dict[str, Any] = {f"frames/{name}": f for name, f in draw(renderer, trajectory, job.image_size).items()}
        arrays |= {"state": trajectory.states, "action": trajectory.actions, "executed": trajectory.executed}
        arrays |= {"subtasks": np.array(json.dumps(trajectory.subtasks)), "versions": np.array(facts)}
        arrays |= {"seed": np.array(seed), "failures": np.array(failures)}
        _write(Path(job.folder) / f"{episode:05d}.npz", arrays)
        yield {"episode": episode, "steps": len(trajectory.actions), "failures": failures}


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _main() -> None:
    job = Job(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for said in run(job):
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
