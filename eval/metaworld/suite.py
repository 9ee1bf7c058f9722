"""Meta-World as data: which tasks, which initial states, under which protocol."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.gl_backend import select_gl_backend
from eval.metaworld.columns import ACTION, state_columns
from eval.metaworld.episode import ACTION_REPEAT, LONGEST_EPISODE, SIMULATOR_STEP_HZ, Observation
from eval.metaworld.parts import RECORDED_SEEDS_FROM
from eval.metaworld.renderer import CAMERAS
from eval.metaworld.tasks import SUBSETS, metaworld_task
from eval.suite import Case, Column

Subset = Literal["mt10", "mt50", "clam"]

_LEAST = {
    "episodes": 1,
    "seed0": 0,
    "execute": 1,
    "action_repeat": 1,
    "max_decisions": 1,
    "image_size": 16,
    "past_success": 0,
}


@dataclass(frozen=True)
class MetaWorldSuite:
    """Seeded initial states of Meta-World tasks; the fields are what a recipe's `suite.metaworld` may say.

    Attributes:
        tasks: Names from eval/metaworld/tasks.py, each with its own limit of decisions there.
        subset: Instead of tasks: MT10, MT50 or the four tasks of CLAM.
        episodes: Initial states a task.
        seed0: They are drawn with the seeds seed0 .. seed0 + episodes - 1.
        execute: Decisions carried out of each chunk before the policy is asked again.
        observation: The state it is shown: the `robot`'s four numbers, or the `full` 39 that Meta-World observes.
        action_repeat: Simulator steps each of its actions is carried out for.
        max_decisions: Actions an episode has at most, instead of the tasks' own limits.
        cameras: The pictures it is shown, from `corner` and `wrist`, if any; the first one, or `corner`, is filmed.
        image_size: Pixels a side of what it is shown.
        past_success: An episode ends this many decisions after its first success (the final reading is taken there);
            None lets it run to the task's limit.
    """

    tasks: tuple[str, ...] = ()
    subset: Subset | None = None
    episodes: int = 20
    seed0: int = 0
    execute: int = 8
    observation: Observation = "robot"
    action_repeat: int = ACTION_REPEAT
    max_decisions: int | None = None
    cameras: tuple[str, ...] = CAMERAS
    image_size: int = 64
    past_success: int | None = 8

    quoted = "any"
    max_slots = 20  # 40 MB each
    simulator = "eval.metaworld.simulator:MetaWorldSimulator"

    def __post_init__(self) -> None:
        if bool(self.tasks) == (self.subset is not None):
            raise ValueError(
                "tasks: name at least one task, or a subset (mt10, mt50, clam), not both; for some tasks of a recipe "
                "that names a subset: --suite.metaworld.subset null --suite.metaworld.tasks '[reach-v3]'"
            )
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks: {list(self.tasks)} names one twice")
        for name in self.tasks:
            metaworld_task(name)
        for field, least in _LEAST.items():
            if (value := getattr(self, field)) is not None and value < least:
                raise ValueError(f"{field}: {value} is too small; use {least} or more")
        if unknown := sorted(set(self.cameras) - set(CAMERAS)):
            raise ValueError(f"cameras: Meta-World has no {unknown}; choose from {list(CAMERAS)}")
        for name in self._names:
            if (steps := self._limit(name) * self.action_repeat) > LONGEST_EPISODE:
                raise ValueError(
                    f"max_decisions: {self._limit(name)} of {name} with action_repeat {self.action_repeat} are {steps} "
                    f"simulator steps, and Meta-World stops after {LONGEST_EPISODE}; choose fewer"
                )
        if self.seed0 + self.episodes > RECORDED_SEEDS_FROM:
            raise ValueError(
                f"seed0: {self.seed0} + {self.episodes} episodes reach the seeds of recordings "
                f"({RECORDED_SEEDS_FROM} and up); choose a smaller seed0"
            )

    @property
    def name(self) -> str:
        """`metaworld`, or `metaworld_mt10` and so on for a subset."""
        return f"metaworld_{self.subset}" if self.subset else "metaworld"

    @property
    def options(self) -> dict[str, Any]:
        """What the simulator is made with."""
        return {
            "cameras": list(self.cameras),
            "image_size": self.image_size,
            "observation": self.observation,
            "action_repeat": self.action_repeat,
        }

    @property
    def protocol(self) -> dict[str, Any]:
        """Our own: initial states by seed. Nothing published has the same; CLAM's has these steps and limits."""
        return {
            "name": "seeded",
            "cameras": list(self.cameras),
            "image_size": self.image_size,
            "action_repeat": self.action_repeat,
            "control_hz": round(SIMULATOR_STEP_HZ / self.action_repeat, 3),
            "execute": self.execute,
            "past_success": self.past_success,
            "quoted": self.quoted,
            "max_steps": {name: self._limit(name) for name in self._names},
            # Unsaid where it is the robot's, as in rows from before there was another.
            **({} if self.observation == "robot" else {"observation": self.observation}),
        }

    @property
    def state(self) -> Sequence[Column]:
        """By `observation`."""
        return state_columns(self.observation)

    @property
    def action(self) -> Sequence[Column]:
        """Commands; 1 moves the hand's target 0.01 m in each of a decision's simulator steps."""
        return ACTION

    @property
    def _names(self) -> tuple[str, ...]:
        return SUBSETS[self.subset] if self.subset else self.tasks

    def _limit(self, name: str) -> int:
        return self.max_decisions or metaworld_task(name).max_decisions

    def python(self) -> Path:
        """This interpreter; how it draws is chosen here, once, and not again by every simulator's process."""
        with suppress(RuntimeError):  # without a backend a driver that looks at nothing can still be rolled out
            select_gl_backend()
        return Path(sys.executable)

    def cases(self) -> list[Case]:
        """Task after task, seeds in order; an initial state is known by its seed."""
        return [
            Case(self.name, name, seed, seed, self._limit(name))
            for name in self._names
            for seed in range(self.seed0, self.seed0 + self.episodes)
        ]
