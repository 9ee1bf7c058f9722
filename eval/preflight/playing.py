"""One simulator to look at: cases begun, actions carried out, views drawn only where they are wanted."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.engine.process import ModuleFolder, SimulatorProcess
from eval.engine.replies import Answer
from eval.suite import Case, Suite, View

Ask = Callable[[dict[str, Any]], Answer]


class Stepped(NamedTuple):
    """After some actions: whether the task was solved at any moment, whether the episode is over, and a view."""

    success: bool
    over: bool
    view: View | None


class Player:
    """Asks a simulator as the engine does.

    Args:
        ask: Sends a request of `eval/engine/child.py` and gives its answer.
        facts: What the simulator says of itself.
    """

    def __init__(self, ask: Ask, facts: dict[str, str]) -> None:
        self._ask, self.facts = ask, facts

    def reset(self, case: Case) -> View:
        """Begin a case and look."""
        view = self._begun(case, look=True).view
        assert view is not None
        return view

    def begin(self, case: Case) -> None:
        """Begin a case without drawing anything."""
        self._begun(case, look=False)

    def _begun(self, case: Case, look: bool) -> Answer:
        return self._ask({"op": "reset", "slot": 0, "look": look, "case": {**asdict(case)}})

    def step(self, actions: np.ndarray, look: bool) -> Stepped:
        """Carry out actions [k, A] in turn, up to the episode's end; the view is None there, or if not to `look`."""
        actions = np.ascontiguousarray(actions, dtype=np.float32)
        answer = self._ask({"op": "step", "slot": 0, "actions": actions, "look": look})
        return Stepped(any(flag.ever for flag in answer.flags), answer.over, answer.view)


@contextmanager
def open_player(suite: Suite, timeout_s: float) -> Iterator[Player]:
    """A simulator in its own process, ended on leaving.

    Raises:
        ValueError: it is not set up, or refuses its options; its words.
    """
    with tempfile.TemporaryDirectory(prefix="vla-preflight-") as folder:
        modules = ModuleFolder(suite.simulator)
        process = SimulatorProcess(suite, suite.python(), modules.path, Path(folder) / "simulator.log", timeout_s)
        try:
            yield Player(process.ask, process.start())
        finally:
            process.close()
            modules.close()
