"""The wire between the engine and a simulator: whole messages, each four bytes of length and a msgpack map."""

import socket
import struct
import time
from typing import Any

from vla.serve.messages import pack, unpack

_LENGTH = struct.Struct(">I")

# A film of 520 frames at 512 pixels a side is 0.4 GB; a length beyond this is no message of ours.
_LONGEST = 1 << 30


class Channel:
    """Messages over a connected stream socket.

    Everything is a map of texts to numbers, texts, lists, maps and numpy arrays; arrays come back read-only.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, message: dict[str, Any], timeout_s: float | None = None) -> None:
        """Send one message; TimeoutError where the other side does not read it."""
        self._socket.settimeout(timeout_s)
        raw = pack(message)
        self._socket.sendall(_LENGTH.pack(len(raw)) + raw)

    def receive(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait for one message.

        Raises:
            TimeoutError: it was not there, whole, in time.
            EOFError: the other side is gone.
            ValueError: it is no message of this protocol.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size, until))
        if length > _LONGEST:
            raise ValueError(f"a message of {length} bytes is announced; the longest are {_LONGEST}")
        return unpack(self._exactly(length, until))

    def _exactly(self, length: int, until: float | None) -> bytes:
        held = bytearray(length)
        rest = memoryview(held)
        while rest:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            count = self._socket.recv_into(rest)
            if count == 0:
                raise EOFError("the connection was closed")
            rest = rest[count:]
        return bytes(held)

    def close(self) -> None:
        """Close the connection; the other side sees its end."""
        self._socket.close()
