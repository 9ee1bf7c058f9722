"""A teacher's latents as columns of a LeRobot data set, in a new folder beside the untouched original.

Column `<name>.scene` holds [scene tokens, dim] a frame, `<name>.motion` the motion tokens; any LeRobot reader sees
two more features. Videos are hard links to the original's, so a labelled copy costs only its parquet files.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_mixtures.defects import Defect
from data_mixtures.lerobot import layout
from data_mixtures.lerobot.parquet_columns import column_of
from data_mixtures.lerobot.table import LeRobotDataset
from data_mixtures.statistics.feature_stats import numeric_stats
from data_mixtures.storage.dataset import cache_of

PARTS = ("scene", "motion")
_MEND = "fetch the data set again, or label a copy of what is sound of it, which `vla data convert` makes"


def latent_shapes(features: Mapping[str, dict[str, Any]], name: str) -> dict[str, tuple[int, int]]:
    """The latent columns of a data set's features: column -> (tokens, dim), scene first."""
    columns = [f"{name}.{part}" for part in PARTS]
    if missing := [column for column in columns if column not in features]:
        raise ValueError(f"latents: the data set has no column {missing[0]!r}: run `vla label` first")
    shapes = {}
    for column in columns:
        tokens, dim = features[column]["shape"]
        shapes[column] = (tokens, dim)
    return shapes


def episodes_without(root: Path, name: str) -> dict[int, Defect]:
    """The episodes of a labelled folder that could not be labelled, by their place in it, with reasons."""
    path = _left_out_path(root, name)
    if not path.exists():
        return {}
    return {entry.pop("episode"): Defect(**entry) for entry in json.loads(path.read_text())}


def write_latent_columns(
    source_root: Path | str,
    target_root: Path | str,
    name: str,
    latents: np.ndarray,
    scene_tokens: int,
    left_out: Mapping[int, Defect] | None = None,
) -> Path:
    """Copy a data set with the latents of every frame as two more columns; the copy appears whole or not at all.

    Args:
        source_root: the data set the latents were computed on; it is only read.
        target_root: the labelled copy; must not exist yet.
        name: column prefix, as `MixtureConfig.latents` names it.
        latents: float16 or float32 [num_frames, tokens, dim], row i of the data set's frame i.
        scene_tokens: the first so many tokens are scene, the rest motion.
        left_out: episodes, by their place in the folder, whose rows hold no latents; training leaves them out.

    Returns:
        target_root.
    """
    source, target = LeRobotDataset(source_root), Path(target_root)
    _check(source, target, name, latents, scene_tokens)
    aside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)  # what a killed run left
    aside.mkdir(parents=True)
    _copy_all_but_data(source.root, aside)
    parts = {f"{name}.scene": latents[:, :scene_tokens], f"{name}.motion": latents[:, scene_tokens:]}
    _write_data(source, aside, parts)
    _write_metadata(source, aside, parts)
    if left_out:
        entries = [{"episode": episode, **asdict(defect)} for episode, defect in sorted(left_out.items())]
        _left_out_path(aside, name).write_text(json.dumps(entries, ensure_ascii=False, indent=1))
    _share_decoded_frames(source.root, aside)
    os.replace(aside, target)
    return target


def check_source(root: Path | str) -> None:
    """Raise ValueError unless a labelled copy can be made of a folder: every row is needed, of damaged episodes too."""
    source = LeRobotDataset(root)
    rows = 0
    for path in source.data_files():
        with _reading(path):
            rows += pq.read_metadata(path).num_rows
    if rows != source.num_frames:
        raise ValueError(f"{root}: data/ holds {rows} rows, meta/episodes names {source.num_frames}: {_MEND}")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}): {_MEND}") from error


def _left_out_path(root: Path, name: str) -> Path:
    return root / "meta" / f"{name}.left_out.json"


def _check(source: LeRobotDataset, target: Path, name: str, latents: np.ndarray, scene_tokens: int) -> None:
    if target.exists():
        raise ValueError(f"target_root {target} exists already: delete it or name another folder")
    if latents.ndim != 3 or len(latents) != source.num_frames or latents.dtype not in (np.float16, np.float32):
        raise ValueError(
            f"latents is {latents.dtype} {latents.shape}: expected float16 or float32 "
            f"[{source.num_frames}, tokens, dim], a row for every frame of {source.root}"
        )
    if not 0 < scene_tokens < latents.shape[1]:
        raise ValueError(f"scene_tokens is {scene_tokens}: expected 1..{latents.shape[1] - 1}, so both parts exist")
    if f"{name}.{PARTS[0]}" in source.features:
        raise ValueError(f"name {name!r} is taken in {source.root}: choose another prefix")


def _write_data(source: LeRobotDataset, aside: Path, parts: Mapping[str, np.ndarray]) -> None:
    """Rewrite every data file row group by row group, so memory holds one group at a time."""
    row = 0
    for path in source.data_files():
        with _reading(path):
            reader = pq.ParquetFile(path)
        target = aside / path.relative_to(source.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        writer: pq.ParquetWriter | None = None
        for group in range(reader.num_row_groups):
            with _reading(path):
                table = reader.read_row_group(group)
            rows = slice(row, row + len(table))
            for column, values in parts.items():
                table = table.append_column(column, column_of(np.asarray(values[rows]).reshape(len(table), -1)))
            writer = writer or pq.ParquetWriter(target, table.schema)
            writer.write_table(table)
            row += len(table)
        if writer is not None:
            writer.close()


def _write_metadata(source: LeRobotDataset, aside: Path, parts: Mapping[str, np.ndarray]) -> None:
    info = dict(source.info)
    info["features"] = dict(info["features"]) | {
        column: {"dtype": str(values.dtype), "shape": list(values.shape[1:]), "names": ["tokens", "dim"]}
        for column, values in parts.items()
    }
    (aside / layout.INFO_PATH).write_text(json.dumps(info, indent=2))
    stats = json.loads((source.root / layout.STATS_PATH).read_text())
    stats |= {column: numeric_stats(values.reshape(len(values), -1)) for column, values in parts.items()}
    (aside / layout.STATS_PATH).write_text(json.dumps(stats, indent=2))


def _share_decoded_frames(source: Path, copy: Path) -> None:
    """The videos are the same files, so what was decoded from them need not be decoded again."""
    shared, target = cache_of(source), cache_of(copy)
    for frames in shared.glob("frames-*"):
        target.mkdir(parents=True, exist_ok=True)
        _link(frames, target / frames.name)


def _copy_all_but_data(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if not path.is_file() or relative.parts[0] in ("data", ".cache"):
            continue
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        if relative.parts[0] == "videos":
            _link(path, target / relative)
        else:
            shutil.copyfile(path, target / relative)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
