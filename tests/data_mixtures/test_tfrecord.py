"""TFRecord and tf.train.Example against protobuf's own parser, and against damage."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from rlds_files import delimited, example, masked, record, varint

from data_mixtures.readers.example_proto import ExampleError, parse_example
from data_mixtures.readers.tfrecord import RecordError, index_records, read_record

few = settings(max_examples=60, deadline=None, derandomize=True)


def example_class() -> type:
    """tf.train.Example, from its published definition."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> descriptor_pb2.DescriptorProto:
        added = file.message_type.add(name=name)
        for field, number, label, kind, type_name in fields:
            added.field.add(name=field, number=number, label=label, type=kind, type_name=type_name or None)
        return added

    many, one = kinds.LABEL_REPEATED, kinds.LABEL_OPTIONAL
    message("BytesList", ("value", 1, many, kinds.TYPE_BYTES, ""))
    message("FloatList", ("value", 1, many, kinds.TYPE_FLOAT, ""))
    message("Int64List", ("value", 1, many, kinds.TYPE_INT64, ""))
    lists = (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List"))
    message("Feature", *((name, i + 1, one, kinds.TYPE_MESSAGE, f".t.{kind}") for i, (name, kind) in enumerate(lists)))
    entries = message("Features", ("feature", 1, many, kinds.TYPE_MESSAGE, ".t.Features.FeatureEntry"))
    entry = entries.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=one, type=kinds.TYPE_STRING)
    entry.field.add(name="value", number=2, label=one, type=kinds.TYPE_MESSAGE, type_name=".t.Feature")
    message("Example", ("features", 1, one, kinds.TYPE_MESSAGE, ".t.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


EXAMPLE = example_class()
floats = st.lists(st.floats(width=32, allow_nan=False), max_size=9).map(lambda v: np.array(v, np.float32))
integers = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300), max_size=9).map(
    lambda v: np.array(v, np.int64)
)
byte_strings = st.lists(st.binary(max_size=12), max_size=5)
features = st.dictionaries(st.text(max_size=8), floats | integers | byte_strings, max_size=4)


def plain(values: object) -> list:
    return values.tolist() if isinstance(values, np.ndarray) else [bytes(value) for value in values]  # type: ignore


@few
@given(features)
def test_what_protobuf_writes_is_read_as_it_was(wanted: dict) -> None:
    message = EXAMPLE()
    for name, values in wanted.items():
        feature = message.features.feature[name]
        if isinstance(values, list):
            feature.bytes_list.value.extend(values)
        elif values.dtype == np.float32:
            feature.float_list.value.extend(values.tolist())
        else:
            feature.int64_list.value.extend(values.tolist())
    found = parse_example(message.SerializeToString())
    assert {name: plain(values) for name, values in found.items()} == {n: plain(v) for n, v in wanted.items()}


@few
@given(features, st.booleans())
def test_our_writer_writes_what_protobuf_reads_packed_or_not(wanted: dict, packed: bool) -> None:
    data = example(wanted, packed)
    message = EXAMPLE.FromString(data)
    for name, values in wanted.items():
        feature = message.features.feature[name]
        kind = "bytes" if isinstance(values, list) else "float" if values.dtype == np.float32 else "int64"
        assert list(getattr(feature, f"{kind}_list").value) == plain(values)
    assert {name: plain(values) for name, values in parse_example(data).items()} == {
        n: plain(v) for n, v in wanted.items()
    }


def test_trailing_nuls_stay_and_only_what_is_wanted_is_read() -> None:
    data = example({"a": [b"\0\xff\0\0", b""], "b": np.array([1.5, 2.5], np.float32)})
    found = parse_example(data, {"a"})
    assert list(found) == ["a"]
    assert plain(found["a"]) == [b"\0\xff\0\0", b""]


def test_unknown_fields_are_stepped_over() -> None:
    inner = example({"a": np.array([7])})
    unknown = varint(9 << 3) + varint(300) + varint(10 << 3 | 1) + b"12345678" + varint(11 << 3 | 5) + b"1234"
    assert plain(parse_example(unknown + inner + unknown)["a"]) == [7]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a\x05\x0a", "5 bytes where 1 are left"),
        (b"\x0a" + b"\xff" * 11, "more than 10 bytes"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "where 0 are left"),
        (b"\x0b", "wire type 3"),
        (b"\x08\x01", "wire type 0 where"),
        (b"\x0e", "wire type 6 does not exist"),
        (delimited(1, delimited(1, delimited(1, b"\xff\xfe"))), "not UTF-8"),
        (delimited(1, delimited(1, delimited(2, delimited(2, delimited(1, b"123"))))), "list of floats"),
        (delimited(1, delimited(1, delimited(2, delimited(3, b"\x0d1234")))), "list of integers"),
        (delimited(1, delimited(1, delimited(2, delimited(3, delimited(1, b"\x01\x80"))))), "inside a number"),
        (delimited(1, delimited(1, delimited(2, delimited(3, delimited(1, b"\xff" * 11 + b"\0"))))), "more than 10"),
    ],
)
def test_what_is_no_example_says_so(data: bytes, reason: str) -> None:
    with pytest.raises(ExampleError, match=reason):
        parse_example(data)


@few
@given(st.binary(max_size=40), st.data())
def test_any_bytes_are_an_example_or_an_error(noise: bytes, data: st.DataObject) -> None:
    whole = example({"image": [b"\xff\xd8" * 9], "state": np.arange(5.0), "flag": np.array([1, 0, 300])})
    cut = data.draw(st.integers(0, len(whole)))
    again = data.draw(st.integers(cut, len(whole)))
    for damaged in (noise, whole[:cut] + noise + whole[again:]):
        try:
            parse_example(damaged)
        except ExampleError:
            continue


# ------------------------------------------------------------------------------------------------------- records


def write(path: Path, *contents: bytes) -> bytes:
    data = b"".join(record(content) for content in contents)
    path.write_bytes(data)
    return data


def test_records_are_found_and_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    contents = [b"one", b"", b"three" * 1000]
    write(path, *contents)
    index = index_records(path)
    assert index.problem is None
    assert index.starts.dtype == np.int64
    assert [read_record(path, *index.starts[i : i + 2].tolist()) for i in range(3)] == contents


def test_indexing_reads_headers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tfrecord"
    write(path, b"x" * 5000, b"y" * 5000)
    sizes, pread = [], os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, offset: sizes.append(size) or pread(file, size, offset))
    assert len(index_records(path)) == 2
    assert sizes == [12, 12]


@pytest.mark.parametrize(("keep", "whole"), [(-1, 2), (-4, 2), (-9, 2), (30, 1), (8, 0)])
def test_a_file_cut_short_keeps_its_whole_records(tmp_path: Path, keep: int, whole: int) -> None:
    path = tmp_path / "a.tfrecord"
    data = write(path, b"one", b"two", b"three")
    path.write_bytes(data[:keep])
    index = index_records(path)
    assert len(index) == whole
    assert index.problem is not None
    assert index.problem.kind == "truncated"


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    data = write(path, b"first", b"second")
    kinds = set()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        index = index_records(path)
        found = []
        for start, stop in zip(index.starts[:-1].tolist(), index.starts[1:].tolist(), strict=True):
            try:
                found.append(read_record(path, start, stop))
            except RecordError as error:
                kinds.add(error.kind)
                found.append(None)
        assert index.problem is not None or None in found
        assert set(found) <= {b"first", b"second", None}
    assert kinds == {"checksum"}


def test_a_length_of_exabytes_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    length = struct.pack("<Q", 2**62)
    path.write_bytes(record(b"one") + length + masked(length))
    index = index_records(path)
    assert (len(index), index.problem and index.problem.kind) == (1, "truncated")


def test_a_record_of_a_replaced_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    write(path, b"one", b"two")
    start, stop = index_records(path).starts[1:3].tolist()
    write(path, b"one", b"another")
    with pytest.raises(RecordError, match="another length"):
        read_record(path, start, stop)
    path.unlink()
    with pytest.raises(RecordError, match="cannot be opened"):
        read_record(path, start, stop)
