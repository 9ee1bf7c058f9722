"""The wire of the public evaluation harness (`vla-eval` on the package registry), protocol version 1.

A message is msgpack {"type", "payload", "seq", "timestamp"}. An array travels as {"__ndarray__": True, "data": its
bytes, "dtype": "<f4", "shape": [..]}, a picture as {"__image__": True, "format": "png", "jpeg" or "raw", "data": ..,
"shape": [H, W, 3]}. As in messages.py, what a message may unfold to is bounded before it unfolds; pictures are only
unpacked when the policy is to look at them, because most observations are answered from the chunk under way.
"""

import io
import math
import time
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from PIL import Image

from vla.serve.messages import BadRequestError, array_of, shown, unfold

VERSION = 1
KINDS = ("hello", "episode_start", "observation", "episode_end", "error")  # what a client sends

_ARRAY_KEYS = {"__ndarray__", "data", "dtype", "shape"}
_FORMATS = {"png": "PNG", "jpeg": "JPEG"}
_MAX_PICTURE = 16 * 2**20  # bytes a picture may unpack to: a PNG of a few bytes can hold billions of black pixels
_MAX_SEQ = 2**63


@dataclass(frozen=True)
class Message:
    """What a client said: one of `KINDS`, what goes with it, and the number its answer carries."""

    kind: str
    payload: dict[Any, Any]
    seq: int


@dataclass(frozen=True)
class Picture:
    """A picture still packed: PNG or JPEG bytes, and the shape it says it has."""

    format: str
    data: bytes
    shape: tuple[int, ...]

    def unpacked(self) -> np.ndarray:
        """uint8 [H, W, 3].

        Raises:
            BadRequestError: Not a picture of that format and shape, in plain RGB.
        """
        try:
            with Image.open(io.BytesIO(self.data), formats=[_FORMATS[self.format]]) as picture:
                # Both are read from the header, before anything large is made.
                found, mode = (picture.height, picture.width, 3), picture.mode
                if mode != "RGB" or found != self.shape:
                    raise BadRequestError(
                        f"a picture of {mode} {list(found[:2])} is said to be {list(self.shape)}; send RGB [H, W, 3]"
                    )
                return np.asarray(picture)
        except BadRequestError:
            raise
        except Exception as error:  # Pillow raises what its decoders raise: OSError, SyntaxError, zlib's and struct's
            raise BadRequestError(f"a picture is no {self.format} that can be read") from error


def read(frame: bytes | str) -> Message:
    """A frame as the harness's client packs it.

    Raises:
        BadRequestError: Anything else.
    """
    if isinstance(frame, str):
        raise BadRequestError("a text frame; vla-eval sends binary frames of msgpack")
    raw = unfold(frame, _from_harness, "vla-eval's client")
    if not isinstance(raw, dict) or not {"type", "payload", "seq"} <= raw.keys():
        raise BadRequestError(f"the message is {shown(raw)}; vla-eval's have type, payload, seq and timestamp")
    kind, payload, seq = raw["type"], raw["payload"], raw["seq"]
    if kind not in KINDS:
        raise BadRequestError(f"the type is {shown(kind)}; a client of vla-eval sends {', '.join(KINDS)}")
    if not isinstance(payload, dict):
        raise BadRequestError(f"the payload is {shown(payload)}; it is a map")
    if type(seq) is not int or not 0 <= seq < _MAX_SEQ:
        raise BadRequestError(f"seq is {shown(seq)}; it is a whole number")
    return Message(kind, payload, seq)


def write(kind: str, payload: dict[str, Any], seq: int) -> bytes:
    """A message to the harness's client; arrays in `payload` are float32."""
    message = {"type": kind, "payload": payload, "seq": seq, "timestamp": time.time()}
    packed = msgpack.packb(message, default=_encode)
    assert packed is not None
    return packed


def _encode(value: object) -> object:
    assert isinstance(value, np.ndarray), value
    return {"__ndarray__": True, "data": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}


def _from_harness(pairs: dict[Any, Any]) -> Any:
    if "__ndarray__" in pairs:
        if pairs.keys() != _ARRAY_KEYS:
            raise BadRequestError(f"an array has the keys {shown(sorted(pairs, key=str))}, not those vla-eval packs")
        return array_of(pairs["data"], pairs["dtype"], pairs["shape"])
    return _picture(pairs) if "__image__" in pairs else pairs


def _picture(pairs: dict[Any, Any]) -> Picture | np.ndarray:
    kind, data, shape = pairs.get("format"), pairs.get("data"), pairs.get("shape")
    if kind == "raw":
        return array_of(data, pairs.get("dtype"), shape)
    if not isinstance(kind, str) or kind not in _FORMATS:
        raise BadRequestError(f"a picture has the format {shown(kind)}; png, jpeg and raw are read")
    if not isinstance(data, bytes):
        raise BadRequestError(f"a picture's data is a {type(data).__name__}, not bytes")
    if not (isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and 0 < n < 2**31 for n in shape)):
        raise BadRequestError(f"a picture has shape {shown(shape)}; send RGB [H, W, 3]")
    if math.prod(shape) > _MAX_PICTURE:
        raise BadRequestError(f"a picture of shape {shape} unpacks to over {_MAX_PICTURE // 2**20} MiB")
    return Picture(kind, data, tuple(shape))
