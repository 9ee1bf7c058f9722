"""Processes that gather batches ahead of the step, and what is said when one of them fails or dies.

Workers are spawned, not forked: a forked copy of a process that runs threads and CUDA can hang. Each imports torch
(2.7 s of one core, all workers at once) and opens the source for itself, then gets explicit id ranges and hands its
batches back through shared memory, in order.
"""

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from multiprocessing import parent_process, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.signal_handling import _remove_worker_pids
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from data_mixtures.batch import Batch

_SHARED_FROM = 1 << 18  # bytes


class BatchSource(Protocol):
    """Where batches come from, a Mixture for one: a sample is a function of its id.

    With workers it is pickled once for each: a source that holds open files or large arrays defines `__reduce__` so
    that it pickles as what it was opened with.
    """

    def batch(self, sample_ids: Sequence[int]) -> Batch:
        """The samples with these global ids, in this order."""
        ...


class WorkerDiedError(RuntimeError):
    """A worker process ended without having been asked to; says how, and what usually does that."""


class WorkerPool(Iterator[Batch]):
    """Iterates over the batches of `ranges`, gathered by `workers` processes, in the order of the ranges.

    Args:
        source: where batches come from.
        ranges: sample ids, one range a batch.
        workers: processes, at least 1.
        ahead: batches every worker may have ready, at least 1.
        pinned: hand the batches out in page-locked memory.
    """

    def __init__(self, source: BatchSource, ranges: Iterable[range], *, workers: int, ahead: int, pinned: bool) -> None:
        loader = DataLoader(
            _Gatherer(source),
            batch_size=None,
            sampler=ranges,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pinned,
            prefetch_factor=ahead,
            multiprocessing_context="spawn",
            worker_init_fn=_prepare,
        )
        with _deaf_to_interrupts():
            iterator = iter(loader)
        assert isinstance(iterator, _MultiProcessingDataLoaderIter)
        self._iterator, self._processes = iterator, list(iterator._workers)
        # Also called when the pool is forgotten or the program ends without closing it.
        self._end = Finalize(self, _end, (iterator, self._processes), exitpriority=1000)
        # torch would raise a worker's death wherever the main thread happens to be; here it is raised by `next`.
        _remove_worker_pids(id(iterator))
        iterator._worker_pids_set = False

    def __next__(self) -> Batch:
        self._check_alive()
        try:
            gathered = next(self._iterator)
        except RuntimeError:
            self._check_alive()
            raise
        if isinstance(gathered, _Failure):
            raise gathered.as_raised()
        return gathered.opened() if isinstance(gathered, _Parcel) else gathered  # a pinned one is a Batch already

    def close(self) -> None:
        """End the processes and wait until they are gone."""
        self._end()

    def _check_alive(self) -> None:
        dead = [process for process in self._processes if not process.is_alive()]
        if dead:
            raise WorkerDiedError(
                f"{len(dead)} of {len(self._processes)} data workers died: "
                + "; ".join(f"process {process.pid} {_how_it_ended(process.exitcode)}" for process in dead)
            )


def _end(iterator: _MultiProcessingDataLoaderIter, processes: Sequence[BaseProcess]) -> None:
    iterator._shutdown_workers()  # what the iterator's own __del__ calls
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()


class _Gatherer(Dataset):
    """What runs in the workers: id range in, batch out. The source is opened there, at the first range."""

    def __init__(self, source: BatchSource) -> None:
        try:
            self._pickled = pickle.dumps(source)
        except Exception as error:
            raise ValueError(
                f"workers is above 0, but {type(source).__name__} cannot be sent to them ({error}): give it a "
                "__reduce__ that opens it again, or set workers to 0"
            ) from error
        self._source: BatchSource | None = None

    def __getitem__(self, ids: range) -> "_Parcel | _Failure":
        try:
            if self._source is None:
                self._source = pickle.loads(self._pickled)
                assert self._source is not None
            return _Parcel.of(self._source.batch(ids))
        except Exception as error:  # handed to the caller, who raises it where the step waits
            return _Failure.of(error, ids)


@dataclass(frozen=True)
class _Parcel:
    """A batch on its way to the main process: large tensors in shared memory, the others in the message itself.

    Every shared tensor is a file descriptor to hand over, 0.2 ms each; a few kilobytes are copied sooner.
    """

    values: dict[str, Any]

    @classmethod
    def of(cls, batch: Batch) -> "_Parcel":
        return cls({field.name: _packed(getattr(batch, field.name)) for field in fields(batch)})

    def opened(self) -> Batch:
        return Batch(**{name: _unpacked(value) for name, value in self.values.items()})

    def pin_memory(self) -> Batch:  # called by torch, in the thread that receives
        return self.opened().pin_memory()


def _packed(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.share_memory_() if value.nbytes > _SHARED_FROM else value.numpy()


def _unpacked(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


@dataclass(frozen=True)
class _Failure:
    """An error on its way to the main process."""

    error: Exception
    told: str

    @classmethod
    def of(cls, error: Exception, ids: range) -> "_Failure":
        trace = "".join(traceback.format_exception(error))
        told = f"in a data worker, for the samples {ids.start}..{ids.stop - 1}:\n{trace}"
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an error that cannot cross would be lost on the way, and the step would wait for ever
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return cls(error, told)

    def as_raised(self) -> Exception:
        self.error.add_note(self.told)
        return self.error


def _as_it_is(gathered: Any) -> Any:
    return gathered


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started here never see SIGINT and SIGTERM: what is blocked stays so in a child.

    Ctrl-C and a scheduler's SIGTERM go to the whole group; the main process decides what to do, and to end its step
    it still needs data. It gets its own signals when the block ends.
    """
    resource_tracker.ensure_running()  # it would unblock them when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare(worker: int) -> None:
    """Called in a worker before its first batch."""
    Finalize(None, _exit_at_once, exitpriority=-1000)
    threading.Thread(target=_exit_with_the_parent, daemon=True).start()


def _exit_with_the_parent() -> None:
    """End a worker whose parent was killed: it may be waiting for room in a pipe that nobody reads any more."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _exit_at_once() -> None:
    """End a worker that is done: tearing the interpreter down would abort it if its sending thread is inside torch."""
    failed = sys.exc_info()[0] is not None
    if failed:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(failed))


_CAUSES = {
    signal.SIGKILL: "as the kernel does when memory runs out: use fewer workers or a smaller prefetch",
    signal.SIGBUS: "as happens when /dev/shm is full: enlarge it, or use fewer workers or a smaller prefetch",
    signal.SIGSEGV: "a crash in native code, a video decoder for one: workers 0 shows which sample it is",
}


def _how_it_ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exited with code {code}; what it printed stands above"
    known = {int(number): cause for number, cause in _CAUSES.items()}
    cause = known.get(-code, "from outside, or by native code")
    return f"was ended by {signal.Signals(-code).name}, {cause}"
