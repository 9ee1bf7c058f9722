"""The rollout engine: tasks x seeded initial states under one protocol; one row an episode in results.jsonl.

All episodes of a task run in lock-step, so a policy is asked once for all of them; pictures are drawn only when a
new chunk is needed. A task's group is always run whole and results.jsonl is replaced after each one, so a run that
was killed goes on with the next group and ends with the same rows (latencies apart).
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_mixtures.storage.whole_file import write_whole
from eval.drivers import ChunkPolicy, Driver, ExpertDriver, PolicyDriver, RandomDriver
from eval.gl_backend import select_gl_backend
from eval.intervals import wilson_interval
from eval.metaworld import ACTION_REPEAT, CAMERAS, CompiledTask, MetaWorldEpisode, Snapshot
from eval.metaworld_tasks import metaworld_task
from eval.record import RECORDED_SEEDS_FROM
from eval.rollout_video import film
from eval.workers import run_jobs

Row = dict[str, Any]
logger = logging.getLogger(__name__)

_COLUMNS = {"suite", "task", "seed", "success_any", "success_final", "steps", "video", "latency_ms"}


@dataclass(frozen=True)
class RolloutConfig:
    """The protocol.

    Attributes:
        tasks: Names from eval/metaworld_tasks.py; each has its own limit of decisions there.
        episodes: Initial states a task.
        seed0: Initial states are drawn with the seeds seed0 .. seed0 + episodes - 1.
        execute: Decisions carried out of each chunk before the policy is asked again.
        cameras: What the policy is shown.
        image_size: Pixels a side of what it is shown.
        past_success: An episode ends this many decisions after its first success (`success_final` is read there);
            None lets it run to the task's limit.
        videos: Videos kept a task, of each outcome that occurs.
        video_size: Their pixels a side, even.
        workers: Processes over tasks; above 1 the policy must be picklable.
    """

    tasks: tuple[str, ...]
    episodes: int = 20
    seed0: int = 0
    execute: int = 8
    cameras: tuple[str, ...] = CAMERAS
    image_size: int = 64
    past_success: int | None = 8
    videos: int = 1
    video_size: int = 128
    workers: int = 1


@dataclass
class _Playing:
    """An episode under way."""

    episode: MetaWorldEpisode
    snapshots: list[Snapshot]
    past_success: int = 0

    def running(self, limit: int, past_success: int | None) -> bool:
        over = past_success is not None and self.episode.success_any and self.past_success >= past_success
        return self.episode.decisions < limit and not over


@dataclass(frozen=True)
class _Job:
    config: RolloutConfig
    task: str
    driver: Driver
    out_dir: Path
    labels: dict[str, Any]


def _validate(config: RolloutConfig) -> None:
    if not config.tasks or len(set(config.tasks)) != len(config.tasks):
        raise ValueError(f"tasks: {list(config.tasks)} must name at least one task, and none twice")
    for name in config.tasks:
        metaworld_task(name)
    for field, least in {"episodes": 1, "seed0": 0, "execute": 1, "image_size": 16, "videos": 0, "workers": 1}.items():
        if (value := getattr(config, field)) < least:
            raise ValueError(f"{field}: {value} is too small; use {least} or more")
    if unknown := sorted(set(config.cameras) - set(CAMERAS)):
        raise ValueError(f"cameras: Meta-World has no {unknown}; choose from {list(CAMERAS)}")
    if config.past_success is not None and config.past_success < 0:
        raise ValueError(f"past_success: {config.past_success} must be 0 or more, or null for the task's full length")
    if config.videos and (config.video_size < 16 or config.video_size % 2):
        raise ValueError(f"video_size: {config.video_size} must be even and at least 16")
    if config.seed0 + config.episodes > RECORDED_SEEDS_FROM:
        raise ValueError(
            f"seed0: {config.seed0} + {config.episodes} episodes reach the seeds of recordings "
            f"({RECORDED_SEEDS_FROM} and up); choose a smaller seed0"
        )


def _play(compiled: CompiledTask, driver: Driver, config: RolloutConfig) -> list[_Playing]:
    """Run all episodes of a task in lock-step."""
    seeds = range(config.seed0, config.seed0 + config.episodes)
    everyone = [_Playing(compiled.episode(seed), []) for seed in seeds]
    limit = compiled.task.max_decisions
    while alive := [one for one in everyone if one.running(limit, config.past_success)]:
        plans = driver.plan(compiled, [one.episode for one in alive])
        for one, plan in zip(alive, plans, strict=True):
            _carry_out(one, plan[: driver.execute], limit, config.past_success)
    return everyone


def _carry_out(one: _Playing, plan: Iterable[Any], limit: int, past_success: int | None) -> None:
    for command in plan:
        if not one.running(limit, past_success):
            return
        one.past_success += one.episode.success_any
        one.snapshots.append(one.episode.snapshot())
        one.episode.step(command)


def _row(one: _Playing, job: _Job, latency_ms: float | None) -> Row:
    config, episode = job.config, one.episode
    return {
        "suite": "metaworld",
        "task": job.task,
        "seed": episode.seed,
        **job.labels,
        "success_any": episode.success_any,
        "success_final": episode.success_now,
        "steps": episode.decisions,
        "max_steps": episode.task.max_decisions,
        "action_repeat": ACTION_REPEAT,
        "execute": job.driver.execute,
        "past_success": config.past_success,
        "video": None,
        "latency_ms": latency_ms,
    }


def _film_some(compiled: CompiledTask, everyone: Sequence[_Playing], rows: Sequence[Row], job: _Job) -> None:
    """Keep videos of the first episodes, by seed, of each outcome, and name them in their rows."""
    config = job.config
    for outcome, word in ((True, "success"), (False, "failure")):
        chosen = [(one, row) for one, row in zip(everyone, rows, strict=True) if row["success_any"] is outcome]
        for one, row in chosen[: config.videos]:
            name = f"videos/{job.task}-seed{row['seed']}-{word}.mp4"
            film(job.out_dir / name, compiled, one.episode, one.snapshots, config.cameras[0], config.video_size)
            row["video"] = name


def _run_group(job: _Job) -> list[Row]:
    """All episodes of one task, whole."""
    calls_before = len(job.driver.latencies_s)
    with CompiledTask(job.task) as compiled:
        everyone = _play(compiled, job.driver, job.config)
        calls = job.driver.latencies_s[calls_before:]
        latency_ms = round(1000 * float(np.median(calls)), 3) if calls else None
        rows = [_row(one, job, latency_ms) for one in everyone]
        _film_some(compiled, everyone, rows, job)
    return rows


def _finished_groups(out_dir: Path, protocol: str) -> dict[str, list[Row]]:
    """Rows already there, by task; raises if they were made under another protocol."""
    marker, results = out_dir / "protocol.json", out_dir / "results.jsonl"
    if marker.exists() and marker.read_text() != protocol:
        raise ValueError(
            f"out_dir: {out_dir} holds rollouts of another policy or protocol (see {marker}); name another folder, "
            "or delete it"
        )
    out_dir.mkdir(parents=True, exist_ok=True)
    write_whole(marker, protocol)
    groups: dict[str, list[Row]] = {}
    for line in results.read_text().splitlines() if results.exists() else []:
        row = json.loads(line)
        groups.setdefault(row["task"], []).append(row)
    return groups


def _protocol(config: RolloutConfig, execute: int, labels: dict[str, Any]) -> str:
    # The number of processes changes no result.
    fields = {name: value for name, value in asdict(config).items() if name != "workers"}
    return json.dumps(fields | {"execute": execute, "labels": labels}, indent=2, sort_keys=True)


def _log_progress(done: int, total: int, rows: Sequence[Row]) -> None:
    successes = sum(row["success_any"] for row in rows)
    low, high = wilson_interval(successes, len(rows))
    rate = successes / len(rows)
    logger.info("%d of %d tasks: success %.2f [%.2f, %.2f] of %d", done, total, rate, low, high, len(rows))


def roll_out(
    driver: Driver,
    config: RolloutConfig,
    out_dir: Path,
    labels: dict[str, Any],
    on_group: Callable[[int, int, Sequence[Row]], None] = _log_progress,
) -> list[Row]:
    """Roll a driver out; see `rollout` for policies.

    Args:
        driver: What acts.
        config: The protocol.
        out_dir: Gets protocol.json, results.jsonl and videos/. One driver, one folder.
        labels: Further columns of every row (policy name, training seed, ...); JSON values.
        on_group: Called after each task with (tasks done, tasks in all, rows so far); logs by default.

    Returns:
        The rows, tasks in the protocol's order.

    Raises:
        ValueError: the protocol is impossible, or `out_dir` holds another one's results.
    """
    _validate(config)
    if taken := sorted(_COLUMNS & labels.keys()):
        raise ValueError(f"labels: {taken} are the engine's own columns; rename them")
    out_dir = Path(out_dir)
    groups = _finished_groups(out_dir, _protocol(config, driver.execute, labels))

    def rows() -> list[Row]:
        return [row for name in config.tasks for row in groups.get(name, [])]

    jobs = [_Job(config, name, driver, out_dir, labels) for name in config.tasks if name not in groups]
    select_gl_backend()  # once, not in every worker
    for job, group in run_jobs(_run_group, jobs, config.workers):
        groups[job.task] = group
        write_whole(out_dir / "results.jsonl", "".join(json.dumps(row) + "\n" for row in rows()))
        on_group(len(groups), len(config.tasks), rows())
    return rows()


def rollout(
    policy: ChunkPolicy, config: RolloutConfig, out_dir: Path, name: str, labels: dict[str, Any] | None = None
) -> list[Row]:
    """Roll a policy out, showing it pictures; `name` and `labels` become columns of every row."""
    driver = PolicyDriver(policy, config.cameras, config.image_size, config.execute)
    return roll_out(driver, config, out_dir, {"policy": name, **(labels or {})})


def rollout_expert(config: RolloutConfig, out_dir: Path) -> list[Row]:
    """Meta-World's scripted expert, replanning at every decision: the ceiling."""
    return roll_out(ExpertDriver(), config, out_dir, {"policy": "expert"})


def rollout_random(config: RolloutConfig, out_dir: Path) -> list[Row]:
    """Uniformly random commands: the floor."""
    return roll_out(RandomDriver(config.execute), config, out_dir, {"policy": "random"})
