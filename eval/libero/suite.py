"""LIBERO's suites as data: tasks, initial states and protocol. No simulator is imported here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.environments import python_of, simulators_folder
from eval.libero.assets import assets_folder
from eval.libero.install import LIBERO
from eval.libero.protocols import PROTOCOLS, Preset, Protocol
from eval.libero.tasks import TASKS
from eval.suite import Case, Column

INITIAL_STATES = 50
"""That each of the 130 tasks ships with."""

SuiteName = Literal["libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"]


@dataclass(frozen=True)
class LiberoSuite:
    """One of LIBERO's suites; the fields are what a recipe's `suite.libero` may say.

    Attributes:
        suite: "libero_spatial", "libero_object", "libero_goal", "libero_10" (long) or "libero_90".
        tasks: Numbers of some of its tasks, in the benchmark's order from 0; empty for all.
        preset: Whose protocol: "openpi", "openvla" or "lerobot" (eval/libero/protocols.py says what each sets).
        trials: Episodes a task; 0: the preset's. Fewer are not what is published.
        first_trial: The initial state the first one starts in.
        execute: Actions of each chunk carried out before the policy is asked again; 0: the preset's.
        image_size: Pixels a side of both pictures; 0: the preset's.
        max_steps: Actions an episode has at most; 0: the preset's for this suite.
    """

    suite: SuiteName
    tasks: tuple[int, ...] = ()
    preset: Preset = "openpi"
    trials: int = 0
    first_trial: int = 0
    execute: int = 0
    image_size: int = 0
    max_steps: int = 0

    simulator = "eval.libero.simulator:LiberoSimulator"
    past_success = 0
    quoted = "any"
    max_slots = 1  # a compiled task takes about 1 GB

    def __post_init__(self) -> None:
        if self.suite not in TASKS:
            raise ValueError(f"suite: LIBERO has no {self.suite!r}; choose from {list(TASKS)}")
        if self.preset not in PROTOCOLS:
            raise ValueError(f"preset: there is no {self.preset!r}; choose from {list(PROTOCOLS)}")
        preset = PROTOCOLS[self.preset]
        given = {"trials": preset.trials, "execute": preset.execute, "image_size": preset.image_size}
        for field, value in {**given, "max_steps": preset.max_steps[self.suite]}.items():
            if getattr(self, field) < 0:
                raise ValueError(f"{field}: {getattr(self, field)} is too small; use 1 or more")
            if getattr(self, field) == 0:
                object.__setattr__(self, field, value)
        count = len(TASKS[self.suite])
        if unknown := [number for number in self.tasks if not 0 <= number < count]:
            raise ValueError(f"tasks: {self.suite} has no task {unknown}; it has 0 to {count - 1}")
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks: {list(self.tasks)} names one twice")
        if self.first_trial < 0:
            raise ValueError(f"first_trial: {self.first_trial} is too small; the first initial state is 0")
        if self.first_trial + self.trials > INITIAL_STATES:
            raise ValueError(
                f"trials: {self.trials} from initial state {self.first_trial} on are more than the {INITIAL_STATES} a "
                "task has; play repeats with another engine.policy_seed"
            )
        if not 16 <= self.image_size <= 640:
            raise ValueError(f"image_size: {self.image_size} is out of range; choose 16 to 640")

    @property
    def name(self) -> str:
        """What tables are made of."""
        return self.suite

    @property
    def _preset(self) -> Protocol:
        return PROTOCOLS[self.preset]

    @property
    def options(self) -> dict[str, Any]:
        """What the simulator is made with."""
        return {
            "assets": str(assets_folder(simulators_folder())),
            "image_size": self.image_size,
            "settle_steps": self._preset.settle_steps,
            "gripper": self._preset.gripper,
        }

    @property
    def protocol(self) -> dict[str, Any]:
        """Everything that decides the number; the same for all suites, so that their mean means something."""
        preset = self._preset
        return {
            "name": self.preset,
            "cameras": {"image": "agentview", "wrist_image": "robot0_eye_in_hand"},
            "image_size": self.image_size,
            "turned_degrees": 180,
            "state": "eef position, axis-angle with the quaternion's sign kept, two fingers",
            "action": "pose change relative to the hand, 1 = 0.05 m or 0.5 rad",
            "gripper": preset.gripper,
            "control_hz": 20,
            "settle_steps": preset.settle_steps,
            "seed": preset.seed,
            "seeded": preset.seeded,
            "max_steps": {**preset.max_steps, self.suite: self.max_steps},
            "execute": self.execute,
            "past_success": self.past_success,
            "quoted": self.quoted,
        }

    @property
    def state(self) -> Sequence[Column]:
        """World frame; ranges as the arm can reach."""
        return (
            *(Column(f"eef_{axis}", "m", low, high) for axis, low, high in (("x", -1, 1), ("y", -1, 1), ("z", 0, 2))),
            *(Column(f"axis_angle_{axis}", "rad", -6.2832, 6.2832) for axis in "xyz"),
            Column("gripper_opening", "m", 0.0, 0.04),
            Column("other_finger", "m, -0.04 open, 0 closed", -0.04, 0.0),
        )

    @property
    def action(self) -> Sequence[Column]:
        """Commands of the pose controller, and the gripper's as the protocol has it."""
        own = self._preset.gripper == "-1 opens, +1 closes"
        gripper = Column("gripper_closing", "1", -1.0, 1.0) if own else Column("gripper_opening", "1", 0.0, 1.0)
        return (
            *(Column(f"delta_{axis}", "0.05 m", -1.0, 1.0) for axis in "xyz"),
            *(Column(f"delta_axis_angle_{axis}", "0.5 rad", -1.0, 1.0) for axis in "xyz"),
            gripper,
        )

    def python(self) -> Path:
        """LIBERO's own interpreter."""
        return python_of(LIBERO)

    def cases(self) -> list[Case]:
        """Task after task, initial states in order."""
        names = TASKS[self.suite]
        return [
            self._case(names[number], trial)
            for number in self.tasks or range(len(names))
            for trial in range(self.first_trial, self.first_trial + self.trials)
        ]

    def _case(self, task: str, trial: int) -> Case:
        preset = self._preset
        if preset.seeded == "once a task":
            seed, resets = preset.seed, trial
        else:
            seed, resets = preset.seed + trial, 0
        return Case(self.suite, task, trial, seed, self.max_steps, options={"resets": resets})
