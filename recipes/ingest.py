"""`vla data ingest`: every data set of a mixture to shards, and the mixture that trains from them."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from data_mixtures.config import DatasetConfig, MixtureConfig, check
from data_mixtures.readers.opening import open_reader
from data_mixtures.readers.reader import Reader
from data_mixtures.shards.ingest import IngestProgress, ingest
from data_mixtures.storage.whole_file import write_whole
from data_mixtures.summaries.inspection import dataset_name

MIXTURE_FILE = "mixture.yaml"


def ingest_mixture(
    config: MixtureConfig,
    target: Path,
    workers: int,
    size: int | None = None,
    on_progress: Callable[[str, IngestProgress], None] = lambda name, progress: None,
) -> Path:
    """Write each data set's shards to a folder of `target`, and a mixture that reads them; returns its path.

    Only the cameras the mixture names are kept. The same call goes on where an interrupted one stopped.

    Args:
        config: the mixture; none of its sets may be missing.
        target: the folder; made if it does not exist.
        workers: processes.
        size: height and width of the stored frames in pixels; the mixture's image size when None.
        on_progress: called with a set's name and how far it is.

    Raises:
        ValueError: data sets are missing (all of them are named), or a value is out of range.
    """
    check(config)
    readers = _open_all(config.datasets)
    names = _different_names(config.datasets)
    stored = []
    for dataset, reader, name in zip(config.datasets, readers, names, strict=True):
        ingest(
            partial(open_reader, dataset),
            target / name,
            name=name,
            size=config.image_size if size is None else size,
            cameras=_kept_cameras(config, dataset, reader),
            workers=workers,
            strict=config.strict,
            on_progress=partial(on_progress, name),
        )
        bare = replace(dataset, split=None, spec=None, fps=None, embodiment=None)  # what only the original needed
        stored.append(replace(bare, path=str(target / name), format="shards"))
    return _write_mixture(replace(config, datasets=stored), target / MIXTURE_FILE)


def _open_all(datasets: list[DatasetConfig]) -> list[Reader]:
    readers, problems = [], []
    for dataset in datasets:
        try:
            readers.append(open_reader(dataset))
        except (ValueError, OSError) as error:
            source = f" Get it from {dataset.source}." if dataset.source else ""
            problems.append(f"  {dataset.path}: {error}{source}")
    if problems:
        raise ValueError(f"datasets: {len(problems)} of {len(datasets)} cannot be opened:\n" + "\n".join(problems))
    return readers


def _different_names(datasets: list[DatasetConfig]) -> list[str]:
    """A folder name each: the last part of its path, with a number where two would be the same."""
    names: list[str] = []
    for dataset in datasets:
        name = dataset_name(dataset.path)
        numbered = (f"{name}-{number}" for number in range(2, len(datasets) + 2))
        names.append(name if name not in names else next(free for free in numbered if free not in names))
    return names


def _kept_cameras(config: MixtureConfig, dataset: DatasetConfig, reader: Reader) -> list[str]:
    wanted = {dataset.cameras.get(camera, camera) for camera in config.cameras}
    return [camera for camera in reader.cameras if camera in wanted]


def _write_mixture(config: MixtureConfig, path: Path) -> Path:
    write_whole(path, yaml.safe_dump(_without_defaults(config), sort_keys=False, allow_unicode=True))
    return path


def _without_defaults(config: MixtureConfig) -> dict[str, Any]:
    empty = asdict(MixtureConfig([], []))
    tree = {name: value for name, value in asdict(config).items() if value != empty[name]}
    plain = asdict(DatasetConfig(""))
    datasets = [{name: value for name, value in d.items() if value != plain[name]} for d in tree["datasets"]]
    return tree | {"datasets": datasets}
