"""The wire: msgpack with numpy arrays, as openpi's client packs them, and nothing that could hurt to unpack.

An array travels as {b"__ndarray__": True, b"data": its bytes, b"dtype": "<f4", b"shape": [..]}, a numpy scalar as
{b"__npgeneric__": True, b"data": number, b"dtype": ..}. Data comes from strangers: arrays hold plain numbers in a
shape that fits their bytes, and what a message may unfold to is bounded before it unfolds. A byte of msgpack can
declare a list of 56 bytes, so the size of a message alone bounds little.
"""

import math
import reprlib
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

# Little-endian plain numbers. Object, text, structured and complex arrays have no use in an observation.
DTYPES = frozenset(["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"])

_ARRAY_KEYS = {b"__ndarray__", b"data", b"dtype", b"shape"}
_SCALAR_KEYS = {b"__npgeneric__", b"data", b"dtype"}
_MAX_ITEMS = 50_000  # values of all lists and maps together
_MAX_LENGTH = 4_096  # values of one list or map
_MAX_TEXT = 10_000  # bytes of one text
_MAX_DIMS = 8


class BadRequestError(ValueError):
    """A request that cannot be answered; the text is for its sender."""


def shown(value: object) -> str:
    """A stranger's value in an error message: short, whatever it is."""
    return reprlib.repr(value)


def pack(message: dict[str, Any]) -> bytes:
    """A message with numpy arrays and scalars in it -> the bytes openpi's client unpacks."""
    packed = msgpack.packb(message, default=_encode)
    assert packed is not None
    return packed


def _encode(value: object) -> object:
    if isinstance(value, np.ndarray) and value.dtype.str in DTYPES:
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic) and value.dtype.str in DTYPES:
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a message cannot hold {type(value).__name__}")


def unpack(raw: bytes) -> dict[str, Any]:
    """The bytes of a request -> its keys and values, arrays as read-only numpy arrays, numpy scalars as numbers.

    Raises:
        BadRequestError: Not one whole msgpack map, or something in it that no observation holds.
    """
    message = unfold(raw, _from_openpi, "openpi's client")
    if not isinstance(message, dict):
        raise BadRequestError(f"the message is a {type(message).__name__}; an observation is a map of keys to values")
    return message


def unfold(raw: bytes, special: Callable[[dict[Any, Any]], Any], sender: str) -> Any:
    """What one whole msgpack value holds, bounded while it unfolds.

    Args:
        raw: The bytes.
        special: Makes of each map what it stands for, such as an array; or gives it back.
        sender: Who packs messages as they should be, for the words of a refusal.

    Raises:
        BadRequestError: Not one whole msgpack value, too many values, or what `special` refused.
    """
    unfolding = _Unfolding(special)
    try:
        return msgpack.unpackb(
            raw,
            object_hook=unfolding.mapping,
            list_hook=unfolding.sequence,
            ext_hook=_no_extension,
            max_array_len=_MAX_LENGTH,
            max_map_len=_MAX_LENGTH,
            max_str_len=_MAX_TEXT,
        )
    except BadRequestError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        words = str(error)[:200] or type(error).__name__
        raise BadRequestError(f"the message is no msgpack as {sender} packs it: {words}") from error


class _Unfolding:
    """Counts what one message has become so far."""

    def __init__(self, special: Callable[[dict[Any, Any]], Any]) -> None:
        self.items = 0
        self._special = special

    def _spend(self, items: int) -> None:
        self.items += 1 + items
        if self.items > _MAX_ITEMS:
            raise BadRequestError(f"the message holds over {_MAX_ITEMS} values: send numbers as numpy arrays")

    def sequence(self, values: list[Any]) -> list[Any]:
        self._spend(len(values))
        return values

    def mapping(self, pairs: dict[Any, Any]) -> Any:
        self._spend(len(pairs))
        return self._special(pairs)


def _from_openpi(pairs: dict[Any, Any]) -> Any:
    if b"__ndarray__" in pairs:
        if pairs.keys() != _ARRAY_KEYS:
            keys = shown(sorted(pairs, key=str))
            raise BadRequestError(f"an array has the keys {keys}, not those openpi's client packs")
        return array_of(pairs[b"data"], pairs[b"dtype"], pairs[b"shape"])
    if b"__npgeneric__" in pairs:
        return _scalar(pairs)
    return pairs


def array_of(data: object, dtype: object, shape: object) -> np.ndarray:
    """An array that a stranger describes, read-only, over the memory of `data`.

    Raises:
        BadRequestError: No plain numbers, or bytes that do not fit the shape.
    """
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise BadRequestError(f"an array has dtype {shown(dtype)}; those accepted are {', '.join(sorted(DTYPES))}")
    if not isinstance(shape, list) or len(shape) > _MAX_DIMS or not all(_is_length(n) for n in shape):
        raise BadRequestError(f"an array has shape {shown(shape)}, not a list of at most {_MAX_DIMS} whole numbers")
    wanted = math.prod(shape) * np.dtype(dtype).itemsize
    if not isinstance(data, bytes) or len(data) != wanted:
        held = f"{len(data)} bytes" if isinstance(data, bytes) else f"a {type(data).__name__}"
        raise BadRequestError(f"an array of shape {shown(shape)} and dtype {dtype} takes {wanted} bytes, not {held}")
    return np.ndarray(shape, np.dtype(dtype), buffer=data)


def _is_length(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _scalar(pairs: dict[Any, Any]) -> bool | int | float | str:
    value = pairs.get(b"data")
    if pairs.keys() != _SCALAR_KEYS or not isinstance(value, bool | int | float | str):
        raise BadRequestError(f"a numpy scalar holds {shown(value)}; send a number or a text")
    return value


def _no_extension(code: int, data: bytes) -> object:
    raise BadRequestError(f"the message holds msgpack extension {code}; an observation has none")
