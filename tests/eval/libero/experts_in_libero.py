"""What the tests of experts and recordings ask of LIBERO's own Python: run by path there, prints one line of JSON."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from eval.libero.demonstrator import Job, demonstrate, placement_seed
from eval.libero.experts.expert import Expert
from eval.libero.experts.scene import Scene
from eval.libero.task import SETTLING_ACTION, Task
from eval.libero.tasks import TASKS
from eval.libero.upstream import load_upstream

UPSTREAM = load_upstream(Path(os.environ["VLA_LIBERO_ASSETS"]))


def _settle(task: Task) -> None:
    for _ in range(10):
        task.step(SETTLING_ACTION)


def solves(tasks: list[tuple[str, int]], inits: int, max_steps: int) -> dict[str, int]:
    """Of the first `inits` initial states of each task, how many its expert solves at the first try."""
    solved = {}
    for suite, number in tasks:
        task = Task(UPSTREAM, suite, TASKS[suite][number])
        count = 0
        for init in range(inits):
            task.start(init, 7, init)
            _settle(task)
            expert = Expert(Scene(task.env))
            for _ in range(max_steps):
                task.step(expert.action())
                if task.success():
                    count += 1
                    break
        solved[f"{suite}/{number}"] = count
    return solved


def generation(suite: str, number: int) -> dict[str, Any]:
    """A demonstration made twice, its actions replayed, and how near its start is to any fixed initial state."""
    name = TASKS[suite][number]
    task = Task(UPSTREAM, suite, name)
    settings: dict[str, Any] = {"image_size": 32, "waypoint_jitter_m": 0.01, "noise": 0.15, "past_success": 8}
    job = Job("", suite, name, [0, 1], "", seed=5, max_steps=200, **settings)
    first, seed, _ = demonstrate(task, job, 0)
    other, _, _ = demonstrate(task, job, 1)
    again, _, _ = demonstrate(task, job, 0)
    task.scatter(seed)
    nearest = float(np.abs(task.initial_states[:, 1:] - _state(task)).max(axis=1).min())
    _settle(task)
    replayed = False
    for action in first.executed:
        task.step(action)
        replayed |= task.success()
    return {
        "equal": all(np.array_equal(a, b) for a, b in zip(first[:3], again[:3], strict=True)),
        "subtasks": [first.subtasks, again.subtasks],
        "differs": len(first.states) != len(other.states) or not np.array_equal(first.states, other.states),
        "noise": float(np.abs(first.executed - first.actions).max()),
        "replayed": replayed,
        "nearest": nearest,
        "seed": [seed, placement_seed(5, 0, 0)],
        "largest": float(np.abs(first.actions).max()),
        "steps": len(first.actions),
    }


def _state(task: Task) -> np.ndarray:
    return np.concatenate([task.data.qpos, task.data.qvel])


def main() -> None:
    """NAME and JSON arguments."""
    function = {"solves": solves, "generation": generation}[sys.argv[1]]
    sys.stdout.write("\n" + json.dumps(function(*json.loads(sys.argv[2]))) + "\n")


if __name__ == "__main__":
    main()
