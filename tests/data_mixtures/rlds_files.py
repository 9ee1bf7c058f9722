"""Writes RLDS folders as TFDS lays them out: features.json, dataset_info.json and TFRecord shards."""

import io
import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from PIL import Image as PillowImage

# Folders of a feature's path; what follows is one name even if it holds a slash ("present/xyz").
GROUPS = ("steps", "observation", "action", "action_dict", "episode_metadata")


@dataclass(frozen=True)
class Tensor:
    """Numbers or, with dtype "string", texts; `encoding` as TFDS: none, bytes or zlib."""

    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    encoding: str = "none"


@dataclass(frozen=True)
class Image:
    """Encoded frames: jpeg or png."""

    shape: tuple[int, int, int] = (16, 24, 3)
    form: str = "jpeg"


@dataclass(frozen=True)
class Text:
    """Strings."""


Leaf = Tensor | Image | Text


def varint(value: int) -> bytes:
    """A base-128 number, lowest digit first."""
    value &= (1 << 64) - 1
    digits = []
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def delimited(number: int, content: bytes) -> bytes:
    """Field `number` holding bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(features: Mapping[str, np.ndarray | Sequence[bytes]], packed: bool = True) -> bytes:
    """A serialized tf.train.Example; arrays of floats and of integers, lists of bytes."""
    entries = b""
    for name, values in features.items():
        if not isinstance(values, np.ndarray):
            feature = delimited(1, b"".join(delimited(1, value) for value in values))
        elif values.dtype.kind == "f":
            raw = [struct.pack("<f", value) for value in values.ravel()]
            feature = delimited(2, delimited(1, b"".join(raw)) if packed else b"".join(b"\x0d" + v for v in raw))
        else:
            raw = [varint(int(value)) for value in values.ravel()]
            feature = delimited(3, delimited(1, b"".join(raw)) if packed else b"".join(b"\x08" + v for v in raw))
        entries += delimited(1, delimited(1, name.encode()) + delimited(2, feature))
    return delimited(1, entries)


def masked(data: bytes) -> bytes:
    """TFRecord's checksum of `data`."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    """`data` with TFRecord's length and checksums around it."""
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def encoded(frame: np.ndarray, form: str) -> bytes:
    """uint8 [H, W, 3] as JPEG or PNG."""
    buffer = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(frame)).save(buffer, form, **({"quality": 95} if form == "jpeg" else {}))
    return buffer.getvalue()


def serialized(leaf: Leaf, values: Any) -> np.ndarray | list[bytes]:
    """A field's values of all steps as TFDS stores them: a flat array, or byte strings."""
    if isinstance(leaf, Image):
        return [value if isinstance(value, bytes) else encoded(value, leaf.form) for value in values]
    if isinstance(leaf, Text) or leaf.dtype == "string":
        return [value if isinstance(value, bytes) else value.encode() for value in values]
    array = np.asarray(values)
    if leaf.encoding != "none":
        rows = [np.asarray(row, dtype=leaf.dtype).tobytes() for row in array]
        return rows if leaf.encoding == "bytes" else [zlib.compress(row) for row in rows]
    return array.ravel().astype(np.float32 if leaf.dtype.startswith("float") else np.int64)


def _description(leaf: Leaf) -> dict:
    prefix = "tensorflow_datasets.core.features."
    if isinstance(leaf, Text):
        return {"pythonClassName": f"{prefix}text_feature.Text", "text": {}}
    shape = {"dimensions": [str(size) for size in leaf.shape]} if leaf.shape else {}
    if isinstance(leaf, Image):
        image = {"shape": shape, "dtype": "uint8", "encodingFormat": leaf.form}
        return {"pythonClassName": f"{prefix}image_feature.Image", "image": image}
    tensor = {"shape": shape, "dtype": leaf.dtype, "encoding": leaf.encoding}
    return {"pythonClassName": f"{prefix}tensor_feature.Tensor", "tensor": tensor}


def features_json(leaves: Mapping[str, Leaf]) -> dict:
    """The nested description of features given by path ("steps/observation/state")."""
    tree: dict = {}
    for path, leaf in leaves.items():
        parts, node = path.split("/"), tree
        while len(parts) > 1 and parts[0] in GROUPS:
            node = node.setdefault(parts.pop(0), {})
        node["/".join(parts)] = leaf

    def describe(name: str, node: Any) -> dict:
        if not isinstance(node, dict):
            return _description(node)
        features = {"featuresDict": {"features": {key: describe(key, child) for key, child in node.items()}}}
        return {"sequence": {"feature": features, "length": "-1"}} if name == "steps" else features

    return describe("", tree)


def write_rlds(
    folder: Path,
    name: str,
    leaves: Mapping[str, Leaf],
    splits: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]],
    prefix: str | None = None,
) -> Path:
    """Write a data set into `folder` (its version folder).

    Args:
        folder: made if it is not there.
        name: the builder's.
        leaves: features by path.
        splits: for each split its shards, for each shard its episodes: values of all steps by path.
        prefix: of the shards' names; the builder's name when None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "features.json").write_text(json.dumps(features_json(leaves)))
    info = {"name": name, "fileFormat": "tfrecord", "version": folder.name, "splits": []}
    for split, shards in splits.items():
        for number, episodes in enumerate(shards):
            path = folder / f"{prefix or name}-{split}.tfrecord-{number:05d}-of-{len(shards):05d}"
            path.write_bytes(b"".join(record(serialized_episode(leaves, episode)) for episode in episodes))
        info["splits"].append({"name": split, "shardLengths": [str(len(episodes)) for episodes in shards]})
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def serialized_episode(leaves: Mapping[str, Leaf], episode: Mapping[str, Any]) -> bytes:
    """One episode's Example."""
    return example({path: serialized(leaves[path], values) for path, values in episode.items()})


def shard_paths(folder: Path) -> Iterable[Path]:
    """The TFRecord files of a written data set."""
    return sorted(folder.glob("*.tfrecord*"))


# ------------------------------------------------------------------------------------ a set in Bridge's structure

BRIDGE = {
    "steps/observation/image_0": Image(),
    "steps/observation/image_1": Image(),
    "steps/observation/state": Tensor((7,)),
    "steps/action": Tensor((7,)),
    "steps/language_instruction": Text(),
    "steps/is_first": Tensor(dtype="bool"),
    "steps/is_last": Tensor(dtype="bool"),
    "episode_metadata/file_path": Text(),
    "episode_metadata/episode_id": Tensor(dtype="int32"),
}


def bridge_episode(length: int, seed: int = 0, instruction: str = "put the cup away") -> dict[str, Any]:
    """Values of one episode in Bridge's structure, with frames that differ from step to step."""
    random = np.random.default_rng(seed)
    state = np.cumsum(random.normal(0, 0.02, (length, 7)), axis=0).astype(np.float32)
    state[:, 6] = 1
    frames = random.integers(0, 255, (2, length, 16, 24, 3), dtype=np.uint8)
    return {
        "steps/observation/image_0": frames[0],
        "steps/observation/image_1": frames[1],
        "steps/observation/state": state,
        "steps/action": np.column_stack([random.normal(size=(length, 6)), np.ones(length)]),
        "steps/language_instruction": [instruction] * length,
        "steps/is_first": np.arange(length) == 0,
        "steps/is_last": np.arange(length) == length - 1,
        "episode_metadata/file_path": ["data/out.npy"],
        "episode_metadata/episode_id": np.array([seed]),
    }


def write_bridge(folder: Path, lengths: Sequence[int] = (5, 6, 7), **arguments: Any) -> Path:
    """A set of one shard in Bridge's structure."""
    episodes = [bridge_episode(length, seed) for seed, length in enumerate(lengths)]
    return write_rlds(folder, "bridge_dataset", BRIDGE, {"train": [episodes]}, **arguments)
