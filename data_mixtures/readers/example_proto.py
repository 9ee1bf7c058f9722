"""`tf.train.Example` read from its bytes: a map from names to lists of floats, of integers or of byte strings.

    Example   { Features features = 1; }              Feature   { oneof: BytesList = 1, FloatList = 2, Int64List = 3 }
    Features  { map<string, Feature> feature = 1; }   *List     { repeated value = 1, packed or not }

Read straight from the wire format: what is not asked for is skipped, byte strings are views of the record and not
copies (also the reason that their trailing NULs stay), and whatever the bytes are, an `ExampleError` is the worst.
"""

from collections.abc import Container, Iterator

import numpy as np

Values = np.ndarray | list[memoryview]

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
_MAX_VARINT_BYTES = 10


class ExampleError(ValueError):
    """These bytes are no `tf.train.Example`."""


def parse_example(data: bytes, wanted: Container[str] | None = None) -> dict[str, Values]:
    """The features of a serialized `tf.train.Example`: float32 [n], int64 [n] or byte strings, by name.

    A feature without values is an empty list.

    Args:
        data: a record.
        wanted: names to read; all when None.
    """
    view = memoryview(data)
    found: dict[str, Values] = {}
    for _, features in _messages(view, 1):
        for _, entry in _messages(features, 1):
            name, feature = _map_entry(entry)
            if wanted is None or name in wanted:
                found[name] = _feature(feature)
    return found


def _map_entry(entry: memoryview) -> tuple[str, memoryview]:
    name, feature = "", entry[:0]
    for number, value in _messages(entry, 2):
        if number == 1:
            name = _text(value)
        else:
            feature = value
    return name, feature


def _text(value: memoryview) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise ExampleError("a feature's name is not UTF-8") from error


def _feature(feature: memoryview) -> Values:
    values: Values = []
    for number, content in _messages(feature, _INT64_LIST):
        if number == _BYTES_LIST:
            values = [value for _, value in _messages(content, 1)]
        else:
            values = _floats(content) if number == _FLOAT_LIST else _integers(content)
    return values


def _floats(content: memoryview) -> np.ndarray:
    parts = []
    for number, wire_type, start, stop in _fields(content):
        if number == 1:
            if wire_type not in (_DELIMITED, _FIXED32) or (stop - start) % 4:
                raise ExampleError(f"a list of floats holds {stop - start} bytes of wire type {wire_type}")
            parts.append(content[start:stop])
    if len(parts) == 1:
        return np.frombuffer(parts[0], dtype="<f4")
    return np.frombuffer(b"".join(parts), dtype="<f4")


def _integers(content: memoryview) -> np.ndarray:
    parts = []
    for number, wire_type, start, stop in _fields(content):
        if number == 1:
            if wire_type not in (_DELIMITED, _VARINT):
                raise ExampleError(f"a list of integers holds wire type {wire_type}")
            parts.append(content[start:stop])
    return _varints(np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), dtype=np.uint8))


def _varints(data: np.ndarray) -> np.ndarray:
    """Base-128 numbers, lowest digit first, the high bit set on all but the last -> int64 [n]."""
    last = data < 0x80
    if last.all():  # flags and small numbers, nearly always
        return data.astype(np.int64)
    if not last[-1]:
        raise ExampleError("a list of integers ends inside a number")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() >= _MAX_VARINT_BYTES:
        raise ExampleError(f"an integer of more than {_MAX_VARINT_BYTES} bytes")
    place = np.arange(len(data)) - np.repeat(starts, ends - starts + 1)
    digits = (data & np.uint8(0x7F)).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(digits, starts).view(np.int64)


def _messages(view: memoryview, last: int) -> Iterator[tuple[int, memoryview]]:
    """(field number, content) of the fields 1 .. `last`, all of them messages or strings; others are stepped over."""
    for number, wire_type, start, stop in _fields(view):
        if not 1 <= number <= last:
            continue
        if wire_type != _DELIMITED:
            raise ExampleError(f"field {number} has wire type {wire_type} where a message or a string must be")
        yield number, view[start:stop]


def _fields(view: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start and end of its content)."""
    position, end = 0, len(view)
    while position < end:
        tag, position = _varint(view, position)
        wire_type = tag & 7
        if wire_type == _DELIMITED:
            size, start = _varint(view, position)
        elif wire_type == _FIXED32:
            size, start = 4, position
        elif wire_type == _FIXED64:
            size, start = 8, position
        elif wire_type == _VARINT:
            start, size = position, _varint(view, position)[1] - position
        else:
            raise ExampleError(f"wire type {wire_type} does not exist")
        position = start + size
        if position > end:
            raise ExampleError(f"a field of {size} bytes where {end - start} are left")
        yield tag >> 3, wire_type, start, position


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    """The number at `position` and where it ends."""
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        if position + place >= len(view):
            raise ExampleError("ends inside a number")
        byte = view[position + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, position + place + 1
    raise ExampleError(f"a number of more than {_MAX_VARINT_BYTES} bytes")
