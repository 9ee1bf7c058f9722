"""A simulator of nothing, with faults to order: what the engine is tested against. Runs in the child's process."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval.suite import Case, Column, Film, Success, View


class FakeEpisode:
    """Solved once the first column of its actions has summed to `case.options["goal"]`."""

    def __init__(self, case: Case, faults: Path | None) -> None:
        self.case, self._faults = case, faults
        self.total, self.steps, self.ever = 0.0, 0, False
        self.noise = np.random.default_rng(case.seed)

    def view(self) -> View:
        picture = np.full((4, 6, 3), self.steps % 256, np.uint8)
        state = np.array([self.total, self.case.seed, self.steps], np.float32)
        if self._fault("nan"):
            state[0] = np.nan
        return View({"front": picture}, state, f"do {self.case.task}")

    def step(self, action: np.ndarray) -> Success:
        if self._fault("hang"):
            time.sleep(3600)
        if self._fault("die"):
            os._exit(7)
        if self._fault("raise"):
            raise ValueError("the physics exploded")
        self.steps += 1
        self.total += float(action[0])
        now = self.total >= self.case.options["goal"]
        self.ever |= now
        time.sleep(self.case.options.get("seconds", 0.0))
        return Success(now, self.ever)

    def _fault(self, kind: str) -> bool:
        """Whether to do this wrong now: as often as `<kind>-<task>-<init>` in the folder has bytes left."""
        path = self._faults and self._faults / f"{kind}-{self.case.task}-{self.case.init}"
        if not path or not path.exists() or self.steps < 3 or not (left := path.read_bytes()):
            return False
        path.write_bytes(left[1:])
        return True

    def expert(self) -> np.ndarray:
        if self.case.task == "nobody":
            raise NotImplementedError("nobody wrote one")
        return np.array([1.0, 0.0], np.float32)

    def readings(self) -> dict[str, Any]:
        return {"total": self.total}

    def film(self, size: int) -> Film:
        if self._fault("film"):
            os._exit(9)
        return Film(np.zeros((self.steps, size, size, 3), np.uint8), 10.0)


class FakeSimulator:
    """`faults` is a folder of what is to go wrong (see `FakeEpisode._fault`); `log` gets a line an episode begun."""

    def __init__(self, faults: str | None = None, log: str | None = None, refuses: str | None = None) -> None:
        if refuses == "options":
            raise ValueError("faults: give a folder")
        if refuses == "start":
            os._exit(3)
        self._faults = Path(faults) if faults else None
        self._log = Path(log) if log else None

    def facts(self) -> dict[str, str]:
        return {"fake": "1.0", "assets": "own"}

    def episode(self, case: Case) -> FakeEpisode:
        if self._log:
            with self._log.open("a") as file:
                file.write(f"{case.key} {os.getpid()}\n")
        return FakeEpisode(case, self._faults)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class FakeSuite:
    """`tasks` x `inits`; a goal of init + 2 steps of the expert."""

    tasks: tuple[str, ...] = ("lift", "push")
    inits: int = 4
    options: Mapping[str, Any] = field(default_factory=dict)
    execute: int = 4
    past_success: int | None = 2
    max_steps: int = 12
    max_slots: int = 3
    seconds: float = 0.0
    name: str = "fake"
    simulator: str = "tests.eval.engine.fake_simulator:FakeSimulator"
    quoted: str = "any"
    state: Sequence[Column] = tuple(Column(n, "1", -100, 100) for n in ("total", "seed", "steps"))
    action: Sequence[Column] = (Column("gain", "1", -1, 1), Column("nothing", "1", -1, 1))

    @property
    def protocol(self) -> dict[str, Any]:
        return {"name": "fake", "execute": self.execute, "past_success": self.past_success, "quoted": self.quoted}

    def python(self) -> Path:
        import sys

        return Path(sys.executable)

    def cases(self) -> list[Case]:
        return [
            Case("fake", task, init, 100 + init, self.max_steps, options={"goal": init + 2, "seconds": self.seconds})
            for task in self.tasks
            for init in range(self.inits)
        ]
