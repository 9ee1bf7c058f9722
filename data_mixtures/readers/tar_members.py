"""Files inside tars, which are never unpacked: where a tar's members are, and a path to read one of them by."""

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_mixtures.video.opened_files import Signature, signature

_BLOCK = 512
_MAX_NAME_BYTES = 1 << 16


class BrokenTarError(ValueError):
    """The tar ends too early ("truncated") or its headers are not what was written ("checksum")."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True)
class Member:
    """One regular file of a tar.

    Attributes:
        name: its path inside, without a leading "./".
        header: where its first header block is, bytes from the tar's start.
        offset: where its data is.
        size: of its data, bytes.
    """

    name: str
    header: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Where the next header is."""
        return self.offset + -(-self.size // _BLOCK) * _BLOCK


def tar_members(file: io.RawIOBase, start: int = 0, stop: int | None = None) -> Iterator[Member]:
    """The regular files whose headers begin in [start, stop), read header by header; complete ones only.

    Raises BrokenTarError after the last good member when the tar goes wrong: cut short, or a header whose checksum
    does not fit. A tar that ends in order has a block of zeros (Pax format, IEEE 1003.1).
    """
    descriptor = file.fileno()
    length = os.fstat(descriptor).st_size
    position, header, long_name, long_size = start, start, "", -1
    while stop is None or position < stop:
        block = os.pread(descriptor, _BLOCK, position)
        if len(block) < _BLOCK:
            raise BrokenTarError("truncated", f"ends at byte {length} without the end mark")
        if not block.strip(b"\0"):
            return
        kind, size = block[156:157], _checked_size(block, position)
        if long_size >= 0 and kind not in b"xgLK":
            size = long_size
        offset = position + _BLOCK
        position = offset + -(-size // _BLOCK) * _BLOCK
        if offset + size > length:
            raise BrokenTarError("truncated", f"ends at byte {length}, inside the member {_name(block)!r}")
        if kind in (b"L", b"x"):  # the name, or name and size, of the member that follows
            content = os.pread(descriptor, min(size, _MAX_NAME_BYTES), offset)
            long_name, long_size = _extension(kind, content, long_name, long_size)
            continue
        if kind in (b"0", b"\0", b"7"):
            yield Member((long_name or _name(block)).removeprefix("./"), header, offset, size)
        header, long_name, long_size = position, "", -1


def _checked_size(block: bytes, position: int) -> int:
    try:
        expected = int(block[148:156].strip(b"\0 "), 8)
        # the highest bit marks a binary number, for members of 8 GiB and more
        size = int.from_bytes(block[125:136]) if block[124] & 0x80 else int(block[124:136].strip(b"\0 ") or b"0", 8)
    except ValueError as error:
        raise BrokenTarError("checksum", f"the header at byte {position} is not one") from error
    if sum(block) - sum(block[148:156]) + 8 * 32 != expected:
        raise BrokenTarError("checksum", f"the header at byte {position} does not fit its checksum")
    return size


def _name(block: bytes) -> str:
    name = block[:100].rstrip(b"\0").decode("utf-8", "replace")
    prefix = block[345:500].rstrip(b"\0") if block[257:263] == b"ustar\0" else b""
    return f"{prefix.decode('utf-8', 'replace')}/{name}" if prefix else name


def _extension(kind: bytes, content: bytes, name: str, size: int) -> tuple[str, int]:
    if kind == b"L":
        return content.rstrip(b"\0").decode("utf-8", "replace"), size
    while content.strip(b"\0"):  # records "<length> <key>=<value>\n"
        digits, _, _ = content.partition(b" ")
        if not digits.isdigit() or not 0 < int(digits) <= len(content):
            raise BrokenTarError("checksum", "an extended header is not one")
        key, _, value = content[len(digits) + 1 : int(digits)].rstrip(b"\n").partition(b"=")
        content = content[int(digits) :]
        if key == b"path":
            name = value.decode("utf-8", "replace")
        elif key == b"size" and value.isdigit():
            size = int(value)
    return name, size


# A copy a thread may still need: an episode's nine or ten files.
_COPIES = 12


class _Copies(threading.local):
    def __init__(self) -> None:
        self.by_member: OrderedDict[tuple[str, Signature, int, int], int] = OrderedDict()


_copies = _Copies()


def member_path(tar: Path, offset: int, size: int) -> Path:
    """A path under which `size` bytes of a tar, from `offset` on, are a file: a copy in memory, this thread's.

    It lives until twelve more have been asked for; whoever has it open by then keeps what they opened. Decoders and
    HDF5 read it as they read any file; a member of 8 MB costs 4 ms. Raises OSError.
    """
    member = (str(tar), signature(tar), offset, size)
    copies = _copies.by_member
    if member not in copies:
        descriptor = os.memfd_create("tar member")
        copies[member] = descriptor
        with tar.open("rb", buffering=0) as file:
            while size > 0:
                copied = os.sendfile(descriptor, file.fileno(), offset, size)
                if copied == 0:
                    raise OSError(f"{tar} ends before byte {offset + size}")
                offset, size = offset + copied, size - copied
        while len(copies) > _COPIES:
            os.close(copies.popitem(last=False)[1])
    copies.move_to_end(member)
    return Path(f"/proc/self/fd/{copies[member]}")
