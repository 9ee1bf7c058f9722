"""What a run folder says, and processes that write one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from vla.train.tracking import TIMING_FIELDS

ROOT = Path(__file__).parents[2]
PATIENCE_S = 200


def losses(run: Path) -> list[dict[str, float]]:
    """metrics.jsonl without what time alone decides."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMING_FIELDS} for row in rows]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def done(run: Path) -> dict[str, Any]:
    return json.loads((run / "done.json").read_text())


def environment() -> dict[str, str]:
    """A user's: without what a launcher or this test session set."""
    dropped = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    return {k: v for k, v in os.environ.items() if k not in dropped} | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(folder: Path, *command: str) -> "subprocess.Popen[str]":
    """`python -m COMMAND` in a folder; its words go to one pipe. It minds Ctrl-C even where these tests do not."""
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    """Wait for an exit code; returns what was said."""
    try:
        said, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == code, f"exit code {process.returncode}, expected {code}:\n{said[-4000:]}"
    return said


def wait_for_step(run: Path, step: int, process: "subprocess.Popen[str]") -> None:
    """Return as soon as a run in the making has written that step's metrics."""
    until = time.monotonic() + PATIENCE_S
    path = run / "metrics.jsonl"
    while not path.exists() or path.read_bytes().count(b"\n") < step:
        assert process.poll() is None, f"ended before step {step} of {run}:\n{finish(process, process.returncode)}"
        assert time.monotonic() < until, f"no step {step} in {run} after {PATIENCE_S} s"
        time.sleep(0.005)


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    """Return as soon as a file is there."""
    until = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert process.poll() is None, f"ended without {path}:\n{finish(process, process.returncode)}"
        assert time.monotonic() < until, f"no {path} after {PATIENCE_S} s"
        time.sleep(0.01)


def descendants(pid: int) -> list[int]:
    """Every process below a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, children) for found in (child, *descendants(child))]


def kill_outright(process: "subprocess.Popen[str]") -> list[int]:
    """kill -9 to this one process; returns those below it that outlive it by 20 s."""
    below = descendants(process.pid)
    assert below, "there was nothing to leave behind"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    until = time.monotonic() + 20
    while (alive := [pid for pid in below if _is_alive(pid)]) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    return alive


def _is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"  # a zombie runs no more, whoever has yet to collect it


def files(folder: Path) -> dict[str, int]:
    """Every file below a folder, but the locks, with the time of its last change (ns)."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in found}
