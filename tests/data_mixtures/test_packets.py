"""Packets: encoded as planned, decoded exactly, damage found."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from array_reader import picture

from data_mixtures.shards.encoder import GOP, PacketEncoder, PixelFormat
from data_mixtures.shards.packets import (
    DamagedPacketsError,
    PacketShards,
    decode_group,
    gop_checksum,
    write_planes,
)

SIZE = 64


def drifting(length: int, episode: int = 0) -> np.ndarray:
    """Uint8 [length, 3, SIZE, SIZE]."""
    return np.stack([picture(episode, 0, frame, SIZE, SIZE).transpose(2, 0, 1) for frame in range(length)])


def encoded(frames: np.ndarray, pixel_format: PixelFormat = "yuv420p", block: int = 7) -> list[bytes]:
    encoder = PacketEncoder(SIZE, pixel_format)
    packets = [p for start in range(0, len(frames), block) for p in encoder.encode(frames[start : start + block])]
    return packets + encoder.finish()


def decoded(packets: list[bytes], wanted: list[int]) -> np.ndarray:
    planes = np.empty((len(wanted), 3, SIZE, SIZE), dtype=np.uint8)
    for frame, target in zip(decode_group(packets, wanted), planes, strict=True):
        write_planes(frame, target)
    return planes


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def store(folder: Path, groups: list[list[bytes]], per_shard: int) -> PacketShards:
    """Groups of pictures in shards of `per_shard` each."""
    shards = [groups[start : start + per_shard] for start in range(0, len(groups), per_shard)]
    paths = [folder / f"shard-{number:05d}.bin" for number in range(len(shards))]
    for path, members in zip(paths, shards, strict=True):
        path.write_bytes(b"".join(packet for group in members for packet in group))
    offsets = np.cumsum([0, *(len(packet) for group in groups for packet in group)])
    sums = [gop_checksum([len(packet) for packet in group], b"".join(group)) for group in groups]
    return PacketShards(paths, [p.stat().st_size for p in paths], offsets, np.array(sums, dtype=np.uint32))


@pytest.mark.parametrize(("pixel_format", "at_least"), [("yuv420p", 34.0), ("yuv444p", 35.0)])
def test_every_group_decodes_alone_and_close_to_what_was_encoded(pixel_format: PixelFormat, at_least: float) -> None:
    frames = drifting(2 * GOP + 3)
    packets = encoded(frames, pixel_format)
    assert len(packets) == len(frames)
    for start in (2 * GOP, 0, GOP):  # in no order: a group needs nothing before it
        group = packets[start : start + GOP]
        pictures = decoded(group, list(range(len(group))))
        for picture_, frame in zip(pictures, frames[start : start + GOP], strict=True):
            assert psnr(picture_, frame) > at_least


def test_single_frames_are_the_same_as_in_a_whole_group() -> None:
    packets = encoded(drifting(GOP))
    whole = decoded(packets, list(range(GOP)))
    for number in range(GOP):
        assert np.array_equal(decoded(packets, [number])[0], whole[number])
    assert np.array_equal(decoded(packets, [1, 5]), whole[[1, 5]])


def test_packets_do_not_depend_on_blocks_nor_on_the_run() -> None:
    frames = drifting(GOP + 5)
    assert encoded(frames, block=1) == encoded(frames, block=100) == encoded(frames)


def test_groups_are_found_across_shards(tmp_path: Path) -> None:
    clips = [drifting(GOP if clip < 4 else 3, clip) for clip in range(5)]
    groups = [encoded(clip) for clip in clips]
    packets = store(tmp_path, groups, per_shard=2)
    for number in (4, 0, 3, 1, 2):
        first = number * GOP
        assert packets.group(number, first, first + len(groups[number])) == groups[number]


def test_damage_is_named(tmp_path: Path) -> None:
    groups = [encoded(drifting(GOP, clip)) for clip in range(2)]

    def kind_of(packets: PacketShards) -> str:
        with pytest.raises(DamagedPacketsError) as error:
            packets.group(1, GOP, 2 * GOP)
        return error.value.kind

    packets = store(tmp_path, groups, per_shard=2)
    path, whole = packets.shards[0], packets.shards[0].read_bytes()
    damaged = bytearray(whole)
    damaged[-50] ^= 1
    path.write_bytes(damaged)
    assert kind_of(packets) == "checksum"
    assert packets.group(0, 0, GOP) == groups[0]  # the other one is sound
    path.write_bytes(whole[:-50])
    assert kind_of(packets) == "truncated"
    path.write_bytes(whole)
    assert packets.group(1, GOP, 2 * GOP) == groups[1]
    path.with_name("new").write_bytes(whole)
    os.replace(path.with_name("new"), path)
    assert kind_of(packets) == "changed"
    path.unlink()
    assert kind_of(packets) == "unreadable"


@pytest.mark.parametrize("change", [1, -3, 10**9, -(10**9)])
def test_wrong_offsets_are_damage(tmp_path: Path, change: int) -> None:
    packets = store(tmp_path, [encoded(drifting(GOP, clip)) for clip in range(3)], per_shard=2)
    for row in (GOP, GOP + 3, 2 * GOP):  # a group's start, a packet inside it, its end
        packets.offsets[row] += change
        with pytest.raises(DamagedPacketsError):
            packets.group(1, GOP, 2 * GOP)
        packets.offsets[row] -= change


def test_packets_that_do_not_decode_are_damage_and_the_decoder_goes_on() -> None:
    packets = encoded(drifting(GOP))
    with pytest.raises(DamagedPacketsError):
        decode_group([b"\0" * 100, *packets[1:]], [3])
    assert psnr(decoded(packets, [3])[0], drifting(GOP)[3]) > 34


def test_threads_and_forks_read_the_same(tmp_path: Path) -> None:
    groups = [encoded(drifting(GOP, clip)) for clip in range(4)]
    packets = store(tmp_path, groups, per_shard=1)
    expected = [decoded(group, [2])[0] for group in groups]
    wrong: list[int] = []

    def read() -> None:
        for number in range(4):
            got = decoded(packets.group(number, number * GOP, (number + 1) * GOP), [2])[0]
            if not np.array_equal(got, expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    child = os.fork()
    if child == 0:
        try:
            read()
            os._exit(len(wrong))
        except BaseException:
            os._exit(99)
    assert os.waitpid(child, 0)[1] == 0
