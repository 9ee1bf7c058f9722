"""The nouns of an evaluation, spoken on both sides of the socket: suite, case, view, episode, simulator.

    Suite (this process)                       Simulator (its own process, perhaps its own Python)
      cases, protocol, which Python    ──►       episode(case)  ──►  Episode: view, step, success, film
      engine ◄── View ── socket ── actions ──►

This file is imported in simulators' own environments: numpy and the standard library only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """One episode to play: what is fixed before a policy acts.

    Attributes:
        suite: For example "libero_spatial"; tables are made of these.
        task: Its name in the suite.
        init: Which initial state, in the protocol's order.
        seed: What the simulator is seeded with; the policy's draws follow from it and the step.
        max_steps: Actions an episode has at most (settling not counted).
        setting: A cell of the suite's grid where it has one, such as "visual_matching/urdf_alt".
        options: What the simulator must know beside, JSON values.
    """

    suite: str
    task: str
    init: int
    seed: int
    max_steps: int
    setting: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Unique in a run: an episode that is there already under this key is not played again."""
        return "/".join(part for part in (self.suite, self.task, self.setting, str(self.init)) if part)


@dataclass(frozen=True)
class View:
    """What a policy may see at one moment.

    Attributes:
        images: Camera -> uint8 [H, W, 3] RGB, upright as the protocol has it.
        state: float32 [state_dim], the robot's raw columns.
        instruction: What is to be done.
    """

    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    instruction: str


class Success(NamedTuple):
    """After one action: whether the task is solved now, and whether it was at any moment so far."""

    now: bool
    ever: bool


class Film(NamedTuple):
    """Frames uint8 [T, H, W, 3] of an episode that was played, and their rate."""

    frames: NDArray[np.uint8]
    fps: float


class Episode(Protocol):
    """One episode under way in a simulator."""

    def view(self) -> View:
        """Pictures drawn now, the state and the instruction."""
        ...

    def step(self, action: NDArray[np.float32]) -> Success:
        """Carry out one action [action_dim], in the robot's raw columns as its data sets hold them."""
        ...

    def expert(self) -> NDArray[np.float32]:
        """The scripted expert's action now; raises NotImplementedError where there is none."""
        ...

    def readings(self) -> dict[str, Any]:
        """What else the simulator says about how it went; JSON values, kept in the row."""
        ...

    def film(self, size: int) -> Film:
        """The episode from its start to now, `size` pixels high; not stepped afterwards."""
        ...


class SpentProcess(Exception):
    """Raised by `Simulator.episode`: the case wants a fresh process; the engine starts one and asks again.

    Only for simulators of one slot: whatever else was under way would be lost.
    """


class Simulator(Protocol):
    """What a simulator's process runs. Made with the keyword arguments of `Suite.options`."""

    def facts(self) -> dict[str, str]:
        """Versions of what decides the physics and the pictures, and `assets`: "official" or "stand-in"."""
        ...

    def episode(self, case: Case) -> Episode:
        """A fresh episode, settled; nothing of an earlier one survives in it."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass(frozen=True)
class Column:
    """One number of a state or an action: `name` in the field's terms, `unit` ("m", "rad", "1" for none), range."""

    name: str
    unit: str
    low: float
    high: float


class Suite(Protocol):
    """Tasks x initial states x protocol, as data: no simulator is imported where this lives.

    Its parts are read and never written: a frozen dataclass is one.
    """

    @property
    def name(self) -> str:
        """What it is called, such as "metaworld", "libero_spatial" or "simpler_widowx"."""
        ...

    @property
    def simulator(self) -> str:
        """Where its `Simulator` is, as "module:Class"."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """The keyword arguments that is made with, JSON values."""
        ...

    @property
    def protocol(self) -> Mapping[str, Any]:
        """Everything else that decides the number, JSON values.

        Its name, cameras, image size, settling, limits, `execute`, `past_success`, `quoted`. Rows of unequal protocols
        are never averaged.
        """
        ...

    @property
    def execute(self) -> int:
        """Actions of each chunk carried out before the policy is asked again."""
        ...

    @property
    def past_success(self) -> int | None:
        """Actions after the first success until the episode ends (0: at once; None: at the limit)."""
        ...

    @property
    def quoted(self) -> str:
        """The reading tables quote: "any" or "final"."""
        ...

    @property
    def state(self) -> Sequence[Column]:
        """The columns of `View.state`."""
        ...

    @property
    def action(self) -> Sequence[Column]:
        """The columns of an action."""
        ...

    @property
    def max_slots(self) -> int:
        """Episodes one simulator process can hold at a time."""
        ...

    def python(self) -> Path:
        """The interpreter its simulator runs in; ValueError says how to set it up where it is missing."""
        ...

    def cases(self) -> list[Case]:
        """Every episode, in the protocol's order."""
        ...
