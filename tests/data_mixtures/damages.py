"""Ways a data set on disk goes wrong: bytes, files, and what JSON and parquet files say."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HDF5 = (".h5", ".hdf5")
# What a field may hold that it should not.
ODD: tuple[Any, ...] = (
    *(None, "", "x", "../x", "{0.__class__}", "a" * 300, "\0", True),
    *(-1, 0, 1, 3.5, float("nan"), float("inf"), 1e300, 1 << 31, 1 << 62, 1 << 80),
    *([], {}, [None], {"a": 1}, [[1]]),
)


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes are others, mostly among the headers at the front."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        reach = len(changed) if rng.random() < 0.6 else min(len(changed), 4000)
        changed[rng.integers(reach)] ^= int(rng.integers(1, 256))
    return bytes(changed)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """It ends too early."""
    return content[: rng.integers(len(content))]


def inserted(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes that do not belong there, in the middle or behind the end."""
    place = int(rng.integers(len(content) + 1))
    return content[:place] + rng.bytes(int(rng.integers(1, 400))) + content[place:]


def removed(content: bytes, rng: np.random.Generator) -> bytes:
    """A stretch is missing."""
    place = int(rng.integers(len(content)))
    return content[:place] + content[place + int(rng.integers(1, 400)) :]


def zeroed(content: bytes, rng: np.random.Generator) -> bytes:
    """A stretch was never written: what a disk that filled up leaves."""
    place = int(rng.integers(len(content)))
    length = min(int(rng.integers(1, 5000)), len(content) - place)
    return content[:place] + bytes(length) + content[place + length :]


BYTES = (flipped, flipped, cut, inserted, removed, zeroed)


def damage_bytes(root: Path, files: list[Path], rng: np.random.Generator) -> Path:
    """Other bytes in one file."""
    path = root / files[rng.integers(len(files))]
    if content := path.read_bytes():
        path.write_bytes(BYTES[rng.integers(len(BYTES))](content, rng))
    return path


def damage_files(root: Path, files: list[Path], rng: np.random.Generator) -> Path:
    """One file is gone, empty, another one's, exchanged with another, or a folder."""
    path, kind = root / files[rng.integers(len(files))], rng.integers(6)
    alike = [root / other for other in files if other.suffix == path.suffix and root / other != path]
    if kind >= 3 and alike:
        other = alike[rng.integers(len(alike))]
        content = path.read_bytes()
        path.write_bytes(other.read_bytes())
        if kind > 3:
            other.write_bytes(content)
    elif kind == 0:
        path.write_bytes(b"")
    else:
        path.unlink()
        if kind == 1:
            path.mkdir()
    return path


def damage_words(root: Path, files: list[Path], rng: np.random.Generator) -> Path:
    """One value of a JSON file is another, or not there."""
    texts = [file for file in files if file.suffix in (".json", ".jsonl")]
    if not texts:
        return damage_files(root, files, rng)
    path = root / texts[rng.integers(len(texts))]
    if path.suffix == ".json":
        path.write_text(json.dumps(_other_value(json.loads(path.read_text()), rng)))
    else:
        lines = path.read_text().splitlines()
        place = int(rng.integers(len(lines)))
        lines[place] = json.dumps(_other_value(json.loads(lines[place]), rng))
        path.write_text("\n".join(lines) + "\n")
    return path


def _other_value(tree: Any, rng: np.random.Generator) -> Any:
    tree = copy.deepcopy(tree)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for name in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, name))
            walk(node[name])

    walk(tree)
    if not places or rng.random() < 0.02:
        return ODD[rng.integers(len(ODD))]
    node, name = places[rng.integers(len(places))]
    if rng.random() < 0.25:
        del node[name]
    else:
        node[name] = ODD[rng.integers(len(ODD))]
    return tree


def damage_columns(root: Path, files: list[Path], rng: np.random.Generator) -> Path:
    """One column of a parquet file is gone, called otherwise, of another type, or holds what it should not."""
    tables = [file for file in files if file.suffix == ".parquet"]
    if not tables:
        return damage_words(root, files, rng)
    path = root / tables[rng.integers(len(tables))]
    table = pq.read_table(path)
    place = int(rng.integers(table.num_columns))
    name, column = table.column_names[place], table.column(place)
    kind = rng.integers(6)
    if kind == 0:
        table = table.remove_column(place)
    elif kind == 1:
        table = table.rename_columns([n if i != place else f"{n}s" for i, n in enumerate(table.column_names)])
    elif kind == 2:
        table = table.slice(0, int(rng.integers(len(table) + 1)))
    else:
        values = column.to_pylist()
        odd = _odd_entry(values, rng) if kind < 5 else [str(value) for value in values]
        try:
            array = pa.array(odd, type=column.type if kind == 3 else None)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            array = pa.array([str(value) for value in odd])
        table = table.set_column(place, name, array)
    pq.write_table(table, path, write_page_checksum=bool(rng.integers(2)))
    return path


def _odd_entry(values: list[Any], rng: np.random.Generator) -> list[Any]:
    values = list(values)
    for _ in range(rng.integers(1, 3)):
        if not values:
            break
        place, odd = rng.integers(len(values)), ODD[rng.integers(len(ODD))]
        if isinstance(values[place], list) and values[place] and rng.random() < 0.7:
            entry = list(values[place])
            if rng.random() < 0.3:
                entry.pop()
            else:
                entry[rng.integers(len(entry))] = odd
            values[place] = entry
        else:
            values[place] = odd
    return values


Damage = Callable[[Path, list[Path], np.random.Generator], Path]
DAMAGES: tuple[Damage, ...] = (damage_bytes, damage_bytes, damage_files, damage_words, damage_columns)


def damaged_copy(source: Path, target: Path, seed: int, spare_hdf5: bool = False) -> Path:
    """A copy of the data set with one to three damages, a function of the seed; the file that was damaged last.

    Args:
        source: the data set.
        target: its copy, made anew.
        seed: of the damages.
        spare_hdf5: leave the bytes in HDF5 files alone; the files themselves may still go.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".cache"))
    rng = np.random.default_rng(seed)
    last = target
    for _ in range(1 + int(rng.random() < 0.2) + int(rng.random() < 0.1)):
        files = sorted(p.relative_to(target) for p in target.rglob("*") if p.is_file() and p.suffix != ".png")
        damage = DAMAGES[rng.integers(len(DAMAGES))]
        if damage is damage_bytes and spare_hdf5:
            files = [file for file in files if file.suffix not in HDF5] or files[:1]
            damage = damage_files if files[0].suffix in HDF5 else damage
        try:
            last = damage(target, files, rng)
        except (ValueError, OSError, pa.ArrowException):  # the damage before left nothing to damage this way
            continue
    return last
