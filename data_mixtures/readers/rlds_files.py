"""What lies in an RLDS folder: its features by name, its splits and their TFRecord shards. TFDS' layout, no TFDS.

[<name>/]<version>/features.json         what an episode holds, nested
[<name>/]<version>/dataset_info.json     name, splits, records of each shard
[<name>/]<version>/<prefix>-<split>.tfrecord-00000-of-00005     the prefix may be another name than the folder's
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_mixtures.defects import Defect

FeatureKind = Literal["tensor", "image", "text", "other"]

_SHARD = re.compile(r"(?P<prefix>.+)-(?P<split>[^-]+)\.tfrecord(?:-(?P<number>\d+)-of-(?P<count>\d+))?")
_MAX_JSON_BYTES = 64 << 20
_MAX_DEPTH = 32  # of nested features; the published sets have five


@dataclass(frozen=True)
class Feature:
    """One leaf of features.json.

    Attributes:
        kind: image and text are byte strings in the record; a tensor's values are laid one after the other.
        dtype: as TFDS names it ("float32", "bool", "string", ...); '' where it says none.
        shape: of one step's value; -1 where it varies.
        encoding: "none", or "bytes" or "zlib" for a tensor stored as one byte string a step.
        per_step: whether there is one value for every step, or one for the episode.
    """

    kind: FeatureKind
    dtype: str
    shape: tuple[int, ...]
    encoding: str
    per_step: bool

    def __str__(self) -> str:
        shape = f"({', '.join(map(str, self.shape))})" if self.shape else ""
        return f"{self.kind if self.kind != 'tensor' else self.dtype or 'tensor'}{shape}"


@dataclass(frozen=True)
class Shard:
    """One TFRecord file.

    Attributes:
        key: "<split>-<number, five digits>", what the keys of its episodes begin with.
        expected: how many records dataset_info.json says it holds; None where it does not say.
    """

    path: Path
    split: str
    number: int
    expected: int | None

    @property
    def key(self) -> str:
        """What the keys of its episodes begin with."""
        return f"{self.split}-{self.number:05d}"


@dataclass(frozen=True)
class RldsFolder:
    """An RLDS data set as its metadata describes it.

    Attributes:
        folder: where features.json lies.
        names: what the data set may be known by: dataset_info.json's name, the folder's, the shards' prefix.
        features: leaves of features.json by their path ("steps/observation/image"), as records name them.
        shards: of the wanted splits, in dataset_info.json's order of splits, then by number.
        defects: shards that are missing, and a dataset_info.json that cannot be read.
    """

    folder: Path
    names: tuple[str, ...]
    features: dict[str, Feature]
    shards: tuple[Shard, ...]
    defects: tuple[Defect, ...]


def is_rlds(root: Path) -> bool:
    """Whether `root`, or a version folder one or two levels below it, holds features.json beside TFRecord files."""
    return bool(_version_folders(root))


def open_rlds_folder(root: Path, split: str | None = None) -> RldsFolder:
    """Read the metadata of an RLDS data set.

    Args:
        root: its version folder, the folder of its versions (the highest is taken), or one above that.
        split: the only split to take ("train"); all when None.
    """
    folder = _version_folder(root)
    features = _read_features(folder / "features.json")
    info, defects = _read_info(folder / "dataset_info.json")
    expected = _shard_lengths(info)
    shards, prefixes = _find_shards(folder, expected)
    splits = sorted({shard.split for shard in shards}, key=lambda name: (_rank(name, expected), name))
    if split is not None and split not in splits:
        raise ValueError(f"split is {split!r}, but {folder} has {splits}: take one of these, or leave split out")
    chosen = [split] if split is not None else splits
    shards = sorted((s for s in shards if s.split in chosen), key=lambda s: (chosen.index(s.split), s.number))
    defects += [defect for name in chosen for defect in _missing_shards(shards, expected, name)]
    named = [str(info.get("name", "")), folder.parent.name, folder.name, *prefixes]
    return RldsFolder(
        folder=folder,
        names=tuple(dict.fromkeys(name for name in named if name)),
        features=features,
        shards=tuple(shards),
        defects=tuple(defects),
    )


def _version_folders(root: Path) -> list[Path]:
    try:
        for level in ("", "*/", "*/*/"):
            found = [path.parent for path in sorted(root.glob(f"{level}features.json"))]
            found = [folder for folder in found if any(folder.glob("*.tfrecord*"))]
            if found:
                return found
    except OSError:
        return []
    return []


def _version_folder(root: Path) -> Path:
    folders = _version_folders(root)
    if not folders:
        raise ValueError(
            f"path is {root}: no features.json beside TFRecord files there or in a folder below it. An RLDS data set "
            "is <name>/<version>/ with features.json, dataset_info.json and <name>-<split>.tfrecord-*: download all"
        )
    if len({folder.parent for folder in folders}) > 1:
        raise ValueError(f"path is {root}, which holds several data sets: name one of {[str(f) for f in folders]}")
    return max(folders, key=lambda folder: [int(number) for number in re.findall(r"\d+", folder.name)])


def _read_json(path: Path) -> object:
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ValueError(f"has {path.stat().st_size} bytes")
    return json.loads(path.read_bytes())


def _read_features(path: Path) -> dict[str, Feature]:
    try:
        features = dict(_leaves(_read_json(path), "", per_step=False, depth=0))
    except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error!r}; download it again") from error
    if not any(feature.per_step for feature in features.values()):
        raise ValueError(f"{path} describes no steps, so the data set is not RLDS; it has {sorted(features)[:20]}")
    return features


def _leaves(node: object, path: str, per_step: bool, depth: int) -> Iterator[tuple[str, Feature]]:
    if not isinstance(node, dict) or depth > _MAX_DEPTH:
        raise ValueError(f"{path or 'its root'} is no feature")
    if "featuresDict" in node:
        for name, child in node["featuresDict"].get("features", {}).items():
            yield from _leaves(child, f"{path}/{name}" if path else name, per_step, depth + 1)
    elif "sequence" in node:
        yield from _leaves(node["sequence"]["feature"], path, True, depth + 1)
    else:
        yield path, _leaf(node, per_step)


def _leaf(node: dict, per_step: bool) -> Feature:
    for kind in ("image", "text", "tensor"):
        if kind in node:
            content = node[kind]
            shape = tuple(int(size) for size in content.get("shape", {}).get("dimensions", ()))
            # what TFDS calls Text is stored as a Tensor of strings where the set was built with older versions
            is_text = content.get("dtype") in ("string", "object")
            return Feature(
                kind="text" if is_text and not shape else kind,
                dtype=str(content.get("dtype", "")),
                shape=shape,
                encoding=str(content.get("encoding", "none")).lower(),
                per_step=per_step,
            )
    return Feature("other", "", (), "none", per_step)


def _read_info(path: Path) -> tuple[dict, list[Defect]]:
    """dataset_info.json; the data set can be read without it, so trouble with it is a defect only."""
    try:
        info = _read_json(path)
        if not isinstance(info, dict):
            raise ValueError("is not an object")
    except (OSError, ValueError, RecursionError) as error:
        detail = f"cannot be read: {error}; missing shards and records cannot be noticed"
        return {}, [Defect(path.name, "unreadable", detail)]
    return info, []


def _shard_lengths(info: dict) -> dict[str, list[int]]:
    lengths = {}
    splits = info.get("splits")
    for split in splits if isinstance(splits, list) else []:
        try:
            lengths[str(split["name"])] = [int(count) for count in split.get("shardLengths", [])]
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
            continue
    return lengths


def _rank(split: str, expected: dict[str, list[int]]) -> int:
    return list(expected).index(split) if split in expected else len(expected)


def _find_shards(folder: Path, expected: dict[str, list[int]]) -> tuple[list[Shard], list[str]]:
    shards, prefixes = {}, {}
    for path in sorted(folder.iterdir()):
        match = _SHARD.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        split, number = match["split"], int(match["number"] or 0)
        counts = expected.get(split, [])
        shards[split, number] = Shard(path, split, number, counts[number] if number < len(counts) else None)
        prefixes[match["prefix"]] = None
    if not shards:
        raise ValueError(f"{folder} holds no file named <name>-<split>.tfrecord-00000-of-00001: download the shards")
    return list(shards.values()), list(prefixes)


def _missing_shards(shards: list[Shard], expected: dict[str, list[int]], split: str) -> list[Defect]:
    numbers = {shard.number for shard in shards if shard.split == split}
    missing = [number for number in range(len(expected.get(split, []))) if number not in numbers]
    if not missing:
        return []
    records = sum(expected[split][number] for number in missing)
    detail = f"{len(missing)} of {len(expected[split])} shards are not there (the first is number {missing[0]})"
    return [Defect(split, "truncated", f"{detail}: {records} episodes are missing")]
