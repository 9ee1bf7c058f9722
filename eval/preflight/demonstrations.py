"""Recorded episodes to play again: raw actions and states, and the case of the suite they began as."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_mixtures.lerobot.layout import EXECUTED_COLUMN
from data_mixtures.readers.lerobot import LeRobotReader, is_lerobot
from eval.suite import Case, Suite

_LABELLED = 100  # episodes whose actions are read for their statistics


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode.

    Attributes:
        key: Its name in the data set.
        case: Where it began, in the suite's terms; `max_steps` lets all of it be played.
        instruction: As recorded.
        actions: float32 [T, A], raw columns, as they were carried out.
        states: float32 [T, d], raw columns.
        fps: Actions a second.
        cameras: Names of what was filmed.
        frames: (camera, numbers int64 [n]) -> uint8 [n, H, W, 3].
    """

    key: str
    case: Case
    instruction: str
    actions: np.ndarray
    states: np.ndarray
    fps: float
    cameras: Sequence[str]
    frames: Callable[[str, np.ndarray], np.ndarray]

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class Demonstrations:
    """What a folder of recordings gives a preflight.

    Attributes:
        chosen: To be played again.
        labels: Actions float32 [n, A] of many episodes, raw columns, as a policy is to learn them: without noise that
            was carried out on top.
    """

    chosen: Sequence[Demonstration]
    labels: np.ndarray


def read_demonstrations(folder: Path, suite: Suite, count: int) -> Demonstrations:
    """Recorded successes of the suite's tasks, up to `count` of them to be played, of as many tasks as possible.

    Args:
        folder: A LeRobot data set as `vla data generate` and the record stage write it, or a run's folder with one in
            `data`: its episodes' info names the task, and the seed or initial state.
        suite: Whose cases they are.
        count: At most so many are to be played.

    Raises:
        ValueError: the folder is no such data set, or has no success of the suite's tasks.
    """
    root = folder if is_lerobot(folder) or not is_lerobot(folder / "data") else folder / "data"
    if not is_lerobot(root):
        raise ValueError(f"demonstrations: {folder} is no LeRobot data set; name a folder that holds meta/info.json")
    reader = _reader(root)
    first_case = {name: case for case in reversed(suite.cases()) for name in (case.task, f"{case.suite}/{case.task}")}
    chosen = _chosen([reader.info(index) for index in range(len(reader))], set(first_case), len(reader))
    if not chosen:
        raise ValueError(
            f"demonstrations: {folder} holds no recorded success of {suite.name}'s tasks "
            f"({', '.join(sorted(first_case))}); name a data set of this suite"
        )
    labels = [reader.raw_columns(index, ["action"])["action"] for index in chosen[:_LABELLED]]
    return Demonstrations(
        [_demonstration(reader, index, first_case) for index in chosen[:count]], np.concatenate(labels)
    )


def _reader(root: Path) -> LeRobotReader:
    """With the robot it names if that is known; raw columns are read either way."""
    try:
        return LeRobotReader(root)
    except ValueError:
        return LeRobotReader(root, video_only=True)


def _chosen(infos: Sequence[Mapping[str, Any]], tasks: set[str], count: int) -> list[int]:
    """Episodes in turn: the first of each task, then the second of each, ...; failures and other tasks left out."""
    rounds: dict[str, int] = {}
    order: list[tuple[int, int]] = []
    for index, info in enumerate(infos):
        task = task_of(info)
        if task in tasks and info.get("success", True) and info.get("kind", "expert") == "expert":
            rounds[task] = rounds.get(task, 0) + 1
            order.append((rounds[task], index))
    return [index for _, index in sorted(order)[:count]]


def task_of(info: Mapping[str, Any]) -> str:
    """The task's name as an episode's info has it, alone or behind its suite's."""
    return str(info.get("environment", ""))


def _options(info: Mapping[str, Any]) -> dict[str, Any]:
    """What the case's options are to be, where the recording began elsewhere than the suite's cases do."""
    return {name.removeprefix("option."): value for name, value in info.items() if name.startswith("option.")}


def _demonstration(reader: LeRobotReader, index: int, first_case: Mapping[str, Case]) -> Demonstration:
    episode = reader.episode(index)
    columns = reader.raw_columns(index, ["observation.state", "action", EXECUTED_COLUMN])
    info, actions = reader.info(index), columns["action"]
    like = first_case[task_of(info)]
    case = replace(
        like,
        init=int(info.get("init", info.get("seed", like.init))),
        seed=int(info.get("seed", like.seed)),
        max_steps=max(like.max_steps, len(actions) + 1),
        options={**like.options, **_options(info)},
    )
    return Demonstration(
        key=reader.key(index),
        case=case,
        instruction=episode.instruction,
        actions=columns.get(EXECUTED_COLUMN, actions),
        states=columns["observation.state"],
        fps=episode.fps,
        cameras=tuple(reader.cameras),
        frames=lambda camera, numbers: reader.frames(index, camera, numbers),
    )
