"""Cuts the sampler's ids into global batches, ranks and micro-batches, and gathers them ahead of the step.

    step s owns the ids [s * G, (s + 1) * G); micro-batch m of rank r takes the contiguous G / (accumulate * world)
    of them that start at (m * world + r) * G / (accumulate * world)

So the samples of a step are the same for every world size and accumulation, and a run resumes from its step alone.
"""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol

from data_mixtures.batch import Batch


class BatchSource(Protocol):
    """Where batches come from, a Mixture for one: a sample is a function of its id."""

    def batch(self, sample_ids: Sequence[int]) -> Batch:
        """The samples with these global ids, in this order."""
        ...


class Loader:
    """Iterates over micro-batches forever: `accumulate` of them make this rank's share of one step.

    Args:
        mixture: where samples come from.
        global_batch: samples a step, over all ranks and micro-batches.
        accumulate: micro-batches a step.
        rank: this process's number, 0..world - 1.
        world: processes that train together.
        first_step: the step to start at (the number of steps done, when resuming).
        prefetch: micro-batches gathered ahead in a background thread; 0 gathers in the caller.

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
    ) -> None:
        if global_batch < 1 or global_batch % (accumulate * world):
            raise ValueError(
                f"global_batch is {global_batch}, which {accumulate} accumulation steps x {world} ranks do not divide: "
                f"make it a multiple of {accumulate * world}"
            )
        self.mixture, self.global_batch, self.first_step = mixture, global_batch, first_step
        self.accumulate, self.rank, self.world = accumulate, rank, world
        self.wait_seconds = 0.0
        self._stop = threading.Event()
        self._batches = self._prefetched(prefetch) if prefetch else self._gathered()

    def ids(self, step: int, micro: int) -> range:
        """The sample ids of this rank's `micro`-th micro-batch of a step."""
        size = self.global_batch // (self.accumulate * self.world)
        first = step * self.global_batch + (micro * self.world + self.rank) * size
        return range(first, first + size)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        started = time.perf_counter()
        batch = next(self._batches)
        self.wait_seconds += time.perf_counter() - started
        return batch

    def close(self) -> None:
        """Stop the background thread."""
        self._stop.set()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _gathered(self) -> Iterator[Batch]:
        step = self.first_step
        while True:
            for micro in range(self.accumulate):
                yield self.mixture.batch(self.ids(step, micro))
            step += 1

    def _prefetched(self, depth: int) -> Iterator[Batch]:
        ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=depth)
        threading.Thread(target=self._fill, args=(ready,), daemon=True).start()
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def _fill(self, ready: "queue.Queue[Batch | BaseException]") -> None:
        try:
            for batch in self._gathered():
                if not _put(ready, batch, self._stop):
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
