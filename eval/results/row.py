"""`EpisodeRow`: everything one episode's result needs to be repeated, in one row.

Rows lie in `episodes.jsonl` (one object a line, written as episodes end) and in `results.parquet` (the same rows,
written whole). Columns that hold a table of their own (`readings`, `versions`, `protocol_json`, `labels`) are objects
in the first and JSON text in the second.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_mixtures.storage.whole_file import write_whole

NO_CHECKPOINT = "none"
"""What `checkpoint` says where nothing was trained (expert, random) or a server does not tell."""
ASSETS = ("official", "stand-in", "own")
READINGS = ("any", "final")


@dataclass(frozen=True)
class EpisodeRow:
    """One episode of one policy under one protocol.

    Attributes:
        suite: What tables are made of: "metaworld", "libero_spatial", "simpler_widowx", ...
        task: Its name in the suite.
        setting: A cell of the suite's grid, as "visual_matching/urdf_alt"; "" where the suite has none.
        init: Index of the initial state, in the protocol's order.
        seed: What the simulator was seeded with.
        policy_seed: What the policy's draws follow from; None where it draws nothing or a server does not tell.
        success_any: Solved at some moment.
        success_final: Solved at the moment the episode ended.
        success_first: The reading of harnesses that stop an episode at its first success. Nothing before that moment
            depends on what would come after, so it is `success_any` wherever the simulator itself does not read
            differently; a column of its own, so that no reader has to know.
        quoted: The reading tables quote, "any" or "final".
        readings: What else the simulator says of how it went; JSON values.
        steps: Actions carried out (settling not counted).
        max_steps: Actions an episode has at most.
        execute: Actions carried out of each chunk before the policy is asked again.
        latency_p50_ms: Median of the policy's answers in this episode, milliseconds from the call that asks for its
            batch until all of the batch is answered; gathering it is not counted. None where nothing was asked.
        latency_p95_ms: 95th percentile of the same.
        latency_p99_ms: 99th percentile of the same.
        calls: How often the policy was asked.
        seconds: Wall time from the reset to the last step.
        video: Its film, relative to the results' folder; None where none was kept.
        versions: Name -> version of what decides the result: mujoco, robosuite, vla, torch, ...
        assets: "official", "stand-in" or "own" (meshes and textures that are a package's own part, as Meta-World's).
        checkpoint: SHA-256 of the policy's weights, hex; "none" where there are none.
        policy: The arm's name.
        protocol: The protocol's name, as "openpi".
        protocol_hash: `protocol_digest(protocol_json)`.
        protocol_json: The whole protocol: all that decides the number beside policy, case and assets; JSON values.
        labels: What else tells policies apart: `train_seed`, `demos`, ...; JSON values.
        restarts: How often the simulator had to be started again while this episode was played.
        error: Why it could not be played, None where it was. Such a row is no episode: its successes are False and mean
            nothing, tables leave it out and say so.
    """

    suite: str
    task: str
    init: int
    seed: int
    success_any: bool
    success_final: bool
    success_first: bool
    quoted: str
    steps: int
    max_steps: int
    execute: int
    policy: str
    assets: str
    protocol: str
    protocol_hash: str
    protocol_json: Mapping[str, Any]
    setting: str = ""
    policy_seed: int | None = None
    readings: Mapping[str, Any] = field(default_factory=dict)
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    calls: int = 0
    seconds: float = 0.0
    video: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    checkpoint: str = NO_CHECKPOINT
    labels: Mapping[str, Any] = field(default_factory=dict)
    restarts: int = 0
    error: str | None = None

    def __post_init__(self) -> None:
        if self.assets not in ASSETS:
            raise ValueError(f"assets: {self.assets!r} is none of {', '.join(ASSETS)}; say which the simulator drew")
        if self.quoted not in READINGS:
            raise ValueError(f"quoted: {self.quoted!r} is none of {', '.join(READINGS)}; name the reading tables quote")
        if self.protocol_hash != (expected := protocol_digest(self.protocol_json)):
            raise ValueError(
                f"protocol_hash: {self.protocol_hash!r} is not that of protocol_json ({expected}); the row was edited, "
                "play the episode again"
            )

    @property
    def success(self) -> bool:
        """The quoted reading."""
        return self.success_any if self.quoted == "any" else self.success_final

    @property
    def case(self) -> str:
        """As `eval.suite.Case.key`: which episode of the suite this is."""
        return "/".join(part for part in (self.suite, self.task, self.setting, str(self.init)) if part)

    def to_json(self) -> dict[str, Any]:
        """The object of a line of episodes.jsonl, columns in the order of the Parquet file."""
        return {name: getattr(self, name) for name in SCHEMA.names}

    @classmethod
    def from_json(cls, columns: Mapping[str, Any]) -> "EpisodeRow":
        """The row of such an object.

        Raises:
            ValueError: a column is missing, unknown or of another type.
        """
        if odd := sorted(columns.keys() ^ set(SCHEMA.names)):
            word = "unknown" if odd[0] in columns else "missing"
            raise ValueError(f"{odd[0]}: this column is {word}; these rows were not written by this version")
        for name, value in columns.items():
            if not _fits(name, value):
                raise ValueError(f"{name}: {value!r} is no {'object' if name in _TABLES else SCHEMA.field(name).type}")
        return cls(**columns)


def protocol_digest(protocol: Mapping[str, Any]) -> str:
    """SHA-256, hex, of a protocol's canonical JSON: equal protocols, whatever their order of keys, are equal here."""
    text = json.dumps(protocol, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


_TABLES = ("readings", "versions", "protocol_json", "labels")
_NULLABLE = {"policy_seed", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "video", "error"}
_ORDER = {
    pa.string(): (
        *("suite", "task", "setting", "quoted", "readings", "video", "versions", "assets", "checkpoint", "policy"),
        *("protocol", "protocol_hash", "protocol_json", "labels", "error"),
    ),
    pa.int64(): ("init", "seed", "policy_seed", "steps", "max_steps", "execute", "calls", "restarts"),
    pa.bool_(): ("success_any", "success_final", "success_first"),
    pa.float64(): ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "seconds"),
}
_TYPE_OF = {name: kind for kind, names in _ORDER.items() for name in names}
_COLUMNS = (
    *("suite", "task", "setting", "init", "seed", "policy_seed"),
    *("success_any", "success_final", "success_first", "quoted", "readings", "steps", "max_steps", "execute"),
    *("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "calls", "seconds", "video", "versions", "assets"),
    *("checkpoint", "policy", "protocol", "protocol_hash", "protocol_json", "labels", "restarts", "error"),
)
SCHEMA = pa.schema([pa.field(name, _TYPE_OF[name], nullable=name in _NULLABLE) for name in _COLUMNS])
"""The exact schema of results.parquet."""
assert {f.name for f in fields(EpisodeRow)} == set(SCHEMA.names)


def _fits(name: str, value: Any) -> bool:
    """Whether a value read from JSON is of its column's type."""
    if value is None:
        return name in _NULLABLE
    if name in _TABLES:
        return isinstance(value, Mapping)
    kind = SCHEMA.field(name).type
    if kind == pa.bool_():
        return isinstance(value, bool)
    if kind == pa.string():
        return isinstance(value, str)
    return not isinstance(value, bool) and isinstance(value, int if kind == pa.int64() else int | float)


def write_parquet(rows: Iterable[EpisodeRow], path: Path) -> None:
    """Write rows as one Parquet file, which appears whole; what was there is replaced."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for row in rows:
        for name, values in columns.items():
            value = getattr(row, name)
            values.append(json.dumps(value, sort_keys=True, allow_nan=False) if name in _TABLES else value)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=SCHEMA), sink, compression="zstd")
    write_whole(path, sink.getvalue().to_pybytes())


def read_parquet(path: Path) -> list[EpisodeRow]:
    """The rows of such a file.

    Raises:
        ValueError: it is no Parquet file, or its columns are not these.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a Parquet file that can be read ({error}); play the episodes again") from error
    if not table.schema.remove_metadata().equals(SCHEMA):
        differing = sorted({f.name for f in set(table.schema) ^ set(SCHEMA)})
        raise ValueError(f"{path}: column {differing[0] if differing else 'order'} is not as in episode rows")
    try:
        return [EpisodeRow.from_json(_opened(columns)) for columns in table.to_pylist()]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _opened(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns with their JSON texts parsed."""
    for name in _TABLES:
        try:
            columns[name] = json.loads(columns[name])
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{name} holds {columns[name]!r}, which is no JSON") from error
    return columns
