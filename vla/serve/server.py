"""The policy server: websockets, limits and a clean end around a conversation in front of a batcher.

    client                              server
      | --- websocket handshake ------->  |   front_door.py: the token, where one is set
      | <-- greeting -------------------  |   openpi.py, vla_eval.py: what the protocol says
      | --- message ------------------->  |   batching.py: one forward for those that wait
      | <-- answer or what is wrong ----  |   the connection stays

Whatever a client sends or fails to send ends with that client.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from vla.policy import Observation
from vla.serve.batching import Actor, Batcher, BusyError, ForwardError
from vla.serve.conversation import Conversation, HangUpError, Session
from vla.serve.front_door import FrontDoor
from vla.serve.messages import BadRequestError
from vla.serve.metrics import Metrics
from vla.serve.observations import Sizes

_log = logging.getLogger(__name__)
# The websocket library writes headers at level DEBUG, the token among them: its own logger, held above that.
_quiet_log = logging.getLogger("vla.serve.websockets")
_quiet_log.setLevel(logging.WARNING)

_UNHEALTHY_AFTER = 3  # forwards in a row
_SEND_TIMEOUT_S = 10.0
_GOING_AWAY, _POLICY_VIOLATION, _TRY_AGAIN = 1001, 1008, 1013
_MAX_REASON = 120  # bytes a websocket can be closed with, nearly


@dataclass(frozen=True)
class ServerConfig:
    """How a server listens and how much it takes on.

    Attributes:
        host: Address to listen on; the default is this machine alone.
        port: 0 lets the system choose.
        token: Who lacks it is turned away; None lets all in.
        max_batch: Requests of one forward.
        wait_ms: How long a request waits for others at most, while no forward runs.
        max_queue: Requests that may wait; those beyond are told that the server is busy.
        max_clients: Connections; those beyond are closed with code 1013.
        max_message_bytes: Of one request; a larger one closes its connection with code 1009, unread.
        message_timeout_s: From the first fragment of a message to its last.
        keepalive_s: A client that answers no ping for this long is gone.
        grace_s: What requests under way are given to finish when the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    max_batch: int = 8
    wait_ms: float = 3.0
    max_queue: int = 64
    max_clients: int = 32
    max_message_bytes: int = 16 * 2**20
    message_timeout_s: float = 30.0
    keepalive_s: float = 20.0
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_queue", "max_clients", "max_message_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.wait_ms < 0:
            raise ValueError(f"wait_ms is {self.wait_ms}; it must be 0 or more")
        if self.token is not None and not self.token.strip():
            raise ValueError("the token is empty: set one, or none at all")


class PolicyServer:
    """Serves one policy until told to stop."""

    def __init__(self, actor: Actor, conversation: Conversation, config: ServerConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self._actor = actor
        self._conversation = conversation
        self._clients = 0
        self._under_way = 0
        self._idle = asyncio.Event()
        self._draining = False
        self._batcher = Batcher(
            actor, self.metrics, lambda: self._clients, config.max_batch, config.wait_ms / 1e3, config.max_queue
        )
        self._front_door = FrontDoor(config.token, self.metrics, self._trouble)

    async def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Act on black images, so that no robot waits for what is compiled or recorded at a first call.

        Raises:
            ValueError: The policy's actions are not finite, or do not have the shape they should.
        """
        sizes, prompt = self._conversation.sizes, self._conversation.prompt or "do something"
        for rows in batch_sizes:
            await self._batcher.on_model_thread(partial(_act_on_black, self._actor, sizes, prompt, rows))

    async def run(self, stop: asyncio.Event, ready: Callable[[str, int], None]) -> None:
        """Serve until `stop` is set; requests under way are then answered before connections close.

        `ready` is called with the host and port once the server listens.

        Raises:
            OSError: The address cannot be listened on.
        """
        batching = asyncio.create_task(self._batcher.run())
        try:
            async with await self._listen() as server:
                ready(*server.sockets[0].getsockname()[:2])
                stopping = asyncio.create_task(stop.wait())
                await asyncio.wait({stopping, batching}, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                await self._drain(server)
                batching.cancel()  # what the grace did not suffice for must not hold the server up
        finally:
            batching.cancel()
            with suppress(asyncio.CancelledError):
                await batching

    async def _listen(self) -> Server:
        config = self.config
        return await serve(
            self._handle,
            config.host,
            config.port,
            process_request=self._front_door,
            origins=[None],  # robots send no Origin, browsers do: no web page reaches a robot through its visitor
            compression=None,  # images hardly shrink, and a small message could unpack to a huge one
            max_size=config.max_message_bytes,
            max_queue=1,
            ping_interval=config.keepalive_s,
            ping_timeout=config.keepalive_s,
            close_timeout=2.0,
            server_header=None,
            logger=_quiet_log,
        )

    async def _drain(self, server: Server) -> None:
        """Take no more, finish what is under way, then say goodbye."""
        self._draining = True
        server.close(close_connections=False)
        if self._under_way:
            self._idle.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.config.grace_s):
                    await self._idle.wait()
        goodbyes = (client.close(_GOING_AWAY, "the server is shutting down") for client in server.connections)
        await asyncio.gather(*goodbyes, return_exceptions=True)

    def _trouble(self) -> str | None:
        if self._draining:
            return "shutting down"
        failures = self._batcher.failures
        return f"the last {failures} forwards failed" if failures >= _UNHEALTHY_AFTER else None

    async def _handle(self, client: ServerConnection) -> None:
        """One client, from hello to goodbye."""
        if self._clients >= self.config.max_clients or self._draining:
            await client.close(_TRY_AGAIN, f"busy: {self._clients} clients are connected, try again later")
            return
        self._clients += 1
        self.metrics.clients.set(self._clients)
        _log.info("%s connected; clients: %d", client.remote_address, self._clients)
        try:
            await self._converse(client)
        except ConnectionClosed:
            pass
        except HangUpError as error:
            _log.warning("%s is disconnected: %s", client.remote_address, error)
            await client.close(_POLICY_VIOLATION, str(error).encode()[:_MAX_REASON].decode(errors="ignore"))
        except TimeoutError:
            _log.warning("%s was too slow, and is disconnected", client.remote_address)
            await client.close(_POLICY_VIOLATION, "too slow: a message must be sent and read in seconds")
        except Exception:
            _log.exception("the connection of %s failed", client.remote_address)
        finally:
            self._clients -= 1
            self.metrics.clients.set(self._clients)
            _log.info("%s left; clients: %d", client.remote_address, self._clients)

    async def _converse(self, client: ServerConnection) -> None:
        if self._conversation.greeting is not None:
            await _send(client, self._conversation.greeting)
        session, previous_s = self._conversation.session(), None
        while True:
            message = await self._receive(client)
            started = time.perf_counter()
            self._under_way += 1
            try:
                reply = await self._reply(session, message, previous_s)
                if reply is None:
                    continue
                await _send(client, reply)
            finally:
                self._under_way -= 1
                if self._under_way == 0:
                    self._idle.set()
            previous_s = time.perf_counter() - started
            self.metrics.request_seconds.observe(previous_s)

    async def _receive(self, client: ServerConnection) -> bytes | str:
        """A whole message. A client may wait between messages as long as it likes, but not within one."""
        fragments = aiter(client.recv_streaming())
        message = await anext(fragments)
        async with asyncio.timeout(self.config.message_timeout_s):
            rest = bytearray()
            async for part in fragments:
                rest += part if isinstance(part, bytes) else part.encode()
        return message + bytes(rest) if rest and isinstance(message, bytes) else message

    async def _reply(self, session: Session, message: bytes | str, previous_s: float | None) -> bytes | str | None:
        """The frame to send back: the answer, or what is wrong; None where the protocol answers nothing."""
        outcome = "answered"
        try:
            if self._draining:
                raise BadRequestError("the server is shutting down")
            reply = await session.reply(message, self._batcher.infer, previous_s)
        except BadRequestError as error:
            outcome, reply = "refused", session.refusal(f"bad request: {error}")
        except BusyError:
            words = f"busy: {self.config.max_queue} requests are waiting already; try again"
            outcome, reply = "busy", session.refusal(words)
        except ForwardError as error:
            outcome, reply = "failed", session.refusal(f"failed: {error}")
        except HangUpError:
            self.metrics.requests.labels("refused").inc()
            raise
        except Exception:
            _log.exception("a request failed")
            outcome, reply = "failed", session.refusal("failed: an error of the server's own; its log says which")
        if reply is not None:
            self.metrics.requests.labels(outcome).inc()
        return reply


def _act_on_black(actor: Actor, sizes: Sizes, prompt: str, rows: int) -> None:
    black = np.zeros((224, 224, 3), np.uint8)
    observation = Observation(dict.fromkeys(sizes.cameras, black), np.zeros(sizes.state_dim, np.float32), prompt)
    actions = actor.act_many([observation] * rows, [0] * rows)
    if actions.shape != (rows, sizes.horizon, sizes.action_dim) or not np.isfinite(actions).all():
        raise ValueError(f"the policy gave actions {list(actions.shape)} that are not all finite: is it trained?")


async def _send(client: ServerConnection, reply: bytes | str) -> None:
    async with asyncio.timeout(_SEND_TIMEOUT_S):
        await client.send(reply)
