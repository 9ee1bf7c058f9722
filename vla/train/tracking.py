"""What a run says while it runs: metrics.jsonl, and a progress bar where someone is looking."""

import contextlib
import json
import math
import os
import resource
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

import torch
from rich import progress as bars
from rich.console import Console

from data_mixtures.storage.whole_file import write_whole
from vla.train.checkpoint import Progress
from vla.train.distributed import World

TIMING_FIELDS = ("samples_per_s", "data_wait_share", "seconds")
"""The fields of a metrics line that differ between two runs of the same recipe."""


class MetricsFile:
    """metrics.jsonl: one JSON object a line, in step order.

    Opening it to go on after `step` drops the lines beyond that step, and one a kill cut in half, so that the file of
    a resumed run is that of a run never stopped. Numbers are written exactly (Python's repr round-trips); one that is
    not finite, which JSON cannot hold, is written as null.
    """

    def __init__(self, path: Path, step: int, writing: bool) -> None:
        self._file: TextIO | None = None
        if writing:
            kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
            write_whole(path, "".join(f"{line}\n" for line in kept))
            self._file = path.open("a")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append the line of one step, if this rank is the one that writes."""
        if self._file is not None:
            line = {"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()}
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def sync(self) -> None:
        """Bring the lines to disk: a checkpoint must not be ahead of them."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def __enter__(self) -> "MetricsFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


def _whole_lines(path: Path) -> list[str]:
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [line.strip() for line in lines if line.endswith("}\n")]


class Rate:
    """Speed since it was last asked."""

    def __init__(self, step: int, batch_size: int) -> None:
        self._step, self._batch_size = step, batch_size
        self._time, self._wait = time.perf_counter(), 0.0

    def since_last(self, step: int, wait_seconds: float) -> dict[str, float]:
        """samples_per_s and data_wait_share, given how far the run is and how long it has waited for data in all."""
        now = time.perf_counter()
        seconds, samples = max(now - self._time, 1e-9), (step - self._step) * self._batch_size
        waited = wait_seconds - self._wait
        self._step, self._time, self._wait = step, now, wait_seconds
        return {"samples_per_s": samples / seconds, "data_wait_share": min(1.0, waited / seconds)}


class Spent:
    """Time and memory a run has cost, over all its interruptions; `began` is this process's perf_counter at entry."""

    def __init__(self, began: float, progress: Progress, world: World) -> None:
        self._progress, self._world = progress, world
        self._began = began - progress.wall_seconds
        self._waited = progress.wait_seconds

    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self._began

    def record(self, wait_seconds: float) -> None:
        """Write time, wait and the largest process's peak memory into the progress; all ranks call it together."""
        progress = self._progress
        progress.wall_seconds = self.seconds()
        progress.wait_seconds = self._waited + wait_seconds
        peak = int(self._world.maximum(_peak_memory_bytes(self._world.device)))
        progress.peak_memory_bytes = max(progress.peak_memory_bytes, peak)


class ProgressBar:
    """A bar on standard error, or a line every `every` steps where that is no terminal; silent but on the main rank."""

    def __init__(self, name: str, steps: int, done: int, visible: bool, every: int) -> None:
        console = Console(stderr=True, highlight=False)
        self._lines = console if visible and not console.is_terminal else None
        self._name, self._steps, self._every = name, steps, every
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=console,
            disable=not (visible and console.is_terminal),
        )
        self._task = self._bar.add_task(name, total=steps, completed=done, note="")

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def show(self, step: int, loss: float) -> None:
        """Move to `step`."""
        self._bar.update(self._task, completed=step, note=f"loss {loss:.4f}")
        if self._lines is not None and (step % self._every == 0 or step == self._steps):
            self._lines.print(f"{self._name}: step {step} of {self._steps}, loss {loss:.4f}", soft_wrap=True)


def restart_peak_memory(device: torch.device) -> None:
    """Forget the peak so far, so that a stage is not charged with what ran before it in this process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access("/proc/self/clear_refs", os.W_OK):
        with contextlib.suppress(OSError):  # some containers forbid it: the peak is then the whole process's
            Path("/proc/self/clear_refs").write_text("5")  # 5: reset VmHWM (Linux, proc(5))


def _peak_memory_bytes(device: torch.device) -> int:
    """The most this process held since `restart_peak_memory`: GPU memory, or resident memory on CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
