"""openpi's protocol: the server says what it reads, then an observation a frame and its chunk a frame back.

client                              server
  | <-- metadata (msgpack) ---------  |   keys a request may hold, sizes of state and actions
  | --- observation (msgpack) ----->  |
  | <-- {actions, server_timing} ---  |   msgpack, or a text frame with what is wrong

An observation stands alone: nothing is kept between requests.
"""

from typing import Any

from vla.serve.batching import Answer
from vla.serve.conversation import Infer
from vla.serve.messages import BadRequestError, pack, unpack
from vla.serve.observations import RequestReader


class OpenpiConversation:
    """What robots speak that know openpi's server; see `vla.serve.conversation.Conversation`."""

    def __init__(self, reader: RequestReader, max_message_bytes: int, weights_sha256: str | None = None) -> None:
        self.sizes, self.prompt = reader.sizes, reader.keys.prompt
        self.greeting: bytes | None = pack(metadata_of(reader, max_message_bytes, weights_sha256))
        self._session = OpenpiSession(reader)

    def session(self) -> "OpenpiSession":
        """The same for all clients: nothing is kept between requests."""
        return self._session


class OpenpiSession:
    """See `vla.serve.conversation.Session`."""

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader

    async def reply(self, message: bytes | str, infer: Infer, previous_s: float | None) -> bytes | None:
        """The chunk for one observation."""
        if isinstance(message, str):
            raise BadRequestError("a text frame; an observation is a binary frame of msgpack, as openpi's client sends")
        return pack(_response(await infer(self._reader.read(unpack(message))), previous_s))

    def refusal(self, words: str) -> bytes | str:
        """A text frame, which openpi's client raises as RuntimeError."""
        return words


def metadata_of(reader: RequestReader, max_message_bytes: int, weights_sha256: str | None) -> dict[str, Any]:
    """What every client is told first: the keys a request may hold, and the sizes of what goes in and comes out.

    And the weights' digest where it is known, so that results name what they were made with.
    """
    weights = {} if weights_sha256 is None else {"weights_sha256": weights_sha256}
    return {
        "server": "vla",
        "keys": reader.expected,
        "state_dim": reader.sizes.state_dim,
        "action_dim": reader.sizes.action_dim,
        "horizon": reader.sizes.horizon,
        "max_message_bytes": max_message_bytes,
        **weights,
    }


def _response(answer: Answer, previous_s: float | None) -> dict[str, Any]:
    timing = {"infer_ms": answer.infer_s * 1e3, "queue_ms": answer.queue_s * 1e3, "batch_size": answer.batch_size}
    if previous_s is not None:
        timing["prev_total_ms"] = previous_s * 1e3
    return {"actions": answer.actions, "seed": answer.seed, "server_timing": timing}
