"""One part of an ingest: a run of episodes to packets and an index, written aside and renamed when whole."""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode
from data_mixtures.readers.reader import Reader
from data_mixtures.shards import layout
from data_mixtures.shards.encoder import GOP, PacketEncoder, PixelFormat
from data_mixtures.shards.packets import gop_checksum
from data_mixtures.storage.frames import fit_square
from data_mixtures.storage.index import IndexWriter

_BLOCK = 32  # frames decoded at a time: 200 MB of 1920 x 1080
_REPORT = "part.json"


@dataclass(frozen=True)
class Plan:
    """What an ingest was asked to do; the same plan on the same data gives the same bytes, whoever does which part.

    Attributes:
        name: the data set's.
        source_fingerprint: the reader's.
        size: height and width of the stored frames in pixels.
        pixel_format: of the encoded pictures.
        cameras: the reader's names.
        first, stop: episodes [first, stop) of the reader.
        episodes_per_part: how they are cut into parts.
        settings: the encoder's.
        version: of the layout.
    """

    name: str
    source_fingerprint: str
    size: int
    pixel_format: PixelFormat
    cameras: list[str]
    first: int
    stop: int
    episodes_per_part: int
    settings: str
    version: int = layout.VERSION

    @property
    def num_parts(self) -> int:
        """Parts the episodes are cut into."""
        return -(-(self.stop - self.first) // self.episodes_per_part)

    def episodes_of(self, part: int) -> range:
        """The reader's episodes that belong to a part."""
        start = self.first + part * self.episodes_per_part
        return range(start, min(start + self.episodes_per_part, self.stop))


@dataclass(frozen=True)
class PartReport:
    """What a finished part holds.

    Attributes:
        keys: of its usable episodes.
        num_rows: frames a camera.
        quarantined: the others.
        num_bytes: packets of each camera.
    """

    keys: list[str]
    num_rows: int
    quarantined: list[Defect]
    num_bytes: list[int]


def part_folder(parts: Path, part: int) -> Path:
    """Where a part appears when it is whole."""
    return parts / f"part-{part:05d}"


def read_report(folder: Path) -> PartReport:
    """The report of a finished part."""
    stored = json.loads((folder / _REPORT).read_text())
    return PartReport(**{**stored, "quarantined": [Defect(**defect) for defect in stored["quarantined"]]})


def packets_file(folder: Path, camera: int) -> Path:
    """A part's packets of one camera."""
    return folder / f"{layout.camera_folder(camera)}.bin"


def packet_arrays(folder: Path, camera: int) -> tuple[np.ndarray, np.ndarray]:
    """A part's offsets int64 [rows + 1] and checksums uint32 [groups] of one camera."""
    names = ("offsets", "crc32")
    offsets, checksums = (np.load(folder / f"{layout.camera_folder(camera)}.{name}.npy") for name in names)
    return offsets, checksums


def write_part(reader: Reader, plan: Plan, part: int, parts: Path, strict: bool) -> PartReport:
    """Transcode one part unless that was done before.

    Raises:
        BadEpisodeError: an episode cannot be used, and `strict` is set.
    """
    folder = part_folder(parts, part)
    if not folder.exists():
        aside = parts / f".{folder.name}.{os.getpid()}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        _write(reader, plan, part, aside, strict)
        os.replace(aside, folder)
    report = read_report(folder)
    if strict and report.quarantined:
        defect = report.quarantined[0]
        raise BadEpisodeError(defect.key, defect.kind, defect.detail)
    return report


def _write(reader: Reader, plan: Plan, part: int, folder: Path, strict: bool) -> None:
    keys: list[str] = []
    quarantined: list[Defect] = []
    num_rows = 0
    with ExitStack() as files:
        tracks = [files.enter_context(_Track(folder, camera, plan)) for camera in range(len(plan.cameras))]
        index = files.enter_context(IndexWriter(folder / layout.INDEX_FOLDER))
        for number in plan.episodes_of(part):
            try:
                episode = reader.episode(number)
                index.check(episode)
                _append(tracks, episode, plan)
            except BadEpisodeError as error:
                if strict:
                    raise
                quarantined.append(error.defect)
                continue
            index.add(episode, number)
            keys.append(episode.key)
            num_rows += len(episode)
        index.finish(
            name=plan.name,
            cameras=plan.cameras,
            robot_type=reader.robot_type,
            fingerprint=fingerprint_of(plan),
            quarantined=quarantined,
        )
        num_bytes = [track.finish() for track in tracks]
    report = PartReport(keys, num_rows, quarantined, num_bytes)
    (folder / _REPORT).write_text(json.dumps(asdict(report)))


def _append(tracks: Sequence["_Track"], episode: Episode, plan: Plan) -> None:
    """Add all cameras of an episode to the tracks, or none."""
    try:
        for camera, track in zip(plan.cameras, tracks, strict=True):
            if camera not in episode.cameras:
                detail = f"it has no camera {camera!r}, the data set has {plan.cameras}"
                raise BadEpisodeError(episode.key, "column", detail)
            track.encode(episode, camera)
    except BadEpisodeError:
        for track in tracks:
            track.take_back()
        raise
    for track in tracks:
        track.keep()


def fingerprint_of(plan: Plan) -> str:
    """A name for what the plan gives."""
    return layout.short_digest(json.dumps(asdict(plan)))


class _Track:
    """The packets of one camera, growing episode by episode."""

    def __init__(self, folder: Path, camera: int, plan: Plan) -> None:
        self._folder, self._camera, self._plan = folder, camera, plan
        self._file: BinaryIO = packets_file(folder, camera).open("wb")
        self._offsets: list[int] = [0]
        self._checksums: list[int] = []
        self._kept = (1, 0)
        self._pending: list[bytes] = []

    def encode(self, episode: Episode, camera: str) -> None:
        """Append the episode's frames; memory is bounded by a block of frames whatever its length."""
        encoder = PacketEncoder(self._plan.size, self._plan.pixel_format)
        for start in range(0, len(episode), _BLOCK):
            numbers = np.arange(start, min(start + _BLOCK, len(episode)))
            frames = episode.frames(camera, numbers)
            if len(frames) != len(numbers):
                detail = f"camera {camera!r} gave {len(frames)} of frames {start}..{numbers[-1]}"
                raise BadEpisodeError(episode.key, "video", detail)
            self._write(encoder.encode(fit_square(frames, self._plan.size)))
        self._write(encoder.finish())
        self._write_group()

    def keep(self) -> None:
        """What was written so far stays."""
        self._kept = len(self._offsets), len(self._checksums)

    def take_back(self) -> None:
        """Forget what was written since `keep`."""
        num_offsets, num_checksums = self._kept
        del self._offsets[num_offsets:], self._checksums[num_checksums:]
        self._pending.clear()
        self._file.seek(self._offsets[-1])
        self._file.truncate()

    def finish(self) -> int:
        """Write the arrays; gives the bytes of all packets."""
        name = layout.camera_folder(self._camera)
        np.save(self._folder / f"{name}.offsets.npy", np.array(self._offsets, dtype=np.int64))
        np.save(self._folder / f"{name}.crc32.npy", np.array(self._checksums, dtype=np.uint32))
        return self._offsets[-1]

    def __enter__(self) -> "_Track":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _write(self, packets: list[bytes]) -> None:
        for packet in packets:
            self._pending.append(packet)
            if len(self._pending) == GOP:
                self._write_group()

    def _write_group(self) -> None:
        if not self._pending:
            return
        data = b"".join(self._pending)
        sizes = [len(packet) for packet in self._pending]
        self._file.write(data)
        self._offsets += list(accumulate(sizes, initial=self._offsets[-1]))[1:]
        self._checksums.append(gop_checksum(sizes, data))
        self._pending.clear()
