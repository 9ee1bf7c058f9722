"""From an episode that ended, or that could not be played, to its row."""

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

from eval.engine.drivers import Driver
from eval.results.row import EpisodeRow, protocol_digest
from eval.suite import Case, Success, Suite


def own_versions() -> dict[str, str]:
    """Of what computes actions here; the simulators add their own."""
    found = {"python": platform.python_version()}
    for name in ("vla", "torch", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass
class Course:
    """What the engine has seen of one episode so far.

    Attributes:
        case: Which.
        began: `time.perf_counter()` at its reset.
        steps: Actions carried out.
        last: The success flags after the last of them.
        latencies_s: Of the driver's answers it waited for.
        readings: The simulator's own, at the end.
        seconds: From the reset to the last action.
        restarts: Times its simulator had to be started again while it was played.
    """

    case: Case
    began: float
    steps: int = 0
    last: Success = Success(now=False, ever=False)
    latencies_s: list[float] = field(default_factory=list)
    readings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    restarts: int = 0

    def end(self, readings: Mapping[str, Any]) -> None:
        """No action follows."""
        self.readings, self.seconds = readings, time.perf_counter() - self.began


@dataclass(frozen=True)
class RowMaker:
    """What all rows of a run share.

    Attributes:
        suite: Whose cases.
        driver: What acts.
        policy: The arm's name.
        policy_seed: See `EngineConfig`.
        labels: Further JSON values of every row.
        versions: The simulator's and ours.
        assets: "official", "stand-in" or "own".
    """

    suite: Suite
    driver: Driver
    policy: str
    policy_seed: int
    labels: Mapping[str, Any]
    versions: Mapping[str, str]
    assets: str

    def row(self, course: Course, video: str | None = None, error: str | None = None) -> EpisodeRow:
        """The row of an episode that ended; one that could not be played has an `error` and no success."""
        case, protocol, played = course.case, dict(self.suite.protocol), error is None
        p50, p95, p99 = _percentiles_ms(course.latencies_s)
        return EpisodeRow(
            suite=case.suite,
            task=case.task,
            setting=case.setting,
            init=case.init,
            seed=case.seed,
            policy_seed=self.policy_seed if self.driver.draws else None,
            success_any=played and course.last.ever,
            success_final=played and course.last.now,
            success_first=played and course.last.ever,
            quoted=self.suite.quoted,
            readings=dict(course.readings),
            steps=course.steps,
            max_steps=case.max_steps,
            execute=1 if self.driver.scripted else self.suite.execute,
            latency_p50_ms=p50,
            latency_p95_ms=p95,
            latency_p99_ms=p99,
            calls=len(course.latencies_s),
            seconds=round(course.seconds, 3),
            video=video,
            versions=dict(self.versions),
            assets=self.assets,
            checkpoint=self.driver.checkpoint,
            policy=self.policy,
            protocol=str(protocol["name"]),
            protocol_hash=protocol_digest(protocol),
            protocol_json=protocol,
            labels=dict(self.labels),
            restarts=course.restarts,
            error=error,
        )


def _percentiles_ms(latencies_s: list[float]) -> tuple[float | None, float | None, float | None]:
    if not latencies_s:
        return None, None, None
    p50, p95, p99 = np.quantile(latencies_s, (0.5, 0.95, 0.99)) * 1000
    return round(float(p50), 3), round(float(p95), 3), round(float(p99), 3)
