"""The engine's loop: idle slots get cases, episodes that wait get actions, deaths are mended."""

import queue
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.engine.config import EngineConfig
from eval.engine.drivers import Ask, Driver
from eval.engine.progress import Progress
from eval.engine.recorder import Recorder
from eval.engine.replies import Answer
from eval.engine.rows import Course
from eval.engine.workers import Report, Worker
from eval.suite import Case, Film, View

# Actions a scripted expert takes a request: long enough to cost nothing, short enough for a request's time limit.
_SCRIPTED_ACTIONS = 16


@dataclass
class Slot:
    """A place for one episode in a simulator process.

    Attributes:
        worker: Whose.
        index: Its number there.
        course: The episode under way; None where idle.
        waiting: For the simulator, not for the driver.
        filming: The episode is over and its film is awaited.
        ready_at: `time.monotonic()` when it began to wait for the driver.
        view: What the driver is to be shown.
        scene: Task and setting of the episode it plays, or played last.
    """

    worker: Worker
    index: int
    course: Course | None = None
    waiting: bool = False
    filming: bool = False
    ready_at: float = 0.0
    view: View | None = None
    scene: tuple[str, str] | None = None


def _scene(case: Case) -> tuple[str, str]:
    return case.task, case.setting


class Run:
    """Plays cases until each is finished or given up.

    Args:
        driver: What acts.
        config: How long it waits for a batch, and how often a case is tried.
        recorder: Told of every episode once.
        progress: Told of deaths.
        begins: Where each case's draws begin, by key, in the suite's order.
    """

    def __init__(
        self, driver: Driver, config: EngineConfig, recorder: Recorder, progress: Progress, begins: Mapping[str, int]
    ) -> None:
        self._driver, self._config, self._recorder, self._progress = driver, config, recorder, progress
        self._begins, self._places = begins, {key: place for place, key in enumerate(begins)}
        self._todo: deque[Case] = deque()
        self._blamed: Counter[str] = Counter()
        self._restarts: Counter[str] = Counter()
        self._slots: list[Slot] = []
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()

    def play(self, todo: Sequence[Case], slots: list[Slot], reports: "queue.SimpleQueue[Report]") -> None:
        """Play all of `todo` in `slots`, whose workers report to `reports`."""
        self._todo, self._slots, self._reports = deque(todo), slots, reports
        while self._todo or any(slot.course for slot in slots):
            self._take_reports()
            if self._idle_and_needed():
                self._refill()
            elif asking := [slot for slot in slots if slot.course and not slot.waiting]:
                self._plan(sorted(asking, key=self._place))

    # -- waiting -----------------------------------------------------------------------------------------------

    def _take_reports(self) -> None:
        """Digest what simulators say, until it is time to act."""
        while (seconds := self._patience()) is None or seconds > 0:
            try:
                self._digest(self._reports.get(timeout=seconds))
            except queue.Empty:
                break
        while not self._reports.empty():
            self._digest(self._reports.get())

    def _patience(self) -> float | None:
        """Seconds that a report is waited for, None for as long as it takes; 0 when it is time to act."""
        if not any(slot.waiting for slot in self._slots):
            return 0.0
        wait_ms = self._config.wait_ms if self._driver.batched else 0.0
        if wait_ms is None:
            # Idle slots, too, are filled when all others stand still: which case meets which others in a batch is
            # then no matter of timing.
            return None
        if self._idle_and_needed():
            return 0.0
        ready = [slot.ready_at for slot in self._slots if slot.course and not slot.waiting]
        return max(0.0, min(ready) + wait_ms / 1000 - time.monotonic()) if ready else None

    def _idle_and_needed(self) -> bool:
        return bool(self._todo) and any(slot.course is None for slot in self._slots)

    # -- cases -------------------------------------------------------------------------------------------------

    def _refill(self) -> None:
        for slot in self._slots:
            if slot.course is None and self._todo:
                case = self._next_for(slot.worker)
                slot.course, slot.scene = Course(case, began=time.perf_counter()), _scene(case)
                self._ask(slot, {"op": "reset", "case": asdict(case)})

    def _next_for(self, worker: Worker) -> Case:
        """The next case of a scene this simulator has at hand, else of one that fewest simulators have.

        A simulator keeps what is dear to make (compiled models, scenes) of what it has played last.
        """
        holders: dict[tuple[str, str], set[int]] = {}
        for slot in self._slots:
            if slot.scene is not None:
                holders.setdefault(slot.scene, set()).add(slot.worker.index)

        def rank(place: int) -> tuple[bool, int, int]:
            held = holders.get(_scene(self._todo[place]), set())
            return worker.index not in held, len(held), place

        best = min(range(len(self._todo)), key=rank)
        case = self._todo[best]
        del self._todo[best]
        return case

    def _place(self, slot: Slot) -> int:
        """In the suite's order, whoever answered first: batches are then put together alike."""
        assert slot.course is not None
        return self._places[slot.course.case.key]

    # -- requests ----------------------------------------------------------------------------------------------

    def _ask(self, slot: Slot, request: dict[str, Any]) -> None:
        slot.waiting, slot.view = True, None
        slot.worker.ask(slot.index, {**request, "slot": slot.index, "look": self._driver.looks})

    def _plan(self, asking: list[Slot]) -> None:
        if self._driver.scripted:
            for slot in asking:
                self._ask(slot, {"op": "step", "expert": _SCRIPTED_ACTIONS})
            return
        began = time.perf_counter()
        chunks = self._driver.plan([self._as_asked(slot) for slot in asking])
        seconds = time.perf_counter() - began
        for slot, chunk in zip(asking, chunks, strict=True):
            assert slot.course is not None
            slot.course.latencies_s.append(seconds)
            self._ask(slot, {"op": "step", "actions": np.asarray(chunk, np.float32)})

    def _as_asked(self, slot: Slot) -> Ask:
        assert slot.course is not None
        case, step = slot.course.case, slot.course.steps
        return Ask(case, step, self._begins[case.key] + step, slot.view)

    # -- reports -----------------------------------------------------------------------------------------------

    def _digest(self, report: Report) -> None:
        if report.error is not None:
            raise report.error
        if report.slot is None:
            self._recorder.meet(report.facts)
            return
        slot = next(s for s in self._slots if (s.worker.index, s.index) == (report.worker, report.slot))
        if report.answer is None:
            self._bury(slot, report.death or "it died")
        elif slot.filming:
            self._finish(slot, report.answer.film)
        else:
            self._advance(slot, report.answer)

    def _advance(self, slot: Slot, answer: Answer) -> None:
        course = slot.course
        assert course is not None
        if answer.flags:
            course.steps, course.last = answer.steps, answer.flags[-1]
        slot.view, slot.waiting, slot.ready_at = answer.view, False, time.monotonic()
        if not answer.over:
            return
        course.end(answer.readings or {})
        if self._recorder.wants_film(course):
            slot.filming = True
            self._ask(slot, {"op": "film", "size": self._config.video_size})
        else:
            self._finish(slot, None)

    def _finish(self, slot: Slot, film: Film | None) -> None:
        course = self._freed(slot)
        course.restarts = self._restarts[course.case.key]
        self._recorder.finish(course, film)

    def _freed(self, slot: Slot) -> Course:
        course = slot.course
        assert course is not None
        slot.course, slot.view, slot.waiting, slot.filming = None, None, False, False
        return course

    def _bury(self, guilty: Slot, reason: str) -> None:
        """A process died while it answered one slot: every episode in it begins again, before any other.

        The case that was being answered is to blame; after `attempts` deaths it is given up. One whose film killed
        the process was played, and goes without.
        """
        guilty.worker.generation += 1
        again: list[Case] = []
        for slot in self._slots:
            if slot.worker is not guilty.worker or slot.course is None:
                continue
            if slot.filming:
                self._progress.say(f"{slot.course.case.key}: no film, {reason}")
                self._finish(slot, None)
                continue
            course = self._freed(slot)
            self._restarts[course.case.key] += 1
            self._blamed[course.case.key] += slot is guilty
            if self._blamed[course.case.key] >= self._config.attempts:
                course.restarts = self._restarts[course.case.key]
                course.end({})
                self._recorder.give_up(course, reason)
            else:
                again.append(course.case)
        self._progress.say(f"simulator {guilty.worker.index}: {reason}; started again")
        self._todo.extendleft(reversed(again))
