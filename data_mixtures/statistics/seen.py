"""What a policy was shown in training, in a few kilobytes that travel with it: how bright, which way up, how often.

An environment that draws its pictures upside down, in BGR, darker or from another camera gives a policy no error, only
failures. Beside the quantiles of `normalisation.json` these figures let an evaluation say so before its first episode.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_mixtures.batch import Batch
from data_mixtures.storage.json_object import read_object
from data_mixtures.storage.whole_file import write_whole

FILE_NAME = "seen.json"
THUMBNAIL = 16  # pixels a side: enough for which way up and what is cut off, too little for a picture
FRAMES = 256  # looked at, spread over the data


@dataclass(frozen=True)
class CameraSeen:
    """One camera's pictures as the policy was given them, levels 0..255, RGB.

    Attributes:
        frames: How many were looked at.
        mean: Of each channel, over all pixels of all frames.
        std: Likewise.
        mean_spread: Of each channel, how far the means of single frames lie apart (their standard deviation).
        thumbnail: The mean frame [16, 16, 3], row 0 on top.
    """

    frames: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mean_spread: tuple[float, float, float]
    thumbnail: tuple[tuple[tuple[float, float, float], ...], ...]

    @classmethod
    def of(cls, frames: np.ndarray) -> "CameraSeen":
        """The figures of frames uint8 [n, H, W, 3], n at least 1."""
        pixels = frames.reshape(len(frames), -1, 3).astype(np.float64)
        means = pixels.mean(axis=1)
        return cls(
            frames=len(frames),
            mean=_rounded(means.mean(axis=0)),
            std=_rounded(pixels.std(axis=(0, 1))),
            mean_spread=_rounded(means.std(axis=0)),
            thumbnail=_rounded(thumbnail(frames)),
        )


@dataclass(frozen=True)
class Seen:
    """What of the training data an evaluation can be compared with.

    Attributes:
        cameras: By name; those that no frame was seen of are left out.
        control_hz: Actions a second of the data sets, each rate once, rising.
        crop: Share of a side that training cut at random from each frame; 1 where it did not crop.
    """

    cameras: dict[str, CameraSeen]
    control_hz: tuple[float, ...]
    crop: float = 1.0

    @classmethod
    def of(
        cls, batches: Iterable[Batch], cameras: Sequence[str], control_hz: Sequence[float], crop: float = 1.0
    ) -> "Seen":
        """The figures of the first frames of some windows; see the attributes for the other arguments."""
        frames: dict[str, list[np.ndarray]] = {camera: [] for camera in cameras}
        for batch in batches:
            for index, camera in enumerate(cameras):
                shown = batch.images[batch.camera_mask[:, index], 0, index]
                frames[camera].append(shown.permute(0, 2, 3, 1).numpy())
        joined = {camera: np.concatenate(parts) for camera, parts in frames.items() if parts}
        found = {camera: CameraSeen.of(shown) for camera, shown in joined.items() if len(shown)}
        return cls(found, tuple(sorted({round(float(rate), 3) for rate in control_hz})), crop)

    def save(self, folder: Path | str) -> None:
        """Write `seen.json` into a model folder."""
        write_whole(Path(folder) / FILE_NAME, json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path | str) -> "Seen | None":
        """Read `seen.json`; None for a checkpoint that was written without.

        Raises:
            ValueError: the file is damaged; the message names it and the field.
        """
        path = Path(folder) / FILE_NAME
        if not path.exists():
            return None
        stored = read_object(path, "copy the model folder whole")
        cameras, rates, crop = stored.get("cameras"), stored.get("control_hz"), stored.get("crop", 1.0)
        if not isinstance(cameras, dict):
            raise ValueError(f"{path}: cameras is {cameras!r}, but must hold each camera's figures")
        if not isinstance(rates, list) or not all(_positive(rate) for rate in rates):
            raise ValueError(f"{path}: control_hz is {rates!r}, but must be a list of rates")
        if not _positive(crop) or crop > 1:
            raise ValueError(f"{path}: crop is {crop!r}, but must be a share of a side, above 0 and at most 1")
        return cls({name: _camera(path, name, figures) for name, figures in cameras.items()}, tuple(rates), crop)


def thumbnail(frames: np.ndarray) -> np.ndarray:
    """The mean of frames uint8 [n, H, W, 3], area-averaged to float64 [16, 16, 3]."""
    return _pooled(_pooled(frames.astype(np.float64).mean(axis=0), 0), 1)


def _pooled(image: np.ndarray, axis: int) -> np.ndarray:
    """Average along an axis into 16 equal parts; a pixel that lies in two of them counts for each by its share."""
    length = image.shape[axis]
    edges = np.linspace(0, length, THUMBNAIL + 1)
    sums = np.insert(np.cumsum(image, axis=axis), 0, 0, axis=axis)
    low = np.floor(edges).astype(int)
    shape = [1] * image.ndim
    shape[axis] = -1
    share = (edges - low).reshape(shape)
    below, above = np.take(sums, low, axis=axis), np.take(sums, np.minimum(low + 1, length), axis=axis)
    return np.diff(below + share * (above - below), axis=axis) * (THUMBNAIL / length)


def _rounded(values: np.ndarray) -> Any:
    if values.ndim == 1:
        return tuple(round(float(value), 2) for value in values)
    return tuple(_rounded(row) for row in values)


def _positive(value: object) -> bool:
    return type(value) in (int, float) and 0 < float(value) < float("inf")  # pyright: ignore[reportArgumentType]


def _camera(path: Path, name: str, figures: object) -> CameraSeen:
    try:
        assert isinstance(figures, dict)
        arrays = {field: np.array(figures[field], dtype=np.float64) for field in ("mean", "std", "mean_spread")}
        arrays["thumbnail"] = np.array(figures["thumbnail"], dtype=np.float64)
        wanted = {"mean": (3,), "std": (3,), "mean_spread": (3,), "thumbnail": (THUMBNAIL, THUMBNAIL, 3)}
        assert all(arrays[field].shape == shape for field, shape in wanted.items())
        assert all(np.isfinite(values).all() for values in arrays.values())
        frames = figures["frames"]
        assert type(frames) is int
        assert frames > 0
    except (AssertionError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: the figures of camera {name!r} are damaged: copy the model folder whole") from error
    return CameraSeen(frames, **{field: _rounded(values) for field, values in arrays.items()})
