"""Meta-World as data: which tasks, which initial states, under which protocol."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.gl_backend import select_gl_backend
from eval.metaworld.episode import ACTION_REPEAT, SIMULATOR_STEP_HZ
from eval.metaworld.parts import RECORDED_SEEDS_FROM
from eval.metaworld.renderer import CAMERAS
from eval.metaworld.tasks import SUBSETS, metaworld_task
from eval.suite import Case, Column

Subset = Literal["mt10", "mt50", "clam"]


@dataclass(frozen=True)
class MetaWorldSuite:
    """Seeded initial states of Meta-World tasks; the fields are what a recipe's `suite.metaworld` may say.

    Attributes:
        tasks: Names from eval/metaworld/tasks.py, each with its own limit of decisions there.
        subset: Instead of tasks: MT10, MT50 or the four tasks of CLAM.
        episodes: Initial states a task.
        seed0: They are drawn with the seeds seed0 .. seed0 + episodes - 1.
        execute: Decisions carried out of each chunk before the policy is asked again.
        cameras: What the policy is shown, from `corner` and `wrist`; the first one is filmed.
        image_size: Pixels a side of what it is shown.
        past_success: An episode ends this many decisions after its first success (the final reading is taken there);
            None lets it run to the task's limit.
    """

    tasks: tuple[str, ...] = ()
    subset: Subset | None = None
    episodes: int = 20
    seed0: int = 0
    execute: int = 8
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
        for field, least in {"episodes": 1, "seed0": 0, "execute": 1, "image_size": 16, "past_success": 0}.items():
            if (value := getattr(self, field)) is not None and value < least:
                raise ValueError(f"{field}: {value} is too small; use {least} or more")
        if not self.cameras or (unknown := sorted(set(self.cameras) - set(CAMERAS))):
            named = f"Meta-World has no {unknown}" if self.cameras else "there is none"
            raise ValueError(f"cameras: {named}; choose from {list(CAMERAS)}")
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
        return {"cameras": list(self.cameras), "image_size": self.image_size}

    @property
    def protocol(self) -> dict[str, Any]:
        """Our own: seeds, a decision of three simulator steps and limits by task; nothing published has the same."""
        return {
            "name": "seeded",
            "cameras": list(self.cameras),
            "image_size": self.image_size,
            "action_repeat": ACTION_REPEAT,
            "control_hz": round(SIMULATOR_STEP_HZ / ACTION_REPEAT, 3),
            "execute": self.execute,
            "past_success": self.past_success,
            "quoted": self.quoted,
            "max_steps": {name: metaworld_task(name).max_decisions for name in self._names},
        }

    @property
    def state(self) -> Sequence[Column]:
        """End effector in the world frame and gripper opening; ranges as the arm can reach."""
        return (
            Column("eef_x", "m", -0.6, 0.6),
            Column("eef_y", "m", 0.2, 1.1),
            Column("eef_z", "m", -0.1, 0.8),
            Column("gripper_opening", "1", 0.0, 1.0),
        )

    @property
    def action(self) -> Sequence[Column]:
        """Commands; 1 moves the hand's target 0.01 m in each of a decision's simulator steps."""
        return (
            Column("delta_x", "1", -1.0, 1.0),
            Column("delta_y", "1", -1.0, 1.0),
            Column("delta_z", "1", -1.0, 1.0),
            Column("gripper_closing", "1", -1.0, 1.0),
        )

    @property
    def _names(self) -> tuple[str, ...]:
        return SUBSETS[self.subset] if self.subset else self.tasks

    def python(self) -> Path:
        """This interpreter; how it draws is chosen here, once, and not again by every simulator's process."""
        with suppress(RuntimeError):  # without a backend a driver that looks at nothing can still be rolled out
            select_gl_backend()
        return Path(sys.executable)

    def cases(self) -> list[Case]:
        """Task after task, seeds in order; an initial state is known by its seed."""
        return [
            Case(self.name, name, seed, seed, metaworld_task(name).max_decisions)
            for name in self._names
            for seed in range(self.seed0, self.seed0 + self.episodes)
        ]
