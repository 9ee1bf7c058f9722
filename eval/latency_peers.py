"""Other projects' public code as contestants: each in its own interpreter, ordered about over a pipe."""

import json
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RUNNERS = Path(__file__).parents[1] / "benchmarks" / "peers"


class PeerError(RuntimeError):
    """A peer cannot take part; the message says why."""


@dataclass(frozen=True)
class PeerOptions:
    """What a runner is told: weights, what their shapes do not tell, and the settings all contestants share."""

    weights: Path
    horizon: int
    vision_heads: int
    head_dim: int
    dtype: str
    device: str
    threads: int
    compiled: bool

    def arguments(self) -> list[str]:
        """As a runner's command line."""
        words = [f"--{name.replace('_', '-')}={value}" for name, value in vars(self).items() if name != "compiled"]
        return [*words, "--compiled"] if self.compiled else words


class Peer:
    """A running peer.

    Args:
        name: lerobot or openpi.
        options: Of its runner.
        log: File for what it says besides its answers.

    Raises:
        PeerError: Its interpreter is not named, is not there, or it stopped.
    """

    def __init__(self, name: str, options: PeerOptions, log: Path) -> None:
        self.name = name
        variable = f"VLA_{name.upper()}_PYTHON"
        python, script = os.environ.get(variable), RUNNERS / f"{name}_runner.py"
        if not python:
            raise PeerError(f"set {variable} to the python of an environment that has {name} (docs/inference.md)")
        if not Path(python).is_file():
            raise PeerError(f"{variable} is {python}, and there is no such file")
        if not script.is_file():
            raise PeerError("the runners of peers come with the source tree only: clone the repository")
        self._log = log
        command = [python, str(script), *options.arguments()]
        environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
        self._answer()

    def case(self, inputs: Path, outputs: Path) -> np.ndarray:
        """Take a case (.npz, as `vla parity` reads them) and sample it once: actions [B, S, A]."""
        self._order({"order": "case", "inputs": str(inputs), "outputs": str(outputs)})
        return np.load(outputs)

    def run(self) -> float:
        """Sample the case again; seconds."""
        return float(self._order({"order": "run"})["seconds"])

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            raise PeerError(self._last_words())
        with suppress(BrokenPipeError):  # it has stopped; its last words follow
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self.close()
        raise PeerError(self._last_words())

    def _last_words(self) -> str:
        said = [words for words in self._log.read_text().splitlines() if words.strip()]
        return f"it stopped: {said[-1] if said else f'exit status {self._process.returncode}'}"
