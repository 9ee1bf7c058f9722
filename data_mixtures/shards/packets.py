"""Reading packets from one camera's shards, checked, and decoding them."""

import os
import struct
import threading
import weakref
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from data_mixtures.defects import DefectKind

_OPEN_SHARDS = 64  # a thread
_GBR = (1, 2, 0)  # planes of "gbrp" as places in RGB


class DamagedPacketsError(ValueError):
    """Packets that cannot be had as they were written."""

    def __init__(self, kind: DefectKind, detail: str) -> None:
        super().__init__(detail)
        self.kind: DefectKind = kind
        self.detail = detail


def gop_checksum(sizes: Sequence[int], packets: bytes | memoryview) -> int:
    """CRC-32 of a group of pictures: its packets' sizes in bytes (int64 each), then the packets."""
    return zlib.crc32(packets, zlib.crc32(struct.pack(f"<{len(sizes)}q", *sizes)))


class _OpenShard:
    """A shard's descriptor, closed with the object; `pread` moves no position, so threads and forks may share it."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        status = os.fstat(self.descriptor)
        self.num_bytes, self.inode = status.st_size, status.st_ino
        weakref.finalize(self, os.close, self.descriptor)


class _OpenShards(threading.local):
    def __init__(self) -> None:
        self.by_number: OrderedDict[int, _OpenShard] = OrderedDict()


class PacketShards:
    """One camera's packets.

    Args:
        shards: the shard files in order.
        sizes: their sizes in bytes, as written.
        offsets: where each row's packet begins, int64 [N + 1], counted through all shards.
        checksums: of every group of pictures, uint32 [G].
    """

    def __init__(self, shards: list[Path], sizes: list[int], offsets: np.ndarray, checksums: np.ndarray) -> None:
        self.shards, self.offsets, self.checksums = shards, offsets, checksums
        self._paths = [str(path) for path in shards]
        self._bounds = list(accumulate(sizes, initial=0))
        self._inodes: dict[int, int] = {}
        self._open = _OpenShards()

    def group(self, number: int, first_row: int, stop_row: int) -> list[bytes]:
        """The packets of group of pictures `number`, which holds these rows; DamagedPacketsError if not as written."""
        bounds: list[int] = self.offsets[first_row : stop_row + 1].tolist()  # lists: arrays this small cost more
        start, stop = bounds[0], bounds[-1]
        sizes = [after - before for before, after in pairwise(bounds)]
        shard = bisect_right(self._bounds, start) - 1
        if not (0 <= shard < len(self.shards) and stop <= self._bounds[shard + 1] and min(sizes) > 0):
            raise DamagedPacketsError("checksum", f"offsets.npy beside {self._where(0)} says {start} to {stop}")
        data = self._read(shard, start - self._bounds[shard], stop - start)
        if gop_checksum(sizes, data) != self.checksums[number]:
            raise DamagedPacketsError("checksum", f"{self._where(shard)}: group of pictures {number} is not as written")
        return [data[before - start : after - start] for before, after in pairwise(bounds)]

    def _read(self, shard: int, start: int, num_bytes: int) -> bytes:
        opened = self._opened(shard)
        try:
            data = os.pread(opened.descriptor, num_bytes, start)
        except OSError as error:
            raise DamagedPacketsError("unreadable", f"{self._where(shard)} cannot be read: {error}") from error
        if len(data) < num_bytes:
            raise DamagedPacketsError("truncated", f"{self._where(shard)} ends before byte {start + num_bytes}")
        return data

    def _opened(self, shard: int) -> _OpenShard:
        """The shard's descriptor, after a look whether the file is still the same one (a microsecond)."""
        try:
            status = os.stat(self._paths[shard])
            opened = self._open.by_number.get(shard) or self._open_now(shard)
        except OSError as error:
            raise DamagedPacketsError("unreadable", f"{self._where(shard)} cannot be opened: {error}") from error
        if status.st_ino != self._inodes.setdefault(shard, opened.inode):
            raise DamagedPacketsError("changed", f"{self._where(shard)} is not the file that was opened: start anew")
        return opened

    def _open_now(self, shard: int) -> _OpenShard:
        opened = self._open.by_number[shard] = _OpenShard(self.shards[shard])
        if len(self._open.by_number) > _OPEN_SHARDS:
            self._open.by_number.popitem(last=False)
        return opened

    def _where(self, shard: int) -> str:
        path = self.shards[shard]
        return f"{path.parent.name}/{path.name}"


class _Decoder(threading.local):
    """One H.264 decoder a thread, kept: each group of pictures begins with a keyframe, which clears it."""

    def __init__(self) -> None:
        self.context: VideoCodecContext | None = None
        self.reformatter = VideoReformatter()

    def fresh(self) -> VideoCodecContext:
        """The decoder, made when first needed or when the last one met an error."""
        if self.context is None:
            context = av.CodecContext.create("h264", "r")
            assert isinstance(context, VideoCodecContext)
            context.thread_count = 1
            self.context = context
        return self.context


_decoder = _Decoder()


def _forget_decoder() -> None:
    global _decoder
    _decoder = _Decoder()


os.register_at_fork(after_in_child=_forget_decoder)


def decode_group(packets: list[bytes], wanted: list[int]) -> list[VideoFrame]:
    """The frames numbered `wanted` (rising) of a group of pictures; what comes after the last one is not decoded."""
    context, frames = _decoder.fresh(), []
    chosen = set(wanted)
    try:
        for number, packet in enumerate(packets[: wanted[-1] + 1]):
            (frame,) = context.decode(av.Packet(packet))
            if number in chosen:
                frames.append(frame)
    except (av.FFmpegError, ValueError) as error:
        _decoder.context = None
        raise DamagedPacketsError("video", f"packets do not decode: {error}") from error
    return frames


def write_planes(frame: VideoFrame, target: np.ndarray) -> None:
    """A decoded frame as RGB planes into uint8 [3, size, size].

    Planar straight from the scaler: 0.6 ms for 16 frames of 256 px, and 0.4 ms for the copy; packed RGB, transposed,
    takes twice that. Its threads are turned off: by default it starts one a core for every frame.
    """
    size = target.shape[-1]
    if (frame.height, frame.width) != (size, size):
        raise DamagedPacketsError("video", f"a frame is {frame.height} x {frame.width}, not {size} x {size}")
    planes = _decoder.reformatter.reformat(frame, format="gbrp", threads=1).planes
    for place, plane in zip(_GBR, planes, strict=True):
        pixels = np.frombuffer(memoryview(plane), dtype=np.uint8)  # pyright: ignore[reportArgumentType]
        target[place] = pixels.reshape(-1, plane.line_size)[:size, :size]
