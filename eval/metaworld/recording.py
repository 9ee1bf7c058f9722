"""Recording Meta-World demonstrations as a LeRobot v3.0 data set.

Episodes are simulated first and drawn only if kept; each task is a part (parts.py).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_mixtures.lerobot.layout import EXECUTED_COLUMN
from data_mixtures.lerobot.writer import LeRobotWriter
from eval.metaworld.behaviours import KINDS, Kind, Manner
from eval.metaworld.episode import ACTION_REPEAT, SIMULATOR_STEP_HZ
from eval.metaworld.parts import (
    EPISODES_PER_SEED,
    Part,
    Scene,
    Wanted,
    environment_seed,
    record_in_parts,
    recorded_episodes,
)
from eval.metaworld.renderer import CAMERAS
from eval.metaworld.tasks import metaworld_task
from eval.subtasks import subtask_spans

ROBOT_TYPE = "metaworld_sawyer"


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


def check_cameras(cameras: Sequence[str], image_size: int) -> None:
    """ValueError where Meta-World has no such camera, or videos no such size."""
    if unknown := sorted(set(cameras) - set(CAMERAS)):
        raise ValueError(f"cameras: Meta-World has no {unknown}; choose from {list(CAMERAS)}")
    if image_size < 16 or image_size % 2:
        raise ValueError(f"image_size: {image_size} must be even and at least 16 (H.264 needs even sizes)")


def _validate(config: RecordConfig) -> None:
    if not config.tasks or len(set(config.tasks)) != len(config.tasks):
        raise ValueError(f"tasks: {list(config.tasks)} must name at least one task, and none twice")
    for name in config.tasks:
        metaworld_task(name)
    if not config.cameras:
        raise ValueError(f"cameras: name at least one of {list(CAMERAS)}")
    check_cameras(config.cameras, config.image_size)
    counts = asdict(config.episodes)
    if min(counts.values()) < 0 or not 0 < sum(counts.values()) <= EPISODES_PER_SEED:
        raise ValueError(f"episodes: {counts} must be 0 or more each, 1 to {EPISODES_PER_SEED} together")
    if config.max_mixed_decisions < config.min_decisions:
        raise ValueError(
            f"max_mixed_decisions: {config.max_mixed_decisions} is below min_decisions {config.min_decisions}; raise it"
        )
    if config.seed < 0:
        raise ValueError(f"seed: {config.seed} must be 0 or more")


def _kinds_in_order(counts: KindCounts) -> list[Kind]:
    return [kind for kind in KINDS for _ in range(getattr(counts, kind))]


def _part(config: RecordConfig, name: str, folder: Path) -> Part:
    task = metaworld_task(name)
    longest = {"expert": max(task.max_decisions, config.min_decisions)}
    wanted = tuple(
        Wanted(
            kind,
            environment_seed(config.seed, index, attempt=0),
            "success" if kind == "expert" else "any",
            longest.get(kind, config.max_mixed_decisions),
        )
        for index, kind in enumerate(_kinds_in_order(config.episodes))
    )
    scene = Scene(name, ACTION_REPEAT, "robot", config.cameras, config.image_size)
    manner = Manner(config.expert_noise, config.past_success, config.min_decisions, watch_contacts=True)
    return Part(folder / f"{name}.npz", scene, manner, wanted)


def _add_part(writer: LeRobotWriter, part: Part) -> None:
    task = metaworld_task(part.scene.task)
    for episode in recorded_episodes(part):
        writer.add_episode(
            frames=episode.frames,
            columns={
                "observation.state": episode.states,
                "action": episode.commands,
                EXECUTED_COLUMN: episode.executed,
            },
            task=task.instruction,
            subtasks=subtask_spans(episode.states[:, 3], episode.touched, task.part, task.act),
            info=episode.info,
        )


def _merge(config: RecordConfig, parts: Sequence[Part], root: Path) -> None:
    size = (config.image_size, config.image_size)
    writer = LeRobotWriter(
        root,
        fps=round(SIMULATOR_STEP_HZ / ACTION_REPEAT),  # LeRobot's fps is an integer; the true rate is 26.7
        robot_type=ROBOT_TYPE,
        cameras=dict.fromkeys(config.cameras, size),
        features={"observation.state": 4, "action": 4, EXECUTED_COLUMN: 4},
    )
    for part in parts:
        _add_part(writer, part)
    writer.finish()


def fingerprint_of(config: Any) -> str:
    """What of a configuration decides bytes: all but the number of processes."""
    return json.dumps({k: v for k, v in asdict(config).items() if k != "workers"}, indent=2, sort_keys=True)


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
    folder = root.with_name(root.name + ".parts")
    parts = [_part(config, name, folder) for name in config.tasks]
    merges = {root: partial(_merge, config, parts)}
    record_in_parts(fingerprint_of(config), parts, folder, merges, config.workers)
    return root
