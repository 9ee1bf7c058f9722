"""What is said on a connection, apart from how it is carried: the server owns sockets and limits, these the words.

Conversation (one a server)  ── session() ──►  Session (one a client): a message in, the frame to send back out

Sockets, limits, batching and the end of a connection are the same whatever is spoken on it.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from vla.serve.batching import Answer
from vla.serve.observations import Request, Sizes

Infer = Callable[[Request], Awaitable[Answer]]


class HangUpError(Exception):
    """Nothing more can be said to this client; the text is for the log, and its first 120 bytes for the client."""


class Session(Protocol):
    """One client's side."""

    async def reply(self, message: bytes | str, infer: Infer, previous_s: float | None) -> bytes | None:
        """The frame that answers a message; None where this protocol answers nothing.

        Args:
            message: A whole frame, binary or text.
            infer: Gives the policy's chunk for a request; raises as `vla.serve.batching.Batcher.infer`.
            previous_s: What this connection's previous request took from end to end.

        Raises:
            BadRequestError: The message, and what it should have been; the connection stays.
            HangUpError: The connection is to be closed.
        """
        ...

    def refusal(self, words: str) -> bytes | str:
        """The frame that says what is wrong with the message under way."""
        ...


class Conversation(Protocol):
    """One protocol in front of one policy.

    Attributes:
        sizes: Of the policy's observations and actions.
        prompt: What is asked of the robot when a request does not say.
        greeting: The frame every client is sent first; None where the client speaks first.
    """

    sizes: Sizes
    prompt: str | None
    greeting: bytes | None

    def session(self) -> Session:
        """For a client that has just connected."""
        ...
