"""A process that trains the tiny stage: run alone, or as several ranks by `launch.py`.

    python worker.py '[{"run": "/folder", "loop": {...}, "optim": {...}, "parallel": {...}, ...}, ...]'

Runs them one after another, so that several kinds of parallelism share one start. `kill_at`: SIGKILL itself, or
`interrupt_at`: SIGINT, while that step's batch is made on rank 0.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tiny_stage import TinyEvaluator, TinyMixture, TinyStage

from data_mixtures.batch import Batch
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig
from vla.train.distributed import leave
from vla.train.interrupt import Interrupted
from vla.train.loop import train


class SignallingMixture(TinyMixture):
    """Sends this process a signal when a sample id is asked for."""

    def __init__(self, bad: Sequence[int], number: signal.Signals, at: int) -> None:
        super().__init__(tuple(bad))
        self.number, self.at = number, at

    def batch(self, sample_ids: Sequence[int]) -> Batch:
        if self.at in sample_ids:
            os.kill(os.getpid(), self.number)
        return super().batch(sample_ids)


def run(job: dict) -> None:
    loop = LoopConfig(**job["loop"])
    step, number = job.get("kill_at"), signal.SIGKILL
    if "interrupt_at" in job:
        step, number = job["interrupt_at"], signal.SIGINT
    at = -1 if step is None else (step - 1) * loop.batch_size
    mixture = SignallingMixture(job.get("bad", ()), number, at)
    parallel = ParallelConfig(**job.get("parallel", {}))
    train(TinyStage(), mixture, loop, OptimConfig(**job["optim"]), parallel, Path(job["run"]), [TinyEvaluator()])


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)  # and with it, memory that nothing has written yet holds NaN
    try:
        for job in json.loads(sys.argv[1]):
            run(job)
    except Interrupted as interrupted:
        leave(int(interrupted.code or 0))
    leave()
