"""What strangers may send in the harness's protocol, and what its own packing becomes here."""

import io
import struct
import zlib
from typing import Any

import msgpack
import numpy as np
import pytest
from PIL import Image

from vla.serve.messages import BadRequestError
from vla.serve.vla_eval_messages import Picture, read, write

FRAME = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def packed(**changes: Any) -> bytes:
    message = {"type": "observation", "payload": {}, "seq": 4, "timestamp": 0.0, **changes}
    data = msgpack.packb({key: value for key, value in message.items() if value is not None})
    assert data is not None
    return data


def png(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def picture(**changes: Any) -> dict[str, Any]:
    return {"__image__": True, "format": "png", "data": png(FRAME), "shape": [6, 9, 3], **changes}


def array(**changes: Any) -> dict[str, Any]:
    return {"__ndarray__": True, "data": bytes(16), "dtype": "<f4", "shape": [4], **changes}


def unpacked(sent: dict[str, Any]) -> np.ndarray:
    held = read(packed(payload={"x": sent})).payload["x"]
    return held.unpacked() if isinstance(held, Picture) else held


@pytest.mark.parametrize("kind", ["raw", "png", "jpeg"])
def test_its_own_packing_is_read(kind: Any):
    codec = pytest.importorskip("vla_eval.protocol.numpy_codec", reason="vla-eval: `make setup` installs it")
    messages = pytest.importorskip("vla_eval.protocol.messages")
    before = codec.get_image_format()
    codec.set_image_format(kind)
    try:
        payload = {"images": {"a": FRAME}, "states": np.arange(3.0), "n": np.int64(3), "f": np.float32(0.5)}
        data = messages.pack_message(messages.Message(messages.MessageType.OBSERVATION, payload, 9))
    finally:
        codec.set_image_format(before)
    heard = read(data)
    assert (heard.kind, heard.seq, heard.payload["n"], heard.payload["f"]) == ("observation", 9, 3, 0.5)
    np.testing.assert_array_equal(heard.payload["states"], np.arange(3.0))
    image = heard.payload["images"]["a"]
    image = image.unpacked() if isinstance(image, Picture) else image
    expected = codec.decode_image(codec.encode_image(FRAME, kind))
    np.testing.assert_array_equal(image, expected)
    assert kind == "jpeg" or np.array_equal(image, FRAME)


def test_what_is_written_is_what_its_client_reads():
    messages = pytest.importorskip("vla_eval.protocol.messages", reason="vla-eval: `make setup` installs it")
    actions = np.array([0.5, -1.0], np.float32)
    heard = messages.unpack_message(write("action", {"actions": actions}, 7))
    assert (heard.type, heard.seq) == (messages.MessageType.ACTION, 7)
    np.testing.assert_array_equal(heard.payload["actions"], actions)
    assert heard.payload["actions"].dtype == np.float32


def _black(width: int, height: int) -> bytes:
    """A PNG that says it is large, in a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ("hello", "a text frame"),
        (b"", "no msgpack as vla-eval's client packs it"),
        (packed() + b"\x01", "no msgpack"),
        (b"\x81\xa1a" + b"\x91" * 100_000, "no msgpack"),
        (b"\xdd\xff\xff\xff\xff", "no msgpack"),
        (b"\x93\x01\x02\x03", "the message is [1, 2, 3]"),
        (packed(type=None), "have type, payload, seq and timestamp"),
        (packed(type="action"), "the type is 'action'; a client of vla-eval sends hello, episode_start"),
        (packed(type=["hello"]), "the type is ['hello']"),
        (packed(payload=[1]), "the payload is [1]; it is a map"),
        (packed(seq="1"), "seq is '1'"),
        (packed(seq=-1), "seq is -1"),
        (packed(seq=True), "seq is True"),
        (packed(payload={"x": array(shape=[5])}), "takes 20 bytes, not 16"),
        (packed(payload={"x": array(dtype="|O")}), "dtype '|O'; those accepted"),
        (packed(payload={"x": array(more=1)}), "not those vla-eval packs"),
        (packed(payload={"x": picture(format="tiff")}), "format 'tiff'; png, jpeg and raw"),
        (packed(payload={"x": picture(format=["png"])}), "format ['png']"),
        (packed(payload={"x": picture(data="text")}), "a picture's data is a str"),
        (packed(payload={"x": picture(shape=[6, 9])}), "shape [6, 9]; send RGB"),
        (packed(payload={"x": picture(shape=[6, 9, -3])}), "send RGB"),
        (packed(payload={"x": picture(shape=[50_000, 50_000, 3])}), "unpacks to over 16 MiB"),
        (packed(payload={"x": picture(format="raw", dtype="|u1")}), "takes 162 bytes"),
        (packed(payload={"x": msgpack.ExtType(4, b"")}), "msgpack extension 4"),
        (packed(payload={"x": [[0] * 1000] * 60}), "over 50000 values"),
    ],
)
def test_a_message_that_is_not_right_is_told(frame: Any, words: str):
    with pytest.raises(BadRequestError) as raised:
        read(frame)
    assert words in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (picture(shape=[9, 6, 3]), "a picture of RGB [6, 9] is said to be [9, 6, 3]"),
        (picture(data=png(FRAME[..., 0])), "a picture of L [6, 9]"),
        (picture(data=_black(9_000, 9_000)), "a picture of RGB [9000, 9000] is said to be [6, 9, 3]"),
        (picture(data=_black(9, 6)), "no png that can be read"),
        (picture(data=png(FRAME)[:60]), "no png that can be read"),
        (picture(data=b"nonsense"), "no png that can be read"),
        (picture(data=png(FRAME), format="jpeg"), "no jpeg that can be read"),
    ],
)
def test_a_picture_that_is_not_right_is_told_when_it_is_looked_at(sent: dict[str, Any], words: str):
    with pytest.raises(BadRequestError) as raised:
        unpacked(sent)
    assert words in str(raised.value)
