"""What a mixture is, as frozen dataclasses a recipe's YAML is parsed into, and the checks that need no data."""

import math
from dataclasses import dataclass, field
from typing import Literal

from data_mixtures.spaces.embodiments import Embodiment

Format = Literal["auto", "lerobot", "rlds", "agibot", "egodex", "libero", "d4rl", "calvin", "video", "shards"]


@dataclass(frozen=True)
class DatasetConfig:
    """One data set of a mixture.

    Attributes:
        path: its folder, of any format that is read (docs/data.md), or an fsspec URL (hf://, s3://, gs://), which is
            copied to a local cache first.
        format: "auto" looks at the folder.
        split: of an RLDS data set, "train" for one; all splits when None. Of CALVIN, "training" or "validation", with
            "/lang_annotations" after it for annotated spans. Of a folder of D4RL files, the one's name without .hdf5.
        spec: what an RLDS data set's fields mean: the name of a known set, or a YAML file; by its own name when None.
        fps: frames a second at which a folder of videos is read; its own rate when None.
        cameras: the mixture's camera names -> this data set's own, where they differ.
        embodiment: how a LeRobot folder's columns map into the unified spaces; not needed for robots known by name.
        weight: its share of the samples, relative to the others' weights; > 0.
        only_successes: leave out the episodes that the data set marks as failures.
        skip_per_task: leave out this many first episodes of every task (to hold out the ones another recipe trains on).
        episodes_per_task: of the rest, take the first N of every task; all when None.
        labelled_share: share of the taken episodes, the same in every task, whose states and actions may be seen;
            0 reads the data set as video only. A task with a share above 0 keeps at least one labelled episode.
        only_labelled: leave the episodes without labels out altogether (what behaviour cloning trains on).
        source: where the data set comes from; said when it is missing.
    """

    path: str
    format: Format = "auto"
    split: str | None = None
    spec: str | None = None
    fps: float | None = None
    cameras: dict[str, str] = field(default_factory=dict)
    embodiment: Embodiment | None = None
    weight: float = 1.0
    only_successes: bool = False
    skip_per_task: int = 0
    episodes_per_task: int | None = None
    labelled_share: float = 1.0
    only_labelled: bool = False
    source: str | None = None


@dataclass(frozen=True)
class WindowConfig:
    """A sample: `horizon` actions and `frames` images, at offsets round(linspace(0, horizon, frames)).

    Attributes:
        frames: images a sample; offsets past the episode's end show its last frame.
        horizon: steps, and so actions, a sample, from the window's first frame on.
        stride_s: seconds a step; None makes a step one frame of the data set, whatever its rate.
    """

    frames: int = 1
    horizon: int = 16
    stride_s: float | None = None


@dataclass(frozen=True)
class MixtureConfig:
    """Data sets with weights, and what a sample holds.

    Attributes:
        datasets: at least one.
        cameras: camera names in the Batch's order; a data set without one gives zeros and camera_mask False.
        window: frames and actions of a sample.
        image_size: pixels; frames are resized to a square of it, aspect kept, black around.
        order: "weighted" draws a data set by weight, then any of its windows, with replacement; "epochs" shows every
            window of all data sets once before any comes again, weights aside.
        decoded_gib: a data set whose decoded frames take at most this (GiB) is decoded once and kept on disk beside it;
            a larger one is decoded as asked. Shards are always decoded as asked: they are made for it.
        strict: stop at the first damaged episode instead of leaving it out.
        latents: prefix of the latent columns ("latent" reads `latent.scene` and `latent.motion`), or None.
        vision_features: folder of cached vision features, or None.
    """

    datasets: list[DatasetConfig]
    cameras: list[str]
    window: WindowConfig = field(default_factory=WindowConfig)
    image_size: int = 224
    order: Literal["weighted", "epochs"] = "weighted"
    decoded_gib: float = 8.0
    strict: bool = False
    latents: str | None = None
    vision_features: str | None = None


def check(config: MixtureConfig) -> None:
    """Raise ValueError for a value that no data could make right, naming field, value and fix."""
    if not config.datasets:
        raise ValueError("datasets is empty: name at least one data set")
    if not config.cameras or len(set(config.cameras)) != len(config.cameras):
        raise ValueError(f"cameras is {config.cameras}: name at least one camera, and none twice")
    for position, dataset in enumerate(config.datasets):
        check_dataset(f"datasets[{position}]", dataset)
    _at_least("image_size", config.image_size, 1)
    _at_least("window.horizon", config.window.horizon, 1)
    _at_least("window.frames", config.window.frames, 1)
    if config.window.stride_s is not None and not 0 < config.window.stride_s < math.inf:
        raise ValueError(
            f"window.stride_s is {config.window.stride_s}: give seconds above 0, or null for single frames"
        )
    if config.window.frames > config.window.horizon + 1:
        raise ValueError(
            f"window.frames is {config.window.frames}, but window.horizon {config.window.horizon} spans only "
            f"{config.window.horizon + 1} frames: lower frames or raise the horizon"
        )


def check_dataset(name: str, dataset: DatasetConfig) -> None:
    """Raise ValueError for a value that no data could make right; `name` is the recipe's for this data set."""
    if not 0 < dataset.weight < math.inf:
        raise ValueError(f"{name}.weight is {dataset.weight}: give a finite weight above 0, or remove the data set")
    if not 0 <= dataset.labelled_share <= 1:
        raise ValueError(f"{name}.labelled_share is {dataset.labelled_share}: it is a share, from 0 to 1")
    if dataset.only_labelled and dataset.labelled_share == 0:
        raise ValueError(f"{name}.only_labelled is true, but {name}.labelled_share is 0: no episode is left")
    _at_least(f"{name}.skip_per_task", dataset.skip_per_task, 0)
    if dataset.episodes_per_task is not None:
        _at_least(f"{name}.episodes_per_task", dataset.episodes_per_task, 1)


def _at_least(name: str, value: int, lowest: int) -> None:
    if value < lowest:
        raise ValueError(f"{name} is {value}: it must be at least {lowest}")
