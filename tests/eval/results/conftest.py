"""Rows made up for the tests."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.results.reading import Played
from eval.results.row import EpisodeRow, protocol_digest

PROTOCOL = {"name": "openpi", "execute": 5, "image_size": [256, 256], "past_success": None}

MakeRow = Callable[..., EpisodeRow]
MakePlayed = Callable[..., list[Played]]


def _row(**changes: Any) -> EpisodeRow:
    protocol = changes.pop("protocol_json", PROTOCOL)
    columns: dict[str, Any] = dict(
        suite="libero_spatial", task="bowl", setting="", init=3, seed=7, policy_seed=11, success_any=True,
        success_final=False, success_first=True, quoted="any", readings={"dropped": 1}, steps=80, max_steps=220,
        execute=5, latency_p50_ms=1.5, latency_p95_ms=2.5, latency_p99_ms=2.75, calls=16, seconds=9.5,
        video="videos/bowl-3.mp4", versions={"mujoco": "3.3.2"}, assets="official", checkpoint="ab" * 32,
        policy="distilled", protocol="openpi", protocol_hash=protocol_digest(protocol), protocol_json=protocol,
        labels={"train_seed": 0, "demos": 5}, restarts=0, error=None,
    )  # fmt: skip
    return EpisodeRow(**(columns | changes))


def _played(outcomes: Sequence[bool], file: str = "a/episodes.jsonl", **changes: Any) -> list[Played]:
    """An episode for each outcome, initial states 0, 1, ..., in a policy without labels."""
    labels = changes.pop("labels", {})
    return [
        Played(_row(init=i, success_any=o, success_first=o, labels=labels, **changes), Path(file))
        for i, o in enumerate(outcomes)
    ]


def _write(folder: Path, rows: Sequence[EpisodeRow], end: str = "\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "episodes.jsonl").write_text("\n".join(json.dumps(row.to_json()) for row in rows) + end)
    return folder


@pytest.fixture
def row() -> MakeRow:
    return _row


@pytest.fixture
def played() -> MakePlayed:
    return _played


@pytest.fixture
def write() -> Callable[..., Path]:
    return _write
