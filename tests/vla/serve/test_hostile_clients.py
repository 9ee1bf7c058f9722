"""Whatever a client sends, it gets an error frame, and the others never notice."""

import base64
import os
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.sync.client import ClientConnection, connect

from tests.vla.serve.live_server import Foreseen, request, serving
from vla.serve.messages import pack, unpack

WHOLE = pack(request())
FUZZ = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


def packed(value: object) -> bytes:
    raw = msgpack.packb(value)
    assert raw is not None
    return raw


def array(data: bytes = b"\0" * 4, dtype: object = "<f4", shape: object = (1,), **more: object) -> dict[Any, Any]:
    return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape, **more}


def nested(depth: int, opening: bytes) -> bytes:
    return opening * depth + b"\xc0"


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no msgpack"),
    "cut": (WHOLE[:-3], "no msgpack"),
    "more after it": (WHOLE + b"\x01", "no msgpack"),
    "a number": (b"\x01", "an observation is a map"),
    "a list": (packed([1, 2]), "an observation is a map"),
    "a pickle": (
        b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        "bad request",
    ),
    "a list said to be huge": (b"\x81\xa1a\xdd\xff\xff\xff\xff", "no msgpack"),
    "a map said to be huge": (b"\xdf\xff\xff\xff\xff", "no msgpack"),
    "a text said to be huge": (b"\x81\xa1a\xdb\xff\xff\xff\xff", "no msgpack"),
    "bytes said to be huge": (b"\x81\xa1a\xc6\xff\xff\xff\xff", "no msgpack"),
    "lists within lists": (b"\x81\xa1a" + nested(100_000, b"\x91"), "no msgpack"),
    "maps within maps": (b"\x81\xa1a" + nested(500, b"\x81\xa1a"), "nested over 4 deep"),
    "a million empty lists": (
        b"\x81\xa1a" + b"\xdc\x0f\xff" + (b"\xdc\x0f\xff" + b"\x90" * 4095) * 300,
        "over 50000 values",
    ),
    "an extension": (packed({"a": msgpack.ExtType(5, b"x")}), "extension 5"),
    "a time": (b"\x81\xa1a\xd6\xff\x00\x00\x00\x01", r"unknown keys \['a'\]"),
    "keys that are bytes": (packed({b"state": 1}), "is no text"),
    "objects": (packed({"state": array(dtype="|O")}), "dtype '|O'"),
    "records": (packed({"state": array(dtype=[["a", "<f4"]])}), "dtype"),
    "text arrays": (packed({"state": array(dtype="<U1")}), "dtype '<U1'"),
    "void": (packed({"state": array(dtype="|V4")}), "dtype"),
    "complex": (packed({"state": array(b"\0" * 8, "<c8")}), "dtype"),
    "big-endian": (packed({"state": array(dtype=">f4")}), "dtype"),
    "no dtype at all": (packed({"state": array(dtype="nonsense" * 50)}), "dtype 'nonsense"),
    "a shape beyond the bytes": (packed({"state": array(shape=[2**30] * 4)}), "takes 5316911983139663491"),
    "a shape below zero": (packed({"state": array(shape=[-1])}), r"shape \[-1\]"),
    "an empty shape that is vast": (packed({"state": array(b"", shape=[0, 2**63])}), "shape"),
    "many dimensions": (packed({"state": array(shape=[1] * 40)}), "at most 8"),
    "a shape of texts": (packed({"state": array(shape=["1"])}), "shape"),
    "a shape that is a number": (packed({"state": array(shape=1)}), "shape"),
    "data that is text": (packed({"state": array("abcd")}), "not a str"),  # pyright: ignore[reportArgumentType]
    "an array with more keys": (packed({"state": array() | {b"x": 1}}), "not those openpi"),
    "a scalar of a map": (packed({"seed": {b"__npgeneric__": True, b"data": {}, b"dtype": "<f4"}}), "scalar"),
    "a NaN image": (pack(request(**{"observation/base": np.full((4, 6, 3), np.nan, np.float32)})), "finite"),
    "an image with no pixel": (pack(request(**{"observation/base": np.zeros((0, 6, 3), np.uint8)})), "shape"),
    "an infinite state": (pack(request(**{"observation/state": np.array([np.inf, 0, 0])})), "not finite"),
    "a state too large for float32": (pack(request(**{"observation/state": np.array([1e300, 0, 0])})), "not finite"),
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a live server that answers a right request after all that the tests did to it."""
    with serving(Foreseen()) as (server, port):
        yield port
        with hello(port) as client:
            assert good(client)
        deadline = time.monotonic() + 5
        while "vla_clients 0.0" not in server.metrics.text().decode():
            assert time.monotonic() < deadline, "a client that left is still counted"
            time.sleep(0.01)


def hello(port: int) -> ClientConnection:
    client = connect(f"ws://127.0.0.1:{port}", proxy=None, compression=None, max_size=None, legacy=True)
    assert isinstance(client.recv(5), bytes)
    return client


def good(client: ClientConnection) -> bool:
    client.send(WHOLE)
    answer = client.recv(5)
    return isinstance(answer, bytes) and unpack(answer)["actions"].shape == (5, 2)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_message_gets_an_error_frame(port: int, kind: str):
    message, words = HOSTILE[kind]
    with hello(port) as client, hello(port) as other:
        client.send(message)
        answer = client.recv(10)
        assert isinstance(answer, str)
        assert len(answer) < 1_500
        assert "Traceback" not in answer
        assert re.search(words, answer), answer
        assert good(client)
        assert good(other)


def test_a_text_frame_gets_an_error_frame(port: int):
    with hello(port) as client:
        client.send("open the drawer")
        assert "binary frame of msgpack" in str(client.recv(5))
        assert good(client)


def test_a_message_unfolds_to_little_memory():
    """16 MiB of empty lists would be 1 GiB of Python's."""
    message = b"\x81\xa1a\xdc\x0f\xff" + (b"\xdc\x0f\xff" + b"\x90" * 4095) * 4000
    before = psutil.Process().memory_info().rss
    with pytest.raises(ValueError, match="over 50000 values"):
        unpack(message)
    assert psutil.Process().memory_info().rss - before < 50 * 2**20


@given(st.binary(max_size=300))
@FUZZ
def test_any_bytes(port: int, message: bytes):
    with hello(port) as client:
        client.send(message)
        assert isinstance(client.recv(5), str)
        assert good(client)


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(WHOLE)))
@FUZZ
def test_a_right_message_with_some_bytes_changed(port: int, changes: list[tuple[int, int]], keep: int):
    message = bytearray(WHOLE)
    for place, value in changes:
        message[place] = value
    with hello(port) as client:
        for sent in (bytes(message), bytes(message[:keep])):
            client.send(sent)
            answer = client.recv(5)
            assert isinstance(answer, str) or np.isfinite(unpack(answer)["actions"]).all()
        assert good(client)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.builds(
        array,
        data=st.binary(max_size=12),
        dtype=st.sampled_from(["<f4", "|u1", "|O", "<U2", ">i4", "<f8", "O", "", "V"]) | st.none(),
        shape=st.lists(st.integers(-1, 2**40), max_size=4) | st.none(),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.binary(max_size=5), inner),
    max_leaves=8,
)
KEYS = ["observation/base", "observation/wrist", "observation/state", "prompt", "seed", "committed", "frozen", "images"]


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
@FUZZ
def test_any_values_under_known_keys(port: int, changes: dict[str, Any]):
    with hello(port) as client:
        client.send(packed({**msgpack.unpackb(WHOLE), **changes}))
        answer = client.recv(5)
        assert isinstance(answer, str) or np.isfinite(unpack(answer)["actions"]).all()
        assert good(client)


def raw(port: int) -> socket.socket:
    """A connection that has shaken hands and then says what it likes."""
    line = socket.create_connection(("127.0.0.1", port), timeout=5)
    key = base64.b64encode(os.urandom(16)).decode()
    line.sendall(
        f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b"101" in line.recv(64)
    return line


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x82",
        b"\x82\xff\x00\x00\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00abc",  # 8 MiB declared, 3 bytes sent
        b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",  # 2**63 - 1 bytes declared
        b"\x82\x05hello",  # not masked
        b"\xff\xff\xff\xff\xff\xff",  # reserved bits and opcode
        b"\x00\x80\x00\x00\x00\x00",  # a continuation of nothing
        b"\x81\x81\x00\x00\x00\x00\xff",  # text that is no text
        b"\x02\x83\x00\x00\x00\x00abc" * 3,  # a message begun within a message
        b"\x89\xfe\x01\x00\x00\x00\x00\x00" + b"a" * 256,  # a ping larger than pings are
    ],
)
def test_a_line_that_breaks_the_protocol_or_off(port: int, frame: bytes):
    with hello(port) as other:
        for abrupt in (False, True):
            with raw(port) as line:
                line.sendall(frame)
                if abrupt:  # a reset instead of a goodbye
                    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert good(other)


@pytest.mark.parametrize(
    "begun", [b"", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01", b"POST /healthz HTTP/1.1\r\n\r\n"]
)
def test_a_handshake_that_never_ends(port: int, begun: bytes):
    lines = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(40)]
    for line in lines:
        line.sendall(begun)
    with hello(port) as client:
        assert good(client)
    for line in lines:
        line.close()


def test_a_client_that_leaves_before_its_answer():
    actor = Foreseen()
    actor.gate.clear()
    with serving(actor) as (_, port), hello(port) as other:
        with raw(port) as line:
            mask_and_length = b"\xfe" + len(WHOLE).to_bytes(2, "big") + b"\0\0\0\0"
            line.sendall(b"\x82" + mask_and_length + WHOLE)
            assert actor.entered.wait(5)
        actor.gate.set()
        assert good(other)
