"""RLDS data sets (TFDS' TFRecord shards of episodes), read without TensorFlow."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode, check_episode
from data_mixtures.readers.example_proto import ExampleError, parse_example
from data_mixtures.readers.oxe import find_oxe_spec, oxe_spec_for
from data_mixtures.readers.rlds_files import RldsFolder, Shard, is_rlds, open_rlds_folder
from data_mixtures.readers.rlds_images import ImageError, decode, is_blank, looks_encoded
from data_mixtures.readers.rlds_numerics import read_numerics, width_problem
from data_mixtures.readers.rlds_record import Record
from data_mixtures.readers.rlds_spec import RldsSpec, SuccessPart, read_spec
from data_mixtures.readers.tfrecord import RecordError, RecordIndex, index_records, read_record
from data_mixtures.video.opened_files import OpenedFiles

__all__ = ["RldsReader", "is_rlds"]

_FLAGS = ("steps/is_first", "steps/is_last")
_FILE_PATH = "episode_metadata/file_path"


class RldsReader:
    """An RLDS data set; see `Reader` for what the methods promise.

    Opening reads the headers of the records and nothing else; episodes are named "<split>-<shard>/<record>".

    Attributes:
        root: the folder as it was given.
        spec: what the fields mean.
        robot_type: the spec's.
        cameras: those of the spec's cameras that the data set has; one may be missing from an episode.
        defects: shards that are missing, cut short or damaged.
    """

    def __init__(self, root: str | Path, split: str | None = None, spec: RldsSpec | str | Path | None = None) -> None:
        """Open a data set.

        Args:
            root: the folder of features.json and the shards, or one or two above it.
            split: the only split to read; all when None.
            spec: what its fields mean: itself, the path of a YAML file of it, or the name of a known data set. None
                takes the known one that the data set is called after.
        """
        folder = open_rlds_folder(Path(root), split)
        self.root = str(root)
        self.spec = _spec_of(folder, spec)
        self.robot_type = self.spec.robot_type
        self._camera_fields = {n: f for n, f in self.spec.cameras.items() if f in folder.features}
        self.cameras: Sequence[str] = tuple(self._camera_fields)
        _check_fields(folder, self.spec)
        self._features = folder.features
        self._instruction = tuple(name for name in self.spec.instruction if name in folder.features)
        self._needed = self.spec.fields & folder.features.keys()
        self._wanted = self._needed | ({*_FLAGS, _FILE_PATH} & folder.features.keys())
        self._files = OpenedFiles()
        self._shards = folder.shards
        self._indices, found = _index_shards(folder.shards, Path(root), self._files)
        self.defects: Sequence[Defect] = [*folder.defects, *found]
        self._first = np.cumsum([0, *map(len, self._indices)])
        self._metadata = (folder.folder / "features.json").read_bytes()
        self._last: tuple[int, Record] | None = None

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_last": None}  # a record's byte strings are views, which cannot be copied elsewhere

    def key(self, index: int) -> str:
        """The name of episode `index`: "<split>-<shard>/<record>"."""
        shard, record = self._place(index)
        return f"{self._shards[shard].key}/{record}"

    def episode(self, index: int) -> Episode:
        """Episode `index`, checked; its images are counted and not decoded."""
        record = self._record(index)
        length = record.length(self._needed)
        if length == 0:
            raise BadEpisodeError(record.key, "empty", "the episode has no steps")
        episode = Episode(
            key=record.key,
            instruction=next(filter(None, map(record.first_text, self._instruction)), ""),
            subtasks=(),
            fps=self.spec.fps,
            robot_type=self.robot_type,
            numerics=read_numerics(record, self.spec, length),
            cameras=[name for name in self.cameras if self._has_camera(record, name)],
            read_frames=partial(self.frames, index),
            info=dict(self._info(record, length)),
        )
        check_episode(episode)
        return episode

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        """Frames of episode `index` with these numbers, uint8 [n, H, W, 3], RGB; only these are decoded."""
        if camera not in self._camera_fields:
            raise ValueError(f"camera is {camera!r}, but {self.root} has {list(self.cameras)}")
        record = self._record(index)
        encoded = record.images(self._camera_fields[camera])
        numbers = np.asarray(numbers, dtype=np.int64)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(encoded):
            raise BadEpisodeError(
                record.key,
                "video",
                f"{camera} has {len(encoded)} frames; {numbers.min()}..{numbers.max()} were asked for",
            )
        unique, places = np.unique(numbers, return_inverse=True)
        images = [self._decode(record.key, camera, int(number), encoded[number]) for number in unique]
        if len({image.shape for image in images}) > 1:
            raise BadEpisodeError(record.key, "video", f"{camera} has frames of different sizes")
        return np.stack([images[place] for place in places]) if images else np.zeros((0, 1, 1, 3), np.uint8)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of features.json, the spec, and the shards' names, sizes and records."""
        digest = hashlib.sha256(self._metadata + repr(self.spec).encode())
        for shard, index in zip(self._shards, self._indices, strict=True):
            digest.update(f"{shard.path.name} {index.starts[-1]} {len(index)}\n".encode())
        return digest.hexdigest()[:16]

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise ValueError(f"episode is {index}, but {self.root} has {len(self)}")
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        return shard, index - int(self._first[shard])

    def _record(self, index: int) -> Record:
        """The parsed record; the last one is kept, since its cameras are mostly asked for one after the other."""
        shard, number = self._place(index)
        key, path = self.key(index), self._shards[shard].path
        self._files.check(path, key)
        last = self._last
        if last is not None and last[0] == index:
            return last[1]
        start, stop = self._indices[shard].starts[number : number + 2]
        try:
            values = parse_example(read_record(path, int(start), int(stop)), self._wanted)
        except RecordError as error:
            raise BadEpisodeError(key, error.kind, f"{path.name} {error}") from error
        except ExampleError as error:
            raise BadEpisodeError(key, "unreadable", f"the record is no tf.train.Example: {error}") from error
        record = Record(key, values, self._features)
        self._last = index, record
        return record

    def _has_camera(self, record: Record, camera: str) -> bool:
        images = record.images(self._camera_fields[camera])
        for number, image in enumerate(images):
            if not looks_encoded(image):
                raise BadEpisodeError(record.key, "video", f"frame {number} of {camera} is neither JPEG nor PNG")
        try:
            return not is_blank(images)
        except ImageError as error:
            raise BadEpisodeError(record.key, "video", f"frame 0 of {camera} does not decode: {error}") from error

    def _decode(self, key: str, camera: str, number: int, data: memoryview) -> np.ndarray:
        try:
            image = decode(data)
        except ImageError as error:
            raise BadEpisodeError(key, "video", f"frame {number} of {camera} does not decode: {error}") from error
        if camera in self.spec.bgr:
            image = image[..., ::-1]
        return image[:, ::-1] if camera in self.spec.mirrored else image

    def _info(self, record: Record, length: int) -> Iterator[tuple[str, object]]:
        if self.spec.success is not None and self.spec.success.field in self._features:
            yield "success", _succeeded(record, self.spec.success)
        if _FILE_PATH in record.values:
            yield "file_path", record.first_text(_FILE_PATH)
        if _flags_disagree(record, length):
            yield "flags_disagree", True


def _spec_of(folder: RldsFolder, spec: RldsSpec | str | Path | None) -> RldsSpec:
    if isinstance(spec, RldsSpec):
        return spec
    if spec is not None and Path(spec).suffix in (".yaml", ".yml"):
        return read_spec(Path(spec))
    if spec is not None:
        return oxe_spec_for(str(spec))
    known = next(filter(None, map(find_oxe_spec, folder.names)), None)
    if known is None:
        fields = "\n".join(f"  {name}: {feature}" for name, feature in sorted(folder.features.items()))
        raise ValueError(
            f"{folder.folder} is no data set whose fields are known (its names are {list(folder.names)}). Describe it "
            "in a YAML file (fields of RldsSpec in data_mixtures/readers/rlds_spec.py, rows of oxe_sets.yaml as "
            f"examples) and give its path as spec. It has\n{fields}"
        )
    return known


def _check_fields(folder: RldsFolder, spec: RldsSpec) -> None:
    for part in spec.numeric_parts:
        feature = folder.features.get(part.field)
        if feature is None:
            raise ValueError(
                f"{folder.folder} has no field {part.field!r}, which the spec of {list(spec.names)} reads. It has "
                f"{sorted(folder.features)}: give a spec that fits this version as a YAML file"
            )
        width = math.prod(feature.shape)
        # numbers in byte strings without a shape are only known when read
        if feature.kind == "tensor" and width > 0 and (problem := width_problem(part, width)):
            raise ValueError(f"the spec of {list(spec.names)} asks for {problem} in {folder.folder}")
    for name, field in spec.cameras.items():
        if field in folder.features and folder.features[field].kind not in ("image", "text"):
            raise ValueError(
                f"{folder.folder}: camera {name} is {field!r}, which is {folder.features[field]} and no encoded image: "
                "download features.json again, or give a spec that fits this version as a YAML file"
            )


def _index_shards(shards: Sequence[Shard], root: Path, files: OpenedFiles) -> tuple[list[RecordIndex], list[Defect]]:
    indices, defects = [], []
    for shard in shards:
        name = str(shard.path.relative_to(root))
        try:
            files.check(shard.path, name)
            index = index_records(shard.path)
        except (OSError, BadEpisodeError) as error:
            index = RecordIndex(np.zeros(1, np.int64), RecordError("unreadable", str(error)))
        indices.append(index)
        missing = "" if shard.expected is None else f" of {shard.expected}"
        if index.problem is not None:
            detail = f"{index.problem}; {len(index)}{missing} episodes can be read"
            defects.append(Defect(name, index.problem.kind, detail))
        elif shard.expected is not None and len(index) != shard.expected:
            kind = "truncated" if len(index) < shard.expected else "length"
            defects.append(Defect(name, kind, f"has {len(index)}{missing} episodes that dataset_info.json names"))
    return indices, defects


def _succeeded(record: Record, part: SuccessPart) -> bool:
    if part.contains is not None:
        return part.contains in record.first_text(part.field)
    return bool((record.numbers(part.field) > 0.5).any())


def _flags_disagree(record: Record, length: int) -> bool:
    """Whether is_first or is_last mark other steps than the first and the last: the columns' length is believed."""
    for name, step in zip(_FLAGS, (0, length - 1), strict=True):
        flags = record.values.get(name)
        if isinstance(flags, np.ndarray) and (len(flags) != length or np.flatnonzero(flags).tolist() != [step]):
            return True
    return False
