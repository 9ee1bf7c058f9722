"""Recording Meta-World demonstrations as a LeRobot v3.0 data set.

Episodes are simulated first and drawn only if kept. Each task is a part, written aside and renamed when whole; when
all parts are there they are merged into the data set. Interrupted anywhere, the same call goes on with the next
missing part and ends with the same bytes of data.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from data_mixtures.lerobot.layout import EXECUTED_COLUMN
from data_mixtures.lerobot.writer import LeRobotWriter
from data_mixtures.storage.whole_file import write_whole
from eval.gl_backend import select_gl_backend
from eval.metaworld.behaviours import KINDS, Kind, Trajectory, simulate
from eval.metaworld.episode import DECISION_HZ, CompiledTask, MetaWorldEpisode
from eval.metaworld.renderer import CAMERAS
from eval.metaworld.tasks import metaworld_task
from eval.subtasks import subtask_spans
from eval.workers import run_jobs

ROBOT_TYPE = "metaworld_sawyer"
RECORDED_SEEDS_FROM = 1_000_000
"""Initial states of recordings are drawn with seeds from here on; those of rollouts with smaller ones."""

_EPISODES_PER_SEED, _ATTEMPTS = 10_000, 20


@dataclass(frozen=True)
class KindCounts:
    """Episodes of each kind (see behaviours.py) per task."""

    expert: int = 10
    medium: int = 0
    random: int = 0
    switch: int = 0


@dataclass(frozen=True)
class RecordConfig:
    """What to record.

    Attributes:
        tasks: Names from eval/metaworld/tasks.py.
        episodes: Per task and kind; expert episodes are kept only if they succeed.
        image_size: Pixels a side, even.
        cameras: From `corner`, `wrist`.
        seed: Data sets with different seeds share no initial state, nor does any with a rollout.
        expert_noise: Standard deviation of the noise executed on top of the expert's commands (which span +-1).
        past_success: Decisions recorded after the first success.
        min_decisions: Shortest episode; keep it above the training horizon.
        max_mixed_decisions: Longest episode of the kinds that need not succeed; expert ones end at the task's limit.
        workers: Processes.
    """

    tasks: tuple[str, ...]
    episodes: KindCounts = KindCounts()
    image_size: int = 64
    cameras: tuple[str, ...] = CAMERAS
    seed: int = 0
    expert_noise: float = 0.1
    past_success: int = 4
    min_decisions: int = 20
    max_mixed_decisions: int = 45
    workers: int = 2


@dataclass(frozen=True)
class _Job:
    config: RecordConfig
    task: str
    path: Path


def _validate(config: RecordConfig) -> None:
    if not config.tasks or len(set(config.tasks)) != len(config.tasks):
        raise ValueError(f"tasks: {list(config.tasks)} must name at least one task, and none twice")
    for name in config.tasks:
        metaworld_task(name)
    if unknown := sorted(set(config.cameras) - set(CAMERAS)):
        raise ValueError(f"cameras: Meta-World has no {unknown}; choose from {list(CAMERAS)}")
    if not config.cameras:
        raise ValueError(f"cameras: name at least one of {list(CAMERAS)}")
    if config.image_size < 16 or config.image_size % 2:
        raise ValueError(f"image_size: {config.image_size} must be even and at least 16 (H.264 needs even sizes)")
    counts = asdict(config.episodes)
    if min(counts.values()) < 0 or not 0 < sum(counts.values()) <= _EPISODES_PER_SEED:
        raise ValueError(f"episodes: {counts} must be 0 or more each, 1 to {_EPISODES_PER_SEED} together")
    if config.max_mixed_decisions < config.min_decisions:
        raise ValueError(
            f"max_mixed_decisions: {config.max_mixed_decisions} is below min_decisions {config.min_decisions}; raise it"
        )
    if config.seed < 0:
        raise ValueError(f"seed: {config.seed} must be 0 or more")


def environment_seed(seed: int, episode: int, attempt: int) -> int:
    """The initial state's seed for one attempt at one episode; distinct over all arguments."""
    return RECORDED_SEEDS_FROM * (seed + 1) + episode * _ATTEMPTS + attempt


def _attempts(
    compiled: CompiledTask, config: RecordConfig, kind: Kind, index: int
) -> Iterator[tuple[MetaWorldEpisode, Trajectory]]:
    task = compiled.task
    longest = task.max_decisions if kind == "expert" else config.max_mixed_decisions
    for attempt in range(_ATTEMPTS):
        seed = environment_seed(config.seed, index, attempt)
        episode = compiled.episode(seed)
        trajectory = simulate(
            episode,
            kind,
            np.random.default_rng([seed, KINDS.index(kind), crc32(task.name.encode())]),
            noise=config.expert_noise,
            past_success=config.past_success,
            min_decisions=config.min_decisions,
            max_decisions=max(longest, config.min_decisions),
        )
        yield episode, trajectory


def _one_episode(
    compiled: CompiledTask, config: RecordConfig, kind: Kind, index: int
) -> tuple[MetaWorldEpisode, Trajectory]:
    for episode, trajectory in _attempts(compiled, config, kind, index):
        if trajectory.success or kind != "expert":
            return episode, trajectory
    raise ValueError(
        f"episodes.expert: the expert of {compiled.task.name} failed {_ATTEMPTS} times at episode {index}; "
        f"lower expert_noise (now {config.expert_noise}) or leave the task out"
    )


def _draw(
    compiled: CompiledTask, episode: MetaWorldEpisode, trajectory: Trajectory, config: RecordConfig
) -> dict[str, NDArray[np.uint8]]:
    """Pictures of every moment: camera -> uint8 [T, H, W, 3]."""
    frames: dict[str, list[NDArray[np.uint8]]] = {camera: [] for camera in config.cameras}
    for snapshot in trajectory.snapshots:
        episode.show(snapshot)
        for camera, pictures in frames.items():
            pictures.append(compiled.render(episode, camera, config.image_size))
    return {camera: np.stack(pictures) for camera, pictures in frames.items()}


def _kinds_in_order(counts: KindCounts) -> list[Kind]:
    return [kind for kind in KINDS for _ in range(getattr(counts, kind))]


def _record_part(job: _Job) -> float:
    """Record one task's episodes into one file; returns the CPU-seconds it took."""
    started = time.process_time()
    arrays: dict[str, NDArray] = {}
    with CompiledTask(job.task) as compiled:
        for index, kind in enumerate(_kinds_in_order(job.config.episodes)):
            episode, trajectory = _one_episode(compiled, job.config, kind, index)
            for camera, frames in _draw(compiled, episode, trajectory, job.config).items():
                arrays[f"{index}/frames/{camera}"] = frames
            arrays[f"{index}/state"], arrays[f"{index}/action"] = trajectory.states, trajectory.commands
            arrays[f"{index}/executed"] = trajectory.executed
            arrays[f"{index}/touched"] = trajectory.touched
            arrays[f"{index}/kind"] = np.array(kind)
            arrays[f"{index}/seed"] = np.array(episode.seed)
            arrays[f"{index}/success"] = np.array(trajectory.success)
    seconds = time.process_time() - started
    aside = job.path.with_suffix(".partial")
    with aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    os.replace(aside, job.path)
    return seconds


def _add_part(writer: LeRobotWriter, config: RecordConfig, name: str, path: Path) -> None:
    task = metaworld_task(name)
    with np.load(path, allow_pickle=False) as part:
        for index, _ in enumerate(_kinds_in_order(config.episodes)):
            state = part[f"{index}/state"]
            writer.add_episode(
                frames={camera: part[f"{index}/frames/{camera}"] for camera in config.cameras},
                columns={
                    "observation.state": state,
                    "action": part[f"{index}/action"],
                    EXECUTED_COLUMN: part[f"{index}/executed"],
                },
                task=task.instruction,
                subtasks=subtask_spans(state[:, 3], part[f"{index}/touched"], task.part, task.act),
                info={
                    "environment": name,
                    "kind": str(part[f"{index}/kind"]),
                    "seed": int(part[f"{index}/seed"]),
                    "success": bool(part[f"{index}/success"]),
                },
            )


def _merge(config: RecordConfig, root: Path, paths: Sequence[Path]) -> None:
    size = (config.image_size, config.image_size)
    writer = LeRobotWriter(
        root,
        fps=round(DECISION_HZ),  # LeRobot's fps is an integer; the true rate is 26.7
        robot_type=ROBOT_TYPE,
        cameras=dict.fromkeys(config.cameras, size),
        features={"observation.state": 4, "action": 4, EXECUTED_COLUMN: 4},
    )
    for name, path in zip(config.tasks, paths, strict=True):
        _add_part(writer, config, name, path)
    writer.finish()


def _fingerprint(config: RecordConfig) -> str:
    # The number of processes changes no byte of the result.
    return json.dumps({k: v for k, v in asdict(config).items() if k != "workers"}, indent=2, sort_keys=True)


def _same(path: Path, fingerprint: str) -> bool:
    return path.exists() and path.read_text() == fingerprint


def record(config: RecordConfig, root: Path) -> Path:
    """Record the data set `config` describes into `root`, or finish doing so, or return at once if it is there.

    Args:
        config: What to record.
        root: The data set's folder; `<root>.parts` beside it holds unfinished work and is removed at the end.

    Returns:
        `root`.

    Raises:
        ValueError: the configuration is impossible, or `root` holds something else.
    """
    _validate(config)
    root = Path(root)
    fingerprint, parts = _fingerprint(config), root.with_name(root.name + ".parts")
    marker, part_marker = root / "meta" / "recording.json", parts / "recording.json"
    if _same(marker, fingerprint):
        shutil.rmtree(parts, ignore_errors=True)
        return root
    if root.exists() and not (_same(part_marker, fingerprint) and not marker.exists()):
        raise ValueError(f"root: {root} exists and was not recorded from this configuration; name another or delete it")
    if not _same(part_marker, fingerprint):
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        write_whole(part_marker, fingerprint)
    if not root.exists():
        paths = [parts / f"{name}.npz" for name in config.tasks]
        jobs = [_Job(config, n, p) for n, p in zip(config.tasks, paths, strict=True) if not p.exists()]
        select_gl_backend()  # once, not in every worker
        for _ in run_jobs(_record_part, jobs, config.workers):
            pass
        _merge(config, root, paths)
    write_whole(marker, fingerprint)
    shutil.rmtree(parts, ignore_errors=True)
    return root
