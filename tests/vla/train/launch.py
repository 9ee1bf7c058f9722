"""Starts worker.py as torchrun would, without the seconds torchrun itself takes to start."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from vla.train.tracking import TIMING_FIELDS

WORKER = Path(__file__).with_name("worker.py")
ROOT = Path(__file__).parents[3]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(jobs: list[dict], ranks: int = 1, worker: Path = WORKER) -> list["subprocess.Popen[str]"]:
    """The processes of one launch; with one rank no launcher's variables are set."""
    base = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    base |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    port = str(_free_port())
    return [
        subprocess.Popen(
            [sys.executable, str(worker), json.dumps(jobs)],
            env=base | (_launcher_variables(rank, ranks, port) if ranks > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]


def _launcher_variables(rank: int, ranks: int, port: str) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }


def finish(processes: list["subprocess.Popen[str]"], code: int = 0, timeout_s: int = 600) -> str:
    """Wait for rank 0 to end with `code`, and what it said. When it fails the others are ended, as torchrun does."""
    try:
        said, _ = processes[0].communicate(timeout=timeout_s)
        assert processes[0].returncode == code, f"exit code {processes[0].returncode}:\n{said[-4000:]}"
        for process in processes[1:] if code == 0 else []:
            output, _ = process.communicate(timeout=timeout_s)
            assert process.returncode == 0, f"exit code {process.returncode}:\n{output[-4000:]}"
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return said


def launch(jobs: list[dict], ranks: int = 1, code: int = 0, worker: Path = WORKER) -> str:
    """Run jobs to their end in `ranks` processes."""
    return finish(start(jobs, ranks, worker), code)


def lines(run: Path) -> list[dict]:
    """metrics.jsonl without what time alone decides."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMING_FIELDS} for line in found]
