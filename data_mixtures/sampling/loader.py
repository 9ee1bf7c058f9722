"""Cuts the sampler's ids into global batches, ranks and micro-batches, and gathers them ahead of the step.

    step s owns the ids [s * G, (s + 1) * G); micro-batch m of rank r takes the contiguous G / (accumulate * world)
    of them that start at (m * world + r) * G / (accumulate * world)

So the samples of a step are the same for every world size and accumulation, and a run resumes from its step alone.
"""

import queue
import threading
import time
from collections.abc import Iterator
from types import TracebackType

import torch

from data_mixtures.batch import Batch
from data_mixtures.sampling.workers import BatchSource, WorkerDiedError, WorkerPool

__all__ = ["BatchSource", "Loader", "WorkerDiedError"]

_LAST_BATCH_S = 60.0  # how long closing waits for the batch that is being gathered


class Loader:
    """Iterates over micro-batches forever: `accumulate` of them make this rank's share of one step.

    Args:
        mixture: where samples come from.
        global_batch: samples a step, over all ranks and micro-batches.
        accumulate: micro-batches a step.
        rank: this process's number, 0..world - 1.
        world: processes that train together.
        first_step: the step to start at (the number of steps done, when resuming).
        prefetch: micro-batches gathered ahead, by a background thread or by each of the workers; 0 gathers in the
            caller.
        workers: processes that gather; 0 leaves it to a thread of this one. The batches are the same.

    Attributes:
        wait_seconds: how long the caller has waited for data in all; over the step times it is the loader's share.
    """

    def __init__(
        self,
        mixture: BatchSource,
        *,
        global_batch: int,
        accumulate: int,
        rank: int,
        world: int,
        first_step: int,
        prefetch: int = 2,
        workers: int = 0,
    ) -> None:
        if global_batch < 1 or global_batch % (accumulate * world):
            raise ValueError(
                f"global_batch is {global_batch}, which {accumulate} accumulation steps x {world} ranks do not divide: "
                f"make it a multiple of {accumulate * world}"
            )
        if workers < 0 or (workers and prefetch < 1):
            raise ValueError(
                f"workers is {workers} with prefetch {prefetch}: workers must be at least 0, and when there are any, "
                "prefetch at least 1"
            )
        self.mixture, self.global_batch, self.first_step = mixture, global_batch, first_step
        self.accumulate, self.rank, self.world = accumulate, rank, world
        self.wait_seconds = 0.0
        self._stop = threading.Event()
        # A process that runs on a GPU copies from page-locked memory; another one has no use for it.
        self._device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
        self._thread: threading.Thread | None = None
        self._pool: WorkerPool | None = None
        self._batches: Iterator[Batch]
        if workers:
            pinned = self._device is not None
            self._pool = WorkerPool(mixture, self._ranges(), workers=workers, ahead=prefetch, pinned=pinned)
            self._batches = self._pool
        else:
            self._batches = self._prefetched(prefetch) if prefetch else self._gathered()

    def ids(self, step: int, micro: int) -> range:
        """The sample ids of this rank's `micro`-th micro-batch of a step."""
        size = self.global_batch // (self.accumulate * self.world)
        first = step * self.global_batch + (micro * self.world + self.rank) * size
        return range(first, first + size)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._stop.is_set():
            raise RuntimeError("the loader is closed: make a new one with first_step at the step to go on from")
        started = time.perf_counter()
        batch = next(self._batches)
        self.wait_seconds += time.perf_counter() - started
        return batch

    def close(self) -> None:
        """Stop the background thread, or the workers, which are gone afterwards."""
        self._stop.set()
        if self._thread is not None:  # a thread inside torch when the interpreter ends would abort the process
            self._thread.join(_LAST_BATCH_S)
        if self._pool is not None:
            self._pool.close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ranges(self) -> Iterator[range]:
        step = self.first_step
        while True:
            for micro in range(self.accumulate):
                yield self.ids(step, micro)
            step += 1

    def _gathered(self) -> Iterator[Batch]:
        return (self.mixture.batch(ids) for ids in self._ranges())

    def _prefetched(self, depth: int) -> Iterator[Batch]:
        ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=depth)
        self._thread = threading.Thread(target=self._fill, args=(ready,), daemon=True)
        self._thread.start()
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def _fill(self, ready: "queue.Queue[Batch | BaseException]") -> None:
        try:
            if self._device is not None:  # a new thread would be on the first GPU, and take memory there
                torch.cuda.set_device(self._device)
            for batch in self._gathered():
                if not _put(ready, batch if self._device is None else batch.pin_memory(), self._stop):
                    return
        except BaseException as error:  # handed to the caller, who raises it where the step waits
            _put(ready, error, self._stop)


def _put(ready: "queue.Queue[Batch | BaseException]", item: Batch | BaseException, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
