"""The rollout engine: the cases of a suite, played in simulators' own processes, answered by one driver.

    simulators (a process each, `slots` episodes in each)            this process
       reset, step ──► view ─┐
       reset, step ──► view ─┼─► one batch ──► driver.plan ──► a chunk for each ──► step
       reset, step ──► view ─┘
       over ──► film ──► row, on disk before it counts

A simulator that hangs or dies is killed and started again, and its episodes begin anew: an episode has one row,
written once, whatever happened on the way. A killed run goes on with the cases that have no row.
"""

import queue
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.engine.config import EngineConfig
from eval.engine.drivers import Driver
from eval.engine.process import ModuleFolder, SimulatorProcess
from eval.engine.progress import Progress
from eval.engine.recorder import Recorder
from eval.engine.run import Run, Slot
from eval.engine.store import Store
from eval.engine.workers import Report, Worker
from eval.results.row import EpisodeRow
from eval.suite import Case, Suite

# Steps a draw's seed leaves room for; no protocol is longer.
_STEPS_PER_SEED = 1000
_SEEDS_PER_RUN = 1_000_000_000


def evaluate(
    suite: Suite,
    driver: Driver,
    config: EngineConfig,
    out_dir: Path,
    policy: str,
    labels: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
) -> list[EpisodeRow]:
    """Play every case of a suite that has no row yet.

    Args:
        suite: What is played.
        driver: What acts.
        config: How it is carried out.
        out_dir: Gets protocol.json, episodes.jsonl, results.parquet, videos/ and the simulators' logs. One driver and
            one protocol a folder.
        policy: The arm's name, a column of every row.
        labels: Further JSON values of every row (train_seed, demos, ...).
        versions: Of what else decides the result, beside the simulator's and this process's packages.

    Returns:
        The rows of this shard's cases, in the suite's order.

    Raises:
        ValueError: the driver cannot act in this suite, a simulator cannot be set up, or `out_dir` is another run's.
        RuntimeError: some episodes could not be played (the others have their rows, and the same call tries these
            again), or simulators do not start.
    """
    everyone = suite.cases()
    _check(everyone)
    slots = _slots_each(suite, config)
    store = Store(Path(out_dir), _maker(suite, driver, config, policy, labels or {}))
    order = [case.key for case in config.share(everyone)]
    if todo := [case for case in config.share(everyone) if case.key not in store.rows]:
        try:
            driver.begin(suite)
            with Progress(suite.name, len(order)) as progress:
                progress.add(store.rows[key] for key in order if key in store.rows)
                recorder = Recorder(suite, driver, config, store, progress, order, policy, labels or {}, versions or {})
                run = Run(driver, config, recorder, progress, draw_seeds(everyone, config.policy_seed))
                _play(run, todo, suite, config, slots, store.folder)
        finally:
            driver.end()
    store.write_results(order)
    return _whole([store.rows[key] for key in order])


def _maker(
    suite: Suite, driver: Driver, config: EngineConfig, policy: str, labels: Mapping[str, Any]
) -> dict[str, Any]:
    """What decides the results; a folder holds those of one."""
    return {
        "suite": suite.name,
        "protocol": dict(suite.protocol),
        "driver": driver.name,
        "policy": policy,
        "checkpoint": driver.checkpoint,
        "policy_seed": config.policy_seed,
        "labels": dict(labels),
    }


def _check(cases: Sequence[Case]) -> None:
    if not cases:
        raise ValueError("cases: the suite has none; name at least one task and one initial state")
    if twice := [key for key, count in Counter(case.key for case in cases).items() if count > 1]:
        raise ValueError(f"cases: {twice[0]} is there twice; an episode is known by suite, task, setting and init")
    for case in cases:
        if not 0 < case.max_steps <= _STEPS_PER_SEED:
            raise ValueError(f"max_steps: {case.max_steps} of {case.key} must lie in 1 to {_STEPS_PER_SEED}")


def _slots_each(suite: Suite, config: EngineConfig) -> int:
    if config.slots is not None and config.slots > suite.max_slots:
        raise ValueError(
            f"slots: {config.slots} is more than one simulator of {suite.name} holds, {suite.max_slots}; lower it, or "
            "raise processes"
        )
    return config.slots or suite.max_slots


def draw_seeds(cases: Sequence[Case], policy_seed: int) -> dict[str, int]:
    """Where each case's draws begin, by its key; the draws at a step follow from this plus the step.

    It is the simulator's seed, moved on by how many earlier cases of the same task and setting share that: protocols
    that seed every episode alike would otherwise draw the same noise in all of them.
    """
    met: Counter[tuple[str, str, str, int]] = Counter()
    begins: dict[str, int] = {}
    for case in cases:
        alike = (case.suite, case.task, case.setting, case.seed)
        begins[case.key] = (policy_seed * _SEEDS_PER_RUN + case.seed + met[alike]) * _STEPS_PER_SEED
        met[alike] += 1
    return begins


def _play(run: Run, todo: Sequence[Case], suite: Suite, config: EngineConfig, slots: int, folder: Path) -> None:
    """With the processes a run needs, which end with it."""
    python, modules = suite.python(), ModuleFolder(suite.simulator)
    reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
    workers: list[Worker] = []
    try:
        for index in range(min(config.processes, len(todo))):
            log = folder / f"simulator-{index}.log"
            log.unlink(missing_ok=True)
            process = SimulatorProcess(suite, python, modules.path, log, config.timeout_s)
            workers.append(Worker(index, process, reports))
            workers[-1].start()
        # Round the processes first: few cases are then spread over all of them.
        run.play(todo, [Slot(worker, index) for index in range(slots) for worker in workers], reports)
        for worker in workers:
            worker.stop()
    except BaseException:
        for worker in workers:
            worker.kill()
        raise
    finally:
        for worker in workers:
            worker.join()
        modules.close()


def _whole(rows: list[EpisodeRow]) -> list[EpisodeRow]:
    if unplayed := [row for row in rows if row.error is not None]:
        raise RuntimeError(
            f"{len(unplayed)} of {len(rows)} episodes could not be played, the first {unplayed[0].case}: "
            f"{unplayed[0].error}. The same command tries them again"
        )
    return rows
