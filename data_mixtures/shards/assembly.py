"""Finished parts of an ingest to one folder.

A killed assembly goes on: a shard is written aside and renamed, and only then are the parts' packets in it deleted, so
that the disk holds little twice. Everything else is written anew.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from data_mixtures.defects import Defect
from data_mixtures.quarantine import FILE_NAME as QUARANTINE_FILE
from data_mixtures.shards import layout
from data_mixtures.shards.encoder import GOP
from data_mixtures.shards.part import (
    PartReport,
    Plan,
    fingerprint_of,
    packet_arrays,
    packets_file,
    part_folder,
    read_report,
)
from data_mixtures.storage.array_store import create
from data_mixtures.storage.index import merge_indices

SHARD_BYTES = 2**30


def assemble(plan: Plan, parts: Path, whole: Path, found: Sequence[Defect]) -> layout.ShardsMeta:
    """Join all parts of the folder `parts` into the folder `whole`; shards.json comes last.

    Args:
        plan: what the parts were made by.
        parts: their folder; the packets in it are deleted on the way.
        whole: the folder to write.
        found: what was wrong with the data set when it was opened; kept before what its episodes were left out for.

    Raises:
        ValueError: no episode could be used.
    """
    folders = [part_folder(parts, part) for part in range(plan.num_parts)]
    reports = [read_report(folder) for folder in folders]
    quarantined = list(dict.fromkeys([*found, *(defect for report in reports for defect in report.quarantined)]))
    if not sum(report.num_rows for report in reports):
        last = quarantined[-1]
        raise ValueError(f"no episode of {plan.name} can be used; the last: {last.key}: {last.detail}")
    whole.mkdir(exist_ok=True)
    files: dict[str, layout.StoredFile] = {}
    for camera in range(len(plan.cameras)):
        folder = whole / layout.camera_folder(camera)
        folder.mkdir(exist_ok=True)
        _join_arrays(folder, [packet_arrays(part, camera) for part in folders])
        sources = [packets_file(part, camera) for part in folders]
        sizes = [report.num_bytes[camera] for report in reports]
        files |= _join_packets(folder, sources, sizes)
    _join_index(whole, folders, reports, quarantined)
    _write_lines(whole / layout.KEYS_FILE, [json.dumps(key) for report in reports for key in report.keys])
    defects = [{"dataset": plan.name, **asdict(defect)} for defect in quarantined]
    _write_lines(whole / QUARANTINE_FILE, [json.dumps(defect, ensure_ascii=False) for defect in defects])
    for path in sorted(path for path in whole.rglob("*") if path.is_file()):
        name = path.relative_to(whole).as_posix()
        if name not in files:
            files[name] = layout.stored_file(path)
    meta = layout.ShardsMeta(
        version=layout.VERSION,
        name=plan.name,
        fingerprint=fingerprint_of(plan),
        source_fingerprint=plan.source_fingerprint,
        size=plan.size,
        gop=GOP,
        pixel_format=plan.pixel_format,
        cameras=plan.cameras,
        num_rows=sum(report.num_rows for report in reports),
        num_episodes=sum(len(report.keys) for report in reports),
        num_quarantined=len(defects),
        files=dict(sorted(files.items())),
    )
    layout.write_meta(whole, meta)
    return meta


def _join_arrays(folder: Path, arrays: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    bases = np.cumsum([0, *(int(offsets[-1]) for offsets, _ in arrays)])
    num_rows = sum(len(offsets) - 1 for offsets, _ in arrays)

    def fill_offsets(joined: np.ndarray) -> None:
        row = 0
        for (offsets, _), base in zip(arrays, bases, strict=False):
            joined[row : row + len(offsets)] = offsets + base  # the last one is the next part's first
            row += len(offsets) - 1

    create(folder / "offsets.npy", (num_rows + 1,), np.int64, fill_offsets)
    np.save(folder / "crc32.npy", np.concatenate([checksums for _, checksums in arrays]))


def _join_packets(folder: Path, sources: Sequence[Path], sizes: Sequence[int]) -> dict[str, layout.StoredFile]:
    """Parts in order into shards of at least `SHARD_BYTES` each, but for the last one."""
    files = {}
    for number, members in enumerate(_cut(sizes)):
        path = folder / layout.shard_file(number)
        note = folder.parent.parent / f"{folder.name}-{path.name}.json"  # for the next run, should this one be killed
        if not path.exists():
            aside = path.with_name(f".{path.name}.partial")
            with aside.open("wb") as joined:
                for member in members:
                    for block in layout.blocks_of(sources[member]):
                        joined.write(block)
            stored = layout.stored_file(aside)
            note.write_text(json.dumps(asdict(stored)))
            os.replace(aside, path)
        files[f"{folder.name}/{path.name}"] = layout.StoredFile(**json.loads(note.read_text()))
        for member in members:
            sources[member].unlink(missing_ok=True)
    return files


def _cut(sizes: Sequence[int]) -> list[list[int]]:
    shards: list[list[int]] = [[]]
    filled = 0
    for member, size in enumerate(sizes):
        if filled >= SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(member)
        filled += size
    return shards


def _join_index(
    whole: Path, folders: Sequence[Path], reports: Sequence[PartReport], quarantined: Sequence[Defect]
) -> None:
    target = whole / layout.INDEX_FOLDER
    shutil.rmtree(target, ignore_errors=True)  # what a killed assembly left
    # A part without usable episodes adds nothing to the numerics, only to what was left out.
    used = [f / layout.INDEX_FOLDER for f, report in zip(folders, reports, strict=True) if report.keys]
    merge_indices(used, target)
    defects = [asdict(defect) for defect in quarantined]
    (target / "defects.json").write_text(json.dumps(defects, ensure_ascii=False, indent=1))


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
