"""Running independent jobs in processes that end when their parent does."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_POLL_SECONDS = 1.0


def _exit_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)


def _watch_parent(parent: int) -> None:
    # A pool's worker waits on its queue for ever if the parent is killed; nothing would ever stop it.
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()


def run_jobs(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Result]]:
    """Yield (job, function(job)) as they finish; in this process and in order if `workers` is 1.

    Processes are spawned, so `function`, jobs and results must be picklable, and nothing is shared with this one.
    The first error is raised here, and jobs not yet begun are dropped.
    """
    if workers < 1:
        raise ValueError(f"workers: {workers} is not a number of processes; use 1 or more")
    if workers == 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, function(job)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), get_context("spawn"), initializer=_watch_parent, initargs=(os.getpid(),)
    )
    try:
        pending = {pool.submit(function, job): job for job in jobs}
        for future in as_completed(pending):
            yield pending[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
