"""What becomes of episodes: rows on disk, films, and the run's own idea of how it goes."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from eval.engine.config import EngineConfig
from eval.engine.drivers import Driver
from eval.engine.films import film_name, write_film
from eval.engine.progress import Progress
from eval.engine.rows import Course, RowMaker, own_versions
from eval.engine.store import Store
from eval.suite import Film, Suite

_SECONDS_BETWEEN_WRITES = 60.0


class Recorder:
    """Writes each episode once.

    Args:
        suite: Whose episodes.
        driver: What acts in them.
        config: Which films are kept.
        store: Where rows go.
        progress: What is told of them.
        order: Keys of the run's cases, in the suite's order.
        policy: The arm's name.
        labels: Further JSON values of every row.
        versions: Of what else decides the result.
    """

    def __init__(
        self,
        suite: Suite,
        driver: Driver,
        config: EngineConfig,
        store: Store,
        progress: Progress,
        order: Sequence[str],
        policy: str,
        labels: Mapping[str, Any],
        versions: Mapping[str, str],
    ) -> None:
        self._suite, self._driver, self._config = suite, driver, config
        self._store, self._progress, self._order = store, progress, order
        self._policy, self._labels, self._versions = policy, labels, versions
        self._films = Counter((row.suite, row.task, row.success_any) for row in store.rows.values() if row.video)
        self._facts: dict[str, str] | None = None
        self._rows: RowMaker | None = None
        self._written_at = time.monotonic()

    def meet(self, facts: Mapping[str, str]) -> None:
        """Hear what a simulator that started says of itself: the same for all processes of a run and all its rows."""
        facts = {str(name): str(value) for name, value in facts.items()}
        if self._facts is not None and facts != self._facts:
            raise ValueError(f"{self._suite.name}: simulators of one run differ: {self._facts} and {facts}")
        if self._facts is None:
            self._compare_with_earlier(facts)
        self._facts = facts
        versions = (
            own_versions() | dict(self._versions) | {name: value for name, value in facts.items() if name != "assets"}
        )
        self._rows = RowMaker(
            suite=self._suite,
            driver=self._driver,
            policy=self._policy,
            policy_seed=self._config.policy_seed,
            labels=self._labels,
            versions=versions,
            assets=facts.get("assets", "own"),
        )

    def _compare_with_earlier(self, facts: dict[str, str]) -> None:
        for row in self._store.rows.values():
            earlier = {**row.versions, "assets": row.assets}
            for name, value in facts.items():
                if earlier.get(name) != value:
                    raise ValueError(
                        f"out_dir: the episodes in {self._store.folder} were played with {name} {earlier.get(name)}, "
                        f"now it is {value}; name another folder"
                    )

    def wants_film(self, course: Course) -> bool:
        """Whether there are too few films yet of this task's episodes that ended as this one did."""
        outcome = (course.case.suite, course.case.task, course.last.ever)
        wanted = self._films[outcome] < self._config.videos
        self._films[outcome] += wanted
        return wanted

    def finish(self, course: Course, film: Film | None = None) -> None:
        """An episode that was played."""
        name = None
        if film is not None:
            name = film_name(course.case.key, course.last.ever)
            write_film(self._store.folder / name, film.frames, film.fps)
        self._add(course, video=name)

    def give_up(self, course: Course, reason: str) -> None:
        """An episode that could not be played."""
        self._add(course, error=reason)

    def _add(self, course: Course, **more: Any) -> None:
        assert self._rows is not None  # a simulator says what it is before anything else
        row = self._rows.row(course, **more)
        self._store.add(row)
        self._progress.add([row])
        if time.monotonic() - self._written_at > _SECONDS_BETWEEN_WRITES:
            self._store.write_results(self._order)
            self._written_at = time.monotonic()
