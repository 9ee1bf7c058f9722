"""A thread beside each simulator process, so that the engine's loop waits for all of them at one queue."""

import queue
import threading
from dataclasses import dataclass, field
from typing import Any

from eval.engine.process import SimulatorDied, SimulatorProcess
from eval.engine.replies import Answer
from eval.suite import SpentProcess

# A simulator that dies this often in a row before it is ready will not come up at all.
_STARTS = 3


@dataclass(frozen=True)
class Report:
    """What a worker has to say: that its simulator is up, an answer for a slot, or why there is none.

    Attributes:
        worker: Its index.
        slot: Whose request it was; None for a start.
        facts: What a simulator that started says of itself.
        answer: The simulator's.
        death: The process was killed for this reason, and all its episodes are gone.
        error: To be raised in the engine: nothing that playing again would mend.
    """

    worker: int
    slot: int | None = None
    facts: dict[str, str] = field(default_factory=dict)
    answer: Answer | None = None
    death: str | None = None
    error: Exception | None = None


class Worker:
    """Carries out requests for one process in turn, and starts it again after a death.

    Requests carry the generation of the process they were meant for: what was asked of one that has died since is
    dropped without a report.
    """

    def __init__(self, index: int, process: SimulatorProcess, reports: "queue.SimpleQueue[Report]") -> None:
        self.index, self.generation = index, 0
        self._process, self._reports = process, reports
        self._requests: queue.SimpleQueue[tuple[int, int, dict[str, Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"simulator-{index}", daemon=True)
        self._stopping = False

    def start(self) -> None:
        """Start the thread, and in it the process; its facts are the first report."""
        self._thread.start()

    def ask(self, slot: int, request: dict[str, Any]) -> None:
        """Queue a request; its reply comes as a report."""
        self._requests.put((self.generation, slot, request))

    def stop(self) -> None:
        """End the process; what is under way is not waited for."""
        self._stopping = True
        self._requests.put(None)

    def join(self) -> None:
        """Wait for the thread; a request under way has the process's own time limit."""
        if self._thread.is_alive():
            self._thread.join()

    def kill(self) -> None:
        """End the process even in the middle of a request."""
        self._stopping = True
        self._process.kill()
        self._requests.put(None)

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self._say(error=error)
        finally:
            self._process.close()

    def _serve(self) -> None:
        generation = 0
        self._bring_up()
        while (item := self._requests.get()) is not None:
            meant_for, slot, request = item
            if meant_for != generation:
                continue
            try:
                self._say(slot, answer=self._answer(request))
            except SimulatorDied as death:
                if self._stopping:
                    return
                generation += 1
                self._say(slot, death=str(death))
                self._bring_up()

    def _answer(self, request: dict[str, Any]) -> Answer:
        try:
            return self._process.ask(request)
        except SpentProcess as spent:
            self._bring_up()
            if self._stopping:
                raise SimulatorDied(str(spent)) from spent
            return self._process.ask(request)

    def _bring_up(self) -> None:
        for attempt in range(_STARTS):
            try:
                self._say(facts=self._process.start())
                return
            except SimulatorDied as death:
                if self._stopping:
                    return
                if attempt == _STARTS - 1:
                    raise RuntimeError(f"the simulator did not start, {_STARTS} times: {death}") from death

    def _say(self, slot: int | None = None, **more: Any) -> None:
        self._reports.put(Report(self.index, slot, **more))
