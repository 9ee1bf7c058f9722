"""One episode's record: its fields as numbers, texts and encoded images, each with one value a step."""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers.example_proto import Values
from data_mixtures.readers.rlds_files import Feature

_ENCODED_DTYPES = ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool")
_MAX_UNDECLARED_BYTES = 1 << 16  # of one step's value whose shape features.json does not tell


@dataclass(frozen=True)
class Record:
    """The parsed fields of one episode; everything wrong with them raises BadEpisodeError under its key.

    Attributes:
        key: the episode's.
        values: the fields that were read, flattened over steps.
        features: what features.json says of them.
    """

    key: str
    values: dict[str, Values]
    features: dict[str, Feature]

    def length(self, fields: Iterable[str]) -> int:
        """Steps of the episode, on which all these fields that have one value a step must agree."""
        counts = {name: self._count(name) for name in sorted(fields) if self.features[name].per_step}
        if not counts:
            raise BadEpisodeError(self.key, "column", "no field with one value a step is read")
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise BadEpisodeError(self.key, "length", f"its fields have different numbers of steps: {told}")
        return next(iter(counts.values()))

    def _count(self, name: str) -> int:
        values, feature = self._values(name), self.features[name]
        if isinstance(values, list):
            return len(values)
        width = self._width(name, feature)
        if len(values) % width:
            raise BadEpisodeError(
                self.key, "length", f"{name} has {len(values)} numbers, which are no whole steps of {width}"
            )
        return len(values) // width

    def _values(self, name: str) -> Values:
        if name not in self.values:
            raise BadEpisodeError(self.key, "column", f"{name} is missing from the record")
        return self.values[name]

    def _width(self, name: str, feature: Feature) -> int:
        width = math.prod(feature.shape)
        if width <= 0:
            raise BadEpisodeError(
                self.key, "column", f"{name} has shape {feature.shape}: its steps cannot be told apart"
            )
        return width

    def numbers(self, name: str) -> np.ndarray:
        """A field's numbers: float64 [T, d], or [1, d] for one of the whole episode."""
        values, feature = self._values(name), self.features[name]
        if isinstance(values, list):
            return self._decoded(name, values, feature)
        width = self._width(name, feature)
        self._count(name)  # whole steps only
        return values.reshape(-1, width).astype(np.float64)

    def _decoded(self, name: str, values: list[memoryview], feature: Feature) -> np.ndarray:
        """Numbers stored as one byte string a step, which may be compressed without features.json saying so."""
        declared = feature.dtype in _ENCODED_DTYPES and feature.encoding != "none"
        dtype = np.dtype(feature.dtype if declared else "float32").newbyteorder("<")
        size = self._width(name, feature) * dtype.itemsize if declared else None
        rows = []
        for value in values:
            data = _plain(bytes(value), feature.encoding, size or _MAX_UNDECLARED_BYTES)
            if data is None or len(data) % dtype.itemsize or size not in (None, len(data)):
                raise BadEpisodeError(self.key, "column", f"{name} holds bytes that are no {dtype} of {feature.shape}")
            rows.append(np.frombuffer(data, dtype=dtype))
        if len({len(row) for row in rows}) > 1:
            raise BadEpisodeError(self.key, "length", f"{name} has steps of different widths")
        return np.stack(rows).astype(np.float64) if rows else np.zeros((0, 1))

    def first_text(self, name: str) -> str:
        """The first step's text that is not empty; ''. Numbers are UTF-8 code points, to the first 0."""
        values = self._values(name)
        if not isinstance(values, list):
            return next(filter(None, map(_from_code_points, self.numbers(name))), "")
        # damaged text cannot get here past the checksum; texts that were never UTF-8 can, and are shown as such
        return next(filter(None, (str(value, "utf-8", "replace").strip("\0 \t\r\n") for value in values)), "")

    def images(self, name: str) -> list[memoryview]:
        """Encoded images, one a step."""
        values = self._values(name)
        if not isinstance(values, list):
            raise BadEpisodeError(self.key, "column", f"{name} holds numbers where encoded images must be")
        return values


def _plain(data: bytes, encoding: str, limit: int) -> bytes | None:
    """At most `limit` bytes, decompressed if they are a zlib stream; None if there are more or the stream is broken."""
    if encoding != "bytes":
        stream = zlib.decompressobj()
        try:
            plain = stream.decompress(data, limit)
        except zlib.error:
            plain = None
        if plain is not None and stream.eof:  # its checksum fits: no accident
            return plain
    return data if encoding != "zlib" and len(data) <= limit else None


def _from_code_points(row: np.ndarray) -> str:
    end = np.flatnonzero(row == 0)
    points = row[: end[0]] if len(end) else row
    valid = (points > 0) & (points < 0x110000) & ~((points >= 0xD800) & (points < 0xE000))
    return "".join(
        chr(int(point)) if ok else "\N{REPLACEMENT CHARACTER}" for point, ok in zip(points, valid, strict=True)
    ).strip()
