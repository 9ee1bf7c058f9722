"""What a server counts, in Prometheus's text format."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES = ("answered", "refused", "busy", "failed")

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """The counters of one server, with a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "vla_requests",
            "Requests by outcome: answered; refused (the sender's fault); busy (queue full); failed (ours)",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in OUTCOMES:
            self.requests.labels(outcome)  # from the start, so that a rate over the first error is not lost
        self.request_seconds = self._seconds("vla_request_seconds", "From a whole request to its answer on its way")
        self.queue_seconds = self._seconds("vla_queue_seconds", "From a request to the forward it is part of")
        self.forward_seconds = self._seconds("vla_forward_seconds", "One forward of a batch")
        self.batch_size = Histogram(
            "vla_batch_size", "Requests of a forward", buckets=(1, 2, 4, 8, 16, 32, 64), registry=self.registry
        )
        self.clients = Gauge("vla_clients", "Clients connected", registry=self.registry)
        self._queue = Gauge("vla_queue_length", "Requests waiting for a forward", registry=self.registry)
        ProcessCollector(registry=self.registry)  # memory, CPU time and open files, on Linux

    def _seconds(self, name: str, words: str) -> Histogram:
        return Histogram(name, words, buckets=_SECONDS, registry=self.registry)

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Read the queue's length when asked for it."""
        self._queue.set_function(length)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
