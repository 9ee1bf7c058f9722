"""Episode rows found in folders and files, shards merged, nothing counted twice."""

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from eval.results.row import EpisodeRow, read_parquet

EPISODES, PARQUET = "episodes.jsonl", "results.parquet"

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class Played:
    """One row and the file it was read from."""

    row: EpisodeRow
    file: Path

    @property
    def video(self) -> Path | None:
        """Where its film should lie; None for one that would lie outside the results' folder."""
        if self.row.video is None:
            return None
        path = self.file.parent / self.row.video
        return path if path.resolve().is_relative_to(self.file.parent.resolve()) else None

    @property
    def train_seed(self) -> int | None:
        """The training the policy came from, of several that differ in nothing else."""
        seed = self.row.labels.get("train_seed")
        return seed if isinstance(seed, int) else None

    @property
    def start(self) -> tuple[str, str, str]:
        """What two policies share when they are compared: suite, task and starting state."""
        row = self.row
        return row.suite, row.task, f"{row.setting}/{row.init:06d}/{row.seed:09d}"

    @property
    def repeat(self) -> int | None:
        """Which of several plays of one starting state: they differ in the policy's seed."""
        return self.row.policy_seed

    @property
    def success(self) -> bool:
        """The quoted reading."""
        return self.row.success

    @property
    def contestant(self) -> str:
        """The policy's name with all labels but the training seed: what one line of a table is about."""
        labels = {k: v for k, v in sorted(self.row.labels.items()) if k != "train_seed" and v is not None}
        words = ", ".join(f"{name} {value}" for name, value in labels.items())
        return f"{self.row.policy} ({words})" if words else self.row.policy

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes it one episode: two rows that share it are the same one, played or copied twice."""
        row = self.row
        labels = json.dumps(row.labels, sort_keys=True)
        played_by = (row.policy, labels, row.checkpoint, row.policy_seed)
        return (*played_by, row.protocol_hash, row.assets, row.case, row.seed)


@dataclass(frozen=True)
class Results:
    """What was read.

    Attributes:
        episodes: Those that were played, each once.
        errors: Those that could not be played by any of the files; no table counts them.
        notes: Sentences on what was merged or left out.
    """

    episodes: tuple[Played, ...]
    errors: tuple[Played, ...]
    notes: tuple[str, ...]


def read_results(paths: Sequence[Path]) -> Results:
    """Read and merge results.

    Args:
        paths: Folders that `vla eval` wrote (or folders of such folders), and single Parquet or JSON-lines files.

    Raises:
        ValueError: nothing is there, a file cannot be read, or two files tell different stories of one episode.
    """
    notes: list[str] = []
    files = list(dict.fromkeys(file.resolve() for path in paths for file in _files(path)))
    return merge((Played(row, file) for file in files for row in _rows(file, notes)), notes)


def _in_order(played: Iterable[Played]) -> tuple[Played, ...]:
    """Policies as they came, the episodes of each in one order whichever ended first."""
    policies = grouped(played, lambda p: p.contestant).values()
    return tuple(p for members in policies for p in sorted(members, key=_place))


def _place(played: Played) -> tuple[object, ...]:
    row = played.row
    return row.suite, row.task, row.setting, row.init, row.seed, played.train_seed or 0, row.policy_seed or 0


def merge(played: Iterable[Played], notes: Sequence[str] = ()) -> Results:
    """Count every episode once: the same outcome twice is once, an episode beats an error row of the same case.

    Raises:
        ValueError: two rows of one episode disagree; the message names both files.
    """
    found: dict[tuple[object, ...], Played] = {}
    twice = replaced = 0
    for one in played:
        before = found.get(one.identity)
        if before is None or (before.row.error is not None and one.row.error is None):
            replaced += before is not None
            found[one.identity] = one
        elif one.row.error is None:
            _agree(before, one)
            twice += 1
    episodes = _in_order(p for p in found.values() if p.row.error is None)
    errors = _in_order(p for p in found.values() if p.row.error is not None)
    said = [*notes]
    if twice:
        said.append(f"{_rows_word(twice)} repeated an episode that was there already; each episode counts once.")
    if replaced:
        said.append(f"{_rows_word(replaced)} said that an episode could not be played which was played later.")
    if errors:
        said.append(f"{_rows_word(len(errors))} could not be played and are counted nowhere: {_reasons(errors)}.")
    return Results(episodes, errors, tuple(said))


def grouped(episodes: Iterable[Played], key: Callable[[Played], _Key]) -> dict[_Key, list[Played]]:
    """Episodes by what `key` says of them, in order of appearance."""
    groups: dict[_Key, list[Played]] = {}
    for played in episodes:
        groups.setdefault(key(played), []).append(played)
    return groups


def _files(path: Path) -> Iterator[Path]:
    """The files to read under one path; of a folder that has both forms only the one written episode by episode."""
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder; give what `vla eval` wrote")
    folders = sorted({f.parent for name in (EPISODES, PARQUET) for f in path.rglob(name)})
    if not folders:
        raise ValueError(f"{path}: holds no {EPISODES} and no {PARQUET}; give a folder that `vla eval` wrote")
    for folder in folders:
        yield folder / EPISODES if (folder / EPISODES).is_file() else folder / PARQUET


def _rows(file: Path, notes: list[str]) -> list[EpisodeRow]:
    if file.suffix == ".parquet":
        return read_parquet(file)
    if file.suffix == ".jsonl":
        return _lines(file, notes)
    raise ValueError(f"{file}: neither .parquet nor .jsonl; give results of `vla eval`")


def _lines(file: Path, notes: list[str]) -> list[EpisodeRow]:
    """The rows of episodes.jsonl; a last line without its end was being written when the run was killed."""
    *lines, last = file.read_bytes().split(b"\n")
    if last.strip():
        notes.append(f"{file}: the last line was cut off while it was written; that episode is not counted.")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            columns = json.loads(line)
            if not isinstance(columns, dict):
                raise ValueError(f"holds {columns!r}, not an object")
            rows.append(EpisodeRow.from_json(columns))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}, line {number}: {error}") from error
    return rows


def _agree(first: Played, second: Played) -> None:
    """Two rows of one episode must tell the same."""
    for name in ("success_any", "success_final", "success_first", "steps", "quoted"):
        one, other = getattr(first.row, name), getattr(second.row, name)
        if one != other:
            raise ValueError(
                f"{first.row.case} of {first.contestant} was played twice and differs: {name} is {one} in {first.file} "
                f"and {other} in {second.file}. Give `vla report` only one of the two files."
            )


def _reasons(errors: Sequence[Played]) -> str:
    reasons = dict.fromkeys(f"{p.row.case} ({(p.row.error or 'no reason given').splitlines()[0][:80]})" for p in errors)
    return ", ".join(list(reasons)[:3]) + (", …" if len(reasons) > 3 else "")


def _rows_word(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
