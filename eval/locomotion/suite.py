"""Hopper and HalfCheetah as data: which robot, which initial states, under which protocol."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.gl_backend import select_gl_backend
from eval.locomotion.recording import RECORDED_SEEDS_FROM
from eval.locomotion.tasks import ACTION_REPEAT, EPISODE_STEPS, Robot, locomotion_task
from eval.suite import Case, Column


@dataclass(frozen=True)
class LocomotionSuite:
    """Seeded initial states of one robot; the fields are what a recipe's `suite.locomotion` may say.

    There is no success: rows carry `readings` (see simulator.py), and tables of `measure: return` are made of these.

    Attributes:
        robot: hopper or halfcheetah.
        episodes: Initial states.
        seed0: They are drawn with the seeds seed0 .. seed0 + episodes - 1.
        action_repeat: Simulator steps of each decision, a divisor of 1000; 1 for policies of D4RL's own data.
        execute: Decisions carried out of each chunk before the policy is asked again.
        snapshots: A recording's snapshots.npz, whose expert `policy: expert` plays; it changes nothing else.
    """

    robot: Robot
    episodes: int = 50
    seed0: int = 0
    action_repeat: int = ACTION_REPEAT
    execute: int = 1
    snapshots: str | None = None

    quoted = "any"
    past_success = None
    max_slots = 64  # 1 MB each
    simulator = "eval.locomotion.simulator:LocomotionSimulator"

    def __post_init__(self) -> None:
        locomotion_task(self.robot)
        for field, least in {"episodes": 1, "seed0": 0, "action_repeat": 1, "execute": 1}.items():
            if (value := getattr(self, field)) < least:
                raise ValueError(f"{field}: {value} is too small; use {least} or more")
        if EPISODE_STEPS % self.action_repeat:
            raise ValueError(f"action_repeat: {self.action_repeat} does not divide an episode's {EPISODE_STEPS} steps")
        if self.execute > self._decisions:
            raise ValueError(f"execute: {self.execute} is longer than an episode; use {self._decisions} or less")
        if self.seed0 + self.episodes > RECORDED_SEEDS_FROM:
            raise ValueError(
                f"seed0: {self.seed0} + {self.episodes} episodes reach the seeds of recordings "
                f"({RECORDED_SEEDS_FROM} and up); choose a smaller seed0"
            )

    @property
    def name(self) -> str:
        """`locomotion_hopper` or `locomotion_halfcheetah`: a policy is of one robot."""
        return f"locomotion_{self.robot}"

    @property
    def options(self) -> dict[str, Any]:
        """What the simulator is made with."""
        return {"snapshots": self.snapshots}

    @property
    def protocol(self) -> dict[str, Any]:
        """Fixed length (CLAM, appendix E), nothing rewarded after a fall, and both normalisations' references."""
        task = locomotion_task(self.robot)
        return {
            "name": "fixed_length",
            "robot": self.robot,
            "action_repeat": self.action_repeat,
            "control_hz": task.step_hz / self.action_repeat,
            "execute": self.execute,
            "past_success": self.past_success,
            "quoted": self.quoted,
            "max_steps": self._decisions,
            "after_a_fall": "lies still, reward 0",
            "normalised_return": "(return - random) / (expert - random)",
            "normalised_by": asdict(task.stand_in),
            "d4rl_normalised_by": asdict(task.d4rl),
        }

    @property
    def state(self) -> Sequence[Column]:
        """What is observed; positions along x are not."""
        return locomotion_task(self.robot).state_columns

    @property
    def action(self) -> Sequence[Column]:
        """Torques."""
        return locomotion_task(self.robot).action_columns

    def python(self) -> Path:
        """This interpreter; how films are drawn is chosen here, once, and not again by every simulator's process."""
        with suppress(RuntimeError):  # without a backend all but films can still be had
            select_gl_backend()
        return Path(sys.executable)

    def cases(self) -> list[Case]:
        """Seeds in order; an initial state is known by its seed."""
        seeds = range(self.seed0, self.seed0 + self.episodes)
        options = {"action_repeat": self.action_repeat}
        return [Case(self.name, self.robot, seed, seed, self._decisions, options=options) for seed in seeds]

    @property
    def _decisions(self) -> int:
        return EPISODE_STEPS // self.action_repeat
