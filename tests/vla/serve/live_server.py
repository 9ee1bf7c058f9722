"""A server on a free port in its own thread, and a policy whose answers a test can foresee."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from vla.policy import Committed, Observation
from vla.serve.batching import Actor
from vla.serve.conversation import Conversation
from vla.serve.observations import Keys, RequestReader, Sizes
from vla.serve.openpi import OpenpiConversation
from vla.serve.server import PolicyServer, ServerConfig

SIZES = Sizes(cameras=("base", "wrist"), state_dim=3, action_dim=2, horizon=5)


class Foreseen:
    """Actions are [seed, sum of state + sum of images] a step; some instructions do something else."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.seen: list[Observation] = []
        self.gate = threading.Event()  # closed, a forward waits
        self.gate.set()
        self.entered = threading.Event()

    def act_many(
        self,
        observations: Sequence[Observation],
        seeds: Sequence[int],
        committed: Sequence[Committed | None] | None = None,
    ) -> np.ndarray:
        self.batches.append(len(observations))
        self.seen += observations
        self.entered.set()
        self.gate.wait(20)
        if any(o.instruction == "refuse" for o in observations):
            raise ValueError("images: this policy will not")
        if any(o.instruction == "break" for o in observations):
            raise RuntimeError("secret of the inside")
        rows = [self._row(o, seed) for o, seed in zip(observations, seeds, strict=True)]
        for row, plan in zip(rows, committed or [None] * len(rows), strict=True):
            if plan is not None:
                row[: plan.frozen] = plan.actions[: plan.frozen]
        return np.stack(rows)

    def _row(self, observation: Observation, seed: int) -> np.ndarray:
        if observation.instruction == "nan":
            return np.full((SIZES.horizon, 2), np.nan, np.float32)
        pixels = sum(int(image.sum()) for image in observation.images.values())
        return np.tile(np.array([seed, observation.state.sum() + pixels], np.float32), (SIZES.horizon, 1))


@contextmanager
def serving(
    actor: Actor, config: ServerConfig | None = None, sizes: Sizes = SIZES, keys: Keys | None = None
) -> Iterator[tuple[PolicyServer, int]]:
    """A live server of openpi's protocol and its port; leaving stops it as SIGTERM would."""
    config = config or ServerConfig(port=0)
    conversation = OpenpiConversation(RequestReader(sizes, keys), config.max_message_bytes)
    with conversing(actor, conversation, config) as live:
        yield live


@contextmanager
def conversing(actor: Actor, conversation: Conversation, config: ServerConfig) -> Iterator[tuple[PolicyServer, int]]:
    """The same for any protocol."""
    started: list[tuple[PolicyServer, int, asyncio.Event, asyncio.AbstractEventLoop]] = []
    up = threading.Event()

    async def run() -> None:
        server, stop = PolicyServer(actor, conversation, config), asyncio.Event()

        def ready(host: str, port: int) -> None:
            started.append((server, port, stop, asyncio.get_running_loop()))
            up.set()

        await server.run(stop, ready)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert up.wait(10)
    server, port, stop, loop = started[0]
    try:
        yield server, port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive()


def request(**changes: object) -> dict[str, object]:
    """A request that is as it should be, but for what is changed; None leaves a key out."""
    frame = np.zeros((4, 6, 3), np.uint8)
    message = {
        "observation/base": frame + 1,
        "observation/wrist": frame,
        "observation/state": np.arange(3, dtype=np.float64),
        "prompt": "open the drawer",
        "seed": 7,
        **changes,
    }
    return {key: value for key, value in message.items() if value is not None}
