"""The folder of a sharded data set.

    shards.json              counts, settings, size and SHA-256 of every other file and its own; written last
    index/                   numerics and texts (`data_mixtures.storage.index`)
    keys.txt                 every episode's key, a JSON string a line
    quarantine.jsonl         the episodes left out, with reasons
    camera-00/               one folder a camera, in the order of `cameras`
        shard-00000.bin      H.264 packets of all frames, row after row, nothing between them; about 1 GB a file
        offsets.npy          int64 [N + 1]   where each row's packet begins, counted through all shards
        crc32.npy            uint32 [G]      of each group of pictures (`packets.gop_checksum`)

N rows (frames), G groups of pictures: every episode begins one, and every `gop` frames the next.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_mixtures.storage.whole_file import write_whole

VERSION = 1
FILE_NAME = "shards.json"
INDEX_FOLDER = "index"
KEYS_FILE = "keys.txt"
_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class StoredFile:
    """A file of the folder as it was written."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardsMeta:
    """What shards.json says.

    Attributes:
        version: of this layout.
        name: the data set's.
        fingerprint: a name for this content: source and settings.
        source_fingerprint: the reader's.
        size: height and width of the stored frames in pixels.
        gop: frames from one keyframe to the next.
        pixel_format: the decoded pictures' before they become RGB.
        cameras: their names; camera i lies in `camera_folder(i)`.
        num_rows: frames a camera.
        num_episodes: usable ones.
        num_quarantined: those left out.
        files: path below the root -> size and checksum.
    """

    version: int
    name: str
    fingerprint: str
    source_fingerprint: str
    size: int
    gop: int
    pixel_format: str
    cameras: list[str]
    num_rows: int
    num_episodes: int
    num_quarantined: int
    files: dict[str, StoredFile]

    def shard_names(self, camera: int) -> list[str]:
        """Paths below the root of one camera's shards, in order."""
        prefix = f"{camera_folder(camera)}/shard-"
        return sorted(name for name in self.files if name.startswith(prefix))


def camera_folder(camera: int) -> str:
    """Folder of camera number `camera`: names of cameras may hold what names of files may not."""
    return f"camera-{camera:02d}"


def shard_file(number: int) -> str:
    """Name of shard `number` in a camera's folder."""
    return f"shard-{number:05d}.bin"


def is_shards(root: Path | str) -> bool:
    """Whether the folder is a whole sharded data set."""
    return (Path(root) / FILE_NAME).is_file()


def write_meta(root: Path, meta: ShardsMeta) -> None:
    """Write shards.json, which makes the folder a data set."""
    stored = {**asdict(meta), "sha256": _digest(asdict(meta))}
    write_whole(root / FILE_NAME, json.dumps(stored, ensure_ascii=False, indent=1))


def read_meta(root: Path) -> ShardsMeta:
    """What shards.json says; ValueError where it is missing, damaged or of another version."""
    path = root / FILE_NAME
    try:
        stored: dict[str, Any] = json.loads(path.read_text())
        if stored.pop("sha256") != _digest(stored):
            raise ValueError("it is not what was written: SHA-256 differs")
        files = {name: StoredFile(**entry) for name, entry in stored.pop("files").items()}
        meta = ShardsMeta(**stored, files=files)
    except FileNotFoundError:
        raise ValueError(f"no shards at {root}: {path} does not exist; `vla data ingest` writes it last") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error!r}): copy it again, or ingest the data set again") from error
    if meta.version != VERSION:
        raise ValueError(f"{path}: version is {meta.version}, this code reads {VERSION}: ingest the data set again")
    return meta


def _digest(stored: dict[str, Any]) -> str:
    """Of what shards.json says beside its own checksum."""
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()


def short_digest(text: str) -> str:
    """16 hexadecimal digits that name a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def blocks_of(path: Path) -> Iterator[bytes]:
    """The file's bytes, a few megabytes at a time."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def stored_file(path: Path) -> StoredFile:
    """Size and checksum of a file as it is now."""
    digest, num_bytes = hashlib.sha256(), 0
    for block in blocks_of(path):
        digest.update(block)
        num_bytes += len(block)
    return StoredFile(num_bytes, digest.hexdigest())
