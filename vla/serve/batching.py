"""Concurrent requests in one forward: an asyncio front, and one thread that owns the model."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from vla.policy import Committed, Observation
from vla.serve.messages import BadRequestError
from vla.serve.metrics import Metrics
from vla.serve.observations import Request

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Actor(Protocol):
    """The part of `vla.policy.Policy` that answers requests."""

    def act_many(
        self,
        observations: Sequence[Observation],
        seeds: Sequence[int],
        committed: Sequence[Committed | None] | None = None,
    ) -> np.ndarray:
        """Chunks float32 [n, horizon, action_dim], each from its own observation and seed alone."""
        ...


class BusyError(Exception):
    """The queue is full."""


class ForwardError(Exception):
    """The policy failed on a request, and not because of what was asked."""


@dataclass(frozen=True)
class Answer:
    """actions float32 [horizon, action_dim]; the noise's seed; how long the forward took and what preceded it."""

    actions: np.ndarray
    seed: int
    infer_s: float
    queue_s: float
    batch_size: int


@dataclass(frozen=True)
class _Waiting:
    request: Request
    seed: int
    since: float
    answer: "asyncio.Future[Answer]"


class Batcher:
    """Gathers what waits into batches. A batch leaves when it is full, when every client is in it, or after `wait_s`.

    While a forward runs requests gather by themselves, so `wait_s` only matters to a server at rest.
    """

    def __init__(
        self, actor: Actor, metrics: Metrics, clients: Callable[[], int], max_batch: int, wait_s: float, max_queue: int
    ) -> None:
        self._actor = actor
        self._metrics = metrics
        self._clients = clients
        self._max_batch = max_batch
        self._wait_s = wait_s
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(max_queue)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._unanswered: set[asyncio.Future[Answer]] = set()
        self.failures = 0  # forwards that failed since the last that did not
        metrics.watch_queue(self._queue.qsize)

    async def infer(self, request: Request) -> Answer:
        """Wait for a chunk.

        Raises:
            BusyError: Too many wait already.
            BadRequestError: The policy refused the observation, in its own words.
            ForwardError: The policy failed; the log has the traceback.
        """
        seed = secrets.randbits(63) if request.seed is None else request.seed
        waiting = _Waiting(request, seed, time.perf_counter(), asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise BusyError from None
        self._unanswered.add(waiting.answer)
        try:
            return await waiting.answer
        finally:
            self._unanswered.discard(waiting.answer)

    async def on_model_thread(self, function: Callable[[], T]) -> T:
        """What a function returns there: graphs and compiled code are made by the thread that will run them."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def run(self) -> None:
        """Answer requests until cancelled; those still unanswered then get a `ForwardError`."""
        try:
            while True:
                batch = await self._gather()
                # Guided sampling costs three times plain sampling: those who did not ask for it should not wait.
                for group in _split(batch):
                    await self._answer(group)
        finally:
            for answer in self._unanswered:
                if not answer.done():
                    answer.set_exception(ForwardError("the server stopped before this request's turn"))
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _gather(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        deadline = asyncio.get_running_loop().time() + self._wait_s
        while len(batch) < self._max_batch:
            try:
                batch.append(self._queue.get_nowait())
                continue
            except asyncio.QueueEmpty:
                if len(batch) >= self._clients():
                    break
            try:
                async with asyncio.timeout_at(deadline):
                    batch.append(await self._queue.get())
            except TimeoutError:
                break
        return [waiting for waiting in batch if not waiting.answer.done()]  # a client may have left meanwhile

    async def _answer(self, group: list[_Waiting]) -> None:
        started = time.perf_counter()
        results = await self.on_model_thread(partial(self._forward, group))
        took = time.perf_counter() - started
        self._metrics.batch_size.observe(len(group))
        self._metrics.forward_seconds.observe(took)
        for waiting, result in zip(group, results, strict=True):
            waited = started - waiting.since
            self._metrics.queue_seconds.observe(waited)
            if waiting.answer.done():
                continue
            if isinstance(result, Exception):
                waiting.answer.set_exception(result)
            else:
                waiting.answer.set_result(Answer(result, waiting.seed, took, waited, len(group)))

    def _forward(self, group: list[_Waiting]) -> list[np.ndarray | Exception]:
        """One forward; where it fails, one for each, so that only the request at fault is refused."""
        try:
            rows = self._act(group)
        except Exception as error:
            if len(group) > 1:
                return [result for waiting in group for result in self._forward([waiting])]
            return [self._explained(error)]
        self.failures = 0
        return [
            row if np.isfinite(row).all() else ForwardError("the policy's actions are not finite numbers")
            for row in rows
        ]

    def _act(self, group: list[_Waiting]) -> np.ndarray:
        committed = [waiting.request.committed for waiting in group]
        return self._actor.act_many(
            [waiting.request.observation for waiting in group],
            [waiting.seed for waiting in group],
            committed if any(part is not None for part in committed) else None,
        )

    def _explained(self, error: Exception) -> Exception:
        if isinstance(error, ValueError):  # the policy's words for its user
            return BadRequestError(str(error))
        self.failures += 1
        _log.error("a forward failed", exc_info=error)
        return ForwardError("the policy failed on this request; the server's log says why")


def _split(batch: list[_Waiting]) -> list[list[_Waiting]]:
    plain = [waiting for waiting in batch if waiting.request.committed is None]
    bound = [waiting for waiting in batch if waiting.request.committed is not None]
    return [group for group in (plain, bound) if group]
