"""Steps start as forks of a process that has imported what they need: importing it costs 4 CPU-seconds, a fork 0.05.

The pipeline starts `python -m recipes.fork_server` once. That process imports, does nothing else (no thread is started,
no number drawn, no device touched), and forks for every step. A step is a session of its own, writes its words to its
log, and ends with the server, which ends with the pipeline: see recipes/parent.py. Both sides talk through one socket
of whole messages in JSON.
"""

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from recipes.parent import die_with

_LONGEST = 1 << 20  # bytes of a message
_POLL_SECONDS = 0.02
PRELOADED = (
    *("recipes.cli", "recipes.table", "recipes.checks", "recipes.provenance", "data_mixtures.transitions"),
    *("vla.train.loop", "vla.policy", "eval.engine.engine", "eval.engine.drivers", "safetensors.torch"),
    *("lam.clam.stage", "lam.clam.policy_stage", "lam.clam.relabel", "lam.clam.agent", "eval.engine.ensembling"),
    "torch._dynamo",  # an optimiser's first step imports it
)


class ForkedStep:
    """A step's process, as `subprocess.Popen` would show it."""

    def __init__(self, server: "ForkServer", number: int) -> None:
        self._server, self._number = server, number

    def poll(self) -> int | None:
        """The exit code; None while it runs, negative of a signal."""
        return self._server.code(self._number)

    def wait(self, timeout: float | None = None) -> int:
        """The same once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not after `timeout` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("step", timeout or 0.0)
            time.sleep(_POLL_SECONDS)
        return code

    def send_signal(self, sig: int) -> None:
        """Send it a signal; nothing where it has ended."""
        self._server.send({"signal": int(sig), "step": self._number})

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The pipeline's side; the process is started with the first step.

    Args:
        threads: Of every step's arithmetic.
        log: Where the words of the server itself go.
        program: Module whose `main(arguments)` a step is.
        preloaded: Modules that are imported once for all steps.
    """

    def __init__(
        self, threads: int, log: Path, program: str = "recipes.cli", preloaded: Sequence[str] = PRELOADED
    ) -> None:
        self._threads, self._log = threads, log
        self._modules = [program, *preloaded]
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._codes: dict[int, int | None] = {}

    def start(self, arguments: list[str], log: Path) -> ForkedStep:
        """Run the program with these arguments in a process of its own that writes its words to `log`."""
        if self._process is None:
            self._start()
        number = len(self._codes)
        self._codes[number] = None
        self.send({"step": number, "arguments": arguments, "log": str(log)})
        return ForkedStep(self, number)

    def code(self, number: int) -> int | None:
        """How a step ended; None while it runs.

        Raises:
            RuntimeError: the server has ended, and its steps with it.
        """
        while self._codes[number] is None and self._channel and select.select([self._channel], [], [], 0)[0]:
            message = _received(self._channel)
            if not message:
                self._codes = {n: -signal.SIGKILL if c is None else c for n, c in self._codes.items()}
                raise RuntimeError(f"the process that starts the steps has ended; its last words are in {self._log}")
            said = json.loads(message)
            self._codes[said["step"]] = said["code"]
        return self._codes[number]

    def send(self, message: dict[str, Any]) -> None:
        """Ask the server; one that has ended is noticed by `code`."""
        if self._channel is not None:
            try:
                self._channel.sendall(json.dumps(message).encode())
            except (BrokenPipeError, ConnectionResetError):
                return

    def close(self) -> None:
        """End the server, and with it whatever it still runs."""
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.wait()
        self._process = self._channel = None

    def _start(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        numbers = [str(os.getpid()), str(theirs.fileno())]
        command = [sys.executable, "-m", "recipes.fork_server", *numbers, *self._modules]
        with theirs, self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment(self._threads)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the steps once, through the pipeline
            )


def _received(channel: socket.socket) -> bytes:
    """The next message; nothing where the other side has ended."""
    try:
        return channel.recv(_LONGEST)
    except ConnectionResetError:  # it ended with our message unread
        return b""


def environment(threads: int) -> dict[str, str]:
    """What is set before the server imports: no import may start a thread, for a fork copies one only."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's: its threads start with the import, and a fork would lose them
        "JE_ARROW_MALLOC_CONF": "background_thread:false",  # Arrow's second allocator has a thread of its own too
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking whether there is CUDA must not open it before a fork
    }


def _serve(channel: socket.socket) -> list[str] | None:
    """Fork for every step asked for; returns the step's arguments in its process, None where the server is done."""
    steps: dict[int, int] = {}  # number -> process
    while True:
        asked, _, _ = select.select([channel], [], [], _POLL_SECONDS)
        if asked:
            message = channel.recv(_LONGEST)
            if not message:
                return None
            order = json.loads(message)
            number = order["step"]
            if "signal" in order:
                if number in steps:
                    os.kill(steps[number], order["signal"])
            elif pid := _fork(order["log"], channel):
                steps[number] = pid
            else:
                return order["arguments"]
        for number, pid in list(steps.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del steps[number]
                channel.sendall(json.dumps({"step": number, "code": os.waitstatus_to_exitcode(status)}).encode())


def _fork(log: str, channel: socket.socket) -> int:
    """As `os.fork`; the child is a session of its own whose words go to the log."""
    server = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    die_with(server)
    os.setsid()
    channel.close()
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(words, 1)
    os.dup2(words, 2)
    os.close(words)
    _forget_draws()
    return 0


def _forget_draws() -> None:
    """NumPy's global generator starts anew, as in a process of its own; Python's does so by itself."""
    import numpy as np

    np.random.seed()


def _code(program: Any, arguments: list[str]) -> int:
    """Run a step; its exit code, what it does not catch said as an interpreter would."""
    try:
        return program.main(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def _leave(code: int) -> NoReturn:
    """End as an interpreter does, but leave memory to the kernel: to take torch apart would cost 0.3 CPU-seconds."""
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]  # joins threads, as in multiprocessing's forks
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _main() -> int:
    parent, channel = int(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))
    die_with(parent)
    program, *_ = [importlib.import_module(name) for name in sys.argv[3:]]
    gc.collect()
    gc.freeze()  # what is there stays in pages that the forks share
    arguments = _serve(channel)
    if arguments is None:
        return 0
    sys.argv = ["vla", *arguments]
    _leave(_code(program, arguments))


if __name__ == "__main__":
    sys.exit(_main())
