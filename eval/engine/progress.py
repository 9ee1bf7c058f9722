"""How far a run is and how well it goes: a bar in a terminal, a line now and then where there is none."""

import time
from collections.abc import Iterable
from types import TracebackType

from rich import progress as bars
from rich.console import Console

from eval.intervals import wilson_interval
from eval.results.returns import NORMALISED, is_measured_by_return
from eval.results.row import EpisodeRow

_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Counts episodes; those that could not be played are named apart and are in no rate."""

    def __init__(self, name: str, total: int) -> None:
        console = Console(stderr=True, highlight=False)
        self._name, self._total = name, total
        self._lines = None if console.is_terminal else console
        self._said_at = time.monotonic()
        self._played = self._successes = self._errors = 0
        self._returns: list[float] = []
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=total, note="")

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def add(self, rows: Iterable[EpisodeRow]) -> None:
        """Count episodes that ended."""
        for row in rows:
            self._errors += row.error is not None
            self._played += row.error is None
            self._successes += row.error is None and row.success
            if row.error is None and is_measured_by_return(row):
                self._returns.append(float(row.readings[NORMALISED]))
        done = self._played + self._errors
        self._bar.update(self._task, completed=done, note=self.note())
        now = time.monotonic()
        if self._lines is not None and (done == self._total or now - self._said_at > _SECONDS_BETWEEN_LINES):
            self._said_at = now
            self._lines.print(f"{self._name}: {done} of {self._total} episodes, {self.note()}", soft_wrap=True)

    def say(self, words: str) -> None:
        """A line beside the count: something was mended."""
        self._bar.console.print(f"{self._name}: {words}", markup=False, soft_wrap=True)

    def note(self) -> str:
        """`success .62 [.48, .74]`, with Wilson's 95 % interval; or the mean normalised return."""
        words = "none played yet"
        if self._returns:
            words = f"normalised return {sum(self._returns) / len(self._returns):.2f}"
        elif self._played:
            low, high = wilson_interval(self._successes, self._played)
            words = f"success {self._successes / self._played:.2f} [{low:.2f}, {high:.2f}]"
        return f"{words}, {self._errors} not played" if self._errors else words
