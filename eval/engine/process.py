"""One simulator process: started in its own Python, asked with a time limit, killed when it hangs."""

import importlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from eval.engine.channel import Channel
from eval.engine.replies import Answer, BadReply, answer_of
from eval.suite import SpentProcess, Suite

# What a simulator's Python may see of ours; its own site-packages stay its own.
_PACKAGES = ("eval", "vla", "data_mixtures")

_GRACE_SECONDS = 5.0
_QUOTED_LINES = 6


class SimulatorDied(RuntimeError):
    """The process hung, ended or answered garbage; it is killed, and its episodes are gone."""


class ModuleFolder:
    """A private folder with links to our packages, and to the one the simulator is in: the children's PYTHONPATH.

    Args:
        simulator: "module:Class".
    """

    def __init__(self, simulator: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="vla-simulators-"))  # mode 0700
        for name in dict.fromkeys((*_PACKAGES, simulator.partition(".")[0])):
            for place in importlib.import_module(name).__path__:
                (self.path / name).symlink_to(Path(place).resolve(), target_is_directory=True)

    def close(self) -> None:
        """Remove the links."""
        shutil.rmtree(self.path, ignore_errors=True)


class SimulatorProcess:
    """A running child, from `start` to `stop`.

    The thread that calls `start` must outlive the process: the kernel ends a child with the thread that made it.
    """

    def __init__(self, suite: Suite, python: Path, modules: Path, log: Path, timeout_s: float) -> None:
        self._suite, self._python, self._modules = suite, python, modules
        self._log, self._timeout_s = log, timeout_s
        self._process: subprocess.Popen | None = None
        self._channel: Channel | None = None

    def start(self) -> dict[str, str]:
        """Start it and make its simulator; what it says of itself.

        Raises:
            ValueError: the simulator refuses its options or cannot be made here; its words.
            SimulatorDied: it ended or hung before it was ready.
        """
        ours, its = socket.socketpair()
        command = [str(self._python), "-m", "eval.engine.child", str(its.fileno()), str(os.getpid())]
        with its, self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                pass_fds=[its.fileno()],
                start_new_session=True,  # Ctrl-C is the engine's to handle
            )
        self._channel = Channel(ours)
        reply = self._reply(
            {
                "op": "hello",
                "simulator": self._suite.simulator,
                "options": dict(self._suite.options),
                "past_success": self._suite.past_success,
            }
        )
        if not isinstance(facts := reply.get("facts"), dict):
            raise self._died("it did not say what it is")
        return facts

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, "PYTHONPATH": str(self._modules), "PYTHONUNBUFFERED": "1"}
        environment.pop("PYTHONHOME", None)
        # A process a core: more threads only wait for each other.
        environment.setdefault("OMP_NUM_THREADS", "1")
        return environment

    def ask(self, request: dict[str, Any]) -> Answer:
        """The answer to a `reset`, `step` or `film` request.

        Raises:
            ValueError: the simulator refuses, in words for the user.
            SpentProcess: it wants to be replaced before this request; it is stopped.
            SimulatorDied: it hung, died, answered garbage, or something in it broke.
        """
        reply = self._reply(request)
        try:
            return answer_of(reply, request["op"], request["look"], len(self._suite.state))
        except BadReply as error:
            raise self._died(f"it answered garbage to `{request['op']}`: {error}") from error

    def _reply(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._channel is not None
        try:
            self._channel.send(request, self._timeout_s)
            reply = self._channel.receive(self._timeout_s)
        except TimeoutError as error:
            raise self._died(f"it hung: no answer to `{request['op']}` in {self._timeout_s:g} s") from error
        except (OSError, EOFError) as error:
            raise self._died(f"it died during `{request['op']}`{self._status()}") from error
        except ValueError as error:
            raise self._died(f"it answered garbage to `{request['op']}`: {error}") from error
        if "error" in reply:
            raise self._refusal(str(reply["error"]), str(reply.get("kind")), request)
        return reply

    def _refusal(self, words: str, kind: str, request: dict[str, Any]) -> Exception:
        if kind == "SpentProcess":
            self.stop()
            return SpentProcess(words)
        if kind == "NotImplementedError":
            return ValueError(f"{self._suite.name} has no scripted expert here: {words}")
        if kind == "ValueError" and request["op"] != "step":  # what a start or a case asks for is the user's to mend
            return ValueError(words)
        return self._died(f"`{request['op']}` failed: {words}")

    def _status(self) -> str:
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_GRACE_SECONDS)
            return f" (signal {signal.Signals(-code).name})" if code < 0 else f" (exit status {code})"
        return ""

    def _died(self, reason: str) -> SimulatorDied:
        self.stop()
        return SimulatorDied(f"{reason}{self._last_words()}")

    def _last_words(self) -> str:
        with suppress(OSError), self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - 4000))
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
            if lines:
                return f"; {self._log} ends: " + " | ".join(lines[-_QUOTED_LINES:])
        return ""

    def close(self) -> None:
        """Let it free what it holds, then `stop`."""
        if self._channel is not None and self._process is not None:
            self._channel.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_SECONDS)
        self.stop()

    def kill(self) -> None:
        """End it and all it started, from any thread; whoever waits for its answer learns that it died."""
        process = self._process
        if process is not None and process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End it at once and forget it; safe to call twice."""
        if self._channel is not None:
            self._channel.close()
        self.kill()
        if self._process is not None:
            self._process.wait()
        self._channel = self._process = None
