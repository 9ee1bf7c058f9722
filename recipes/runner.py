"""Runs a pipeline's steps: starts each as its needs are met, shows how far it is, ends all when it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from recipes.axes import FilledStep
from recipes.fork_server import ForkServer
from recipes.writer_lock import in_use

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 60.0  # for a step to save itself


@dataclass(frozen=True)
class Step:
    """A step that is ready to be started: `loaded` is the recipe in `path` with `overrides`."""

    filled: FilledStep
    path: Path
    overrides: dict[str, Any]
    loaded: Any

    @property
    def name(self) -> str:
        """What it is called."""
        return self.filled.name

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return Path(self.filled.run)

    def is_done(self) -> bool:
        """Whether its folder is whole."""
        return self.loaded.is_done()

    @property
    def arguments(self) -> list[str]:
        """Of `vla`."""
        fields = [word for name, value in self.overrides.items() for word in (f"--{name}", json.dumps(value))]
        return ["run", str(self.path), *fields]


class Process(Protocol):
    """A step's process, whichever way it was started; what `subprocess.Popen` does."""

    def poll(self) -> int | None:
        """The exit code; None while it runs, negative of a signal."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """The same once it has ended."""
        ...

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        ...

    def kill(self) -> None:
        """Send SIGKILL."""
        ...


class Runner:
    """Starts steps as their needs are met, shows one progress line for each, ends children when it ends."""

    def __init__(self, root: Path, steps: Sequence[Step], workers: int, threads: int) -> None:
        self._steps, self._workers, self._threads = steps, workers, threads
        self._done = {step.name for step in steps if step.is_done()}
        self._folders = {step.name: step.folder for step in steps}
        self._server = ForkServer(threads, root / "log.txt")
        self._running: dict[str, Process] = {}
        self._elsewhere: set[str] = set()
        self._bars: dict[str, Any] = {}

    def run(self) -> None:
        """Run all that is not done.

        Raises:
            RuntimeError: a step failed; the message shows the end of its log.
        """
        console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as progress:
            try:
                while len(self._done) < len(self._steps):
                    self._start_ready(progress)
                    self._collect(progress)
                    time.sleep(_POLL_SECONDS)
            finally:
                self._stop()

    def _start_ready(self, progress: Progress) -> None:
        for step in self._steps:
            if len(self._running) >= self._workers:
                return
            if step.name in self._done or step.name in self._running or not self._done.issuperset(step.filled.needs):
                continue
            if self._is_made_elsewhere(step, progress):
                continue
            self._running[step.name] = self._launch(step)
            self._bars[step.name] = progress.add_task(step.filled.title, total=None, note="")

    def _is_made_elsewhere(self, step: Step, progress: Progress) -> bool:
        """Whether another pipeline is at work in a shared folder, or has been since this one began."""
        if in_use(step.folder):
            if step.name not in self._elsewhere:
                progress.console.print(f"waiting for {step.folder}, in which another process is at work")
            self._elsewhere.add(step.name)
            return True
        if step.is_done():
            self._finished(step.name, progress)
            return True
        return False

    def _launch(self, step: Step) -> Process:
        step.folder.mkdir(parents=True, exist_ok=True)
        log = step.folder / "log.txt"
        if step.filled.processes == 1:
            return self._server.start(step.arguments, log)
        # "--": without it torchrun takes the recipe's `--run` for an abbreviation of an option of its own.
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={step.filled.processes}", "-m", "--"]
        # Killed outright, the pipeline takes its steps along: the next `vla run` must not meet a second writer.
        command = [sys.executable, "-m", "recipes.parent", str(os.getpid()), *torchrun, "recipes.cli", *step.arguments]
        threads = str(self._threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        with log.open("ab") as file:
            # Its own process group: Ctrl-C reaches the child through `_stop`, once, and not twice.
            return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)

    def _collect(self, progress: Progress) -> None:
        for name, process in list(self._running.items()):
            code = process.poll()
            if code is None:
                self._show(name, progress)
                continue
            del self._running[name]
            if code != 0 and self._was_quicker(name):
                progress.remove_task(self._bars[name])
                continue
            progress.update(self._bars[name], total=1, completed=1, note="done" if code == 0 else "failed")
            if code != 0:
                tail = (self._folders[name] / "log.txt").read_text(errors="replace").strip().splitlines()[-12:]
                raise RuntimeError(f"step `{name}` failed (exit {code}):\n" + "\n".join(tail))
            self._finished(name, progress)

    def _was_quicker(self, name: str) -> bool:
        """Whether another pipeline took the folder between our look at it and our step's start; we wait for it then."""
        return in_use(self._folders[name]) or next(step for step in self._steps if step.name == name).is_done()

    def _finished(self, name: str, progress: Progress) -> None:
        self._done.add(name)
        if not progress.console.is_terminal:
            progress.console.print(f"done {name}  ({len(self._done)}/{len(self._steps)})")

    def _show(self, name: str, progress: Progress) -> None:
        """A training step says how far it is in the last line of its metrics."""
        if not progress.console.is_terminal:
            return
        try:
            last = json.loads((self._folders[name] / "metrics.jsonl").read_text().splitlines()[-1])
        except (OSError, ValueError, IndexError):
            return
        progress.update(self._bars[name], note=f"step {last['step']}  loss {float(last['loss']):.3f}")

    def _stop(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGINT)
        for process in self._running.values():
            try:
                process.wait(timeout=_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._server.close()
