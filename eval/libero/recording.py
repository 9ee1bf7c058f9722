"""Recording LIBERO demonstrations as a LeRobot v3.0 data set.

    this process: what is missing, merging          LIBERO's own Python, `workers` times: eval.libero.demonstrator
      Job (a task, some episodes)   ── stdin ──►      simulate until a success, then draw it
      NNNNN.npz a finished episode  ◄── disk ──

Interrupted anywhere, the same call goes on with the missing episodes and ends with the same bytes of data.
"""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_mixtures.lerobot.layout import EXECUTED_COLUMN
from data_mixtures.lerobot.writer import LeRobotWriter
from data_mixtures.storage.whole_file import write_whole
from eval.environments import own_packages, python_of, simulators_folder
from eval.gl_backend import select_gl_backend
from eval.libero.assets import assets_folder, assets_kind
from eval.libero.install import LIBERO
from eval.libero.tasks import TASKS, instruction_of

ROBOT_TYPE = "libero_commands"
FPS = 20
CAMERAS = ("image", "wrist_image")

_STATE_NAMES = ("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "finger_1", "finger_2")
_ACTION_NAMES = ("delta_x", "delta_y", "delta_z", "delta_axis_x", "delta_axis_y", "delta_axis_z", "gripper")
NAMES = {"observation.state": _STATE_NAMES, "action": _ACTION_NAMES, EXECUTED_COLUMN: _ACTION_NAMES}

_LARGEST_IMAGE = 480
_MARKER = "recording.json"
_LAST_LINES = 6


@dataclass(frozen=True)
class LiberoRecordConfig:
    """What to record.

    Attributes:
        suite: From eval/libero/tasks.py: libero_spatial, libero_object, libero_goal, libero_10.
        tasks: Names in the suite; none means all of them.
        episodes: Successful ones of each task.
        image_size: Pixels a side, even; drawn at this size, as an evaluation with the same size draws them.
        seed: Data sets with different seeds share no placement.
        waypoint_jitter_m: Standard deviation (m) of way points, each axis; none on moves that touch things.
        noise: Standard deviation of what is added to the first six commands (of 1) when they are carried out, held for
            4 steps, less in moves that must be exact. It is in `action_executed` but not in `action`.
        past_success: Steps recorded after the first success; the expert may be done sooner.
        max_steps: An expert that needs longer is taken for failed, and its objects are placed anew.
        workers: Processes.
    """

    suite: str = "libero_object"
    tasks: tuple[str, ...] = ()
    episodes: int = 50
    image_size: int = 256
    seed: int = 0
    waypoint_jitter_m: float = 0.01
    noise: float = 0.15
    past_success: int = 8
    max_steps: int = 300
    workers: int = 2

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return self.tasks or TASKS[self.suite]


Report = Callable[[str, int, int], None]
"""Called with (task, episodes of it that are there, episodes of all tasks that are there)."""


def record_libero(config: LiberoRecordConfig, root: Path, report: Report) -> Path:
    """Record the data set `config` describes into `root`, or finish doing so, or return at once if it is there.

    Args:
        config: What to record.
        root: The data set's folder; `<root>.parts` beside it holds unfinished work and is removed at the end.
        report: Hears of progress.

    Returns:
        `root`.

    Raises:
        ValueError: the configuration is impossible, `root` holds something else, or LIBERO is not set up.
        RuntimeError: a worker failed; its last words.
    """
    _validate(config)
    root = Path(root)
    marker = root / "meta" / _MARKER
    if root.exists():
        if _recorded(marker) != _fingerprint(config):
            raise ValueError(
                f"root: {root} exists and was not recorded from this configuration; name another or delete it"
            )
        shutil.rmtree(_parts_of(root), ignore_errors=True)
        return root
    parts, made_with = _open_parts(root, config)
    _make_missing(config, parts, report)
    _merge(config, root, parts, made_with)
    shutil.rmtree(parts, ignore_errors=True)
    return root


def _validate(config: LiberoRecordConfig) -> None:
    if config.suite not in TASKS:
        raise ValueError(f"suite: {config.suite!r} is not LIBERO's; choose from {sorted(TASKS)}")
    if unknown := [task for task in config.tasks if task not in TASKS[config.suite]]:
        raise ValueError(f"tasks: {config.suite} has no {unknown}; choose from {list(TASKS[config.suite])}")
    if len(set(config.tasks)) != len(config.tasks):
        raise ValueError(f"tasks: {list(config.tasks)} names a task twice")
    if not 0 < config.episodes <= 10_000:
        raise ValueError(f"episodes: {config.episodes} must be 1 to 10000")
    if not 16 <= config.image_size <= _LARGEST_IMAGE or config.image_size % 2:
        raise ValueError(f"image_size: {config.image_size} must be even (H.264 needs it), 16 to {_LARGEST_IMAGE}")
    if not 0 <= config.seed < 4000:
        raise ValueError(f"seed: {config.seed} must be 0 to 3999")
    for field in ("waypoint_jitter_m", "noise"):
        if getattr(config, field) < 0:
            raise ValueError(f"{field}: {getattr(config, field)} must be 0 or more")
    if config.past_success < 1 or config.max_steps < 1 or config.workers < 1:
        raise ValueError("past_success, max_steps and workers must each be 1 or more")


def _fingerprint(config: LiberoRecordConfig) -> dict[str, Any]:
    # The number of processes changes no byte of the result.
    fields = {key: value for key, value in asdict(config).items() if key != "workers"}
    return {**fields, "tasks": list(config.names)}


def _recorded(marker: Path) -> dict[str, Any] | None:
    return json.loads(marker.read_text())["config"] if marker.exists() else None


def _parts_of(root: Path) -> Path:
    return root.with_name(root.name + ".parts")


def _open_parts(root: Path, config: LiberoRecordConfig) -> tuple[Path, dict[str, Any]]:
    """The folder of finished episodes, emptied where it belongs to another configuration or other assets."""
    parts = _parts_of(root)
    made_with = {"config": _fingerprint(config), "assets": assets_kind(assets_folder(simulators_folder()))}
    marker = parts / _MARKER
    if not marker.exists() or json.loads(marker.read_text()) != made_with:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        write_whole(marker, json.dumps(made_with, indent=1))
    for task in config.names:
        (parts / task).mkdir(exist_ok=True)
    return parts, made_with


def _path(parts: Path, task: str, episode: int) -> Path:
    return parts / task / f"{episode:05d}.npz"


def _make_missing(config: LiberoRecordConfig, parts: Path, report: Report) -> None:
    there = {task: len(list((parts / task).glob("*.npz"))) for task in config.names}
    jobs = _jobs(config, parts)
    if not jobs:
        return
    python = python_of(LIBERO)
    lock = threading.Lock()

    def one_more(task: str) -> None:
        with lock:
            there[task] += 1
            report(task, there[task], sum(there.values()))

    select_gl_backend()  # once, not in every worker
    with own_packages() as modules, _Workers(python, modules) as workers, ThreadPoolExecutor(config.workers) as pool:
        done = [pool.submit(workers.run, job, lambda task=job["task"]: one_more(task)) for job in jobs]
        try:
            for future in as_completed(done):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            workers.stop()
            raise


def _jobs(config: LiberoRecordConfig, parts: Path) -> list[dict[str, Any]]:
    """Missing episodes, each task's in as few processes as keep all workers busy: compiling a task takes seconds."""
    shares = -(-config.workers // len(config.names))
    settings = {"suite": config.suite, "seed": config.seed, "image_size": config.image_size, "noise": config.noise}
    settings |= {"waypoint_jitter_m": config.waypoint_jitter_m, "past_success": config.past_success}
    settings |= {"max_steps": config.max_steps, "assets": str(assets_folder(simulators_folder()))}
    missing = {task: [i for i in range(config.episodes) if not _path(parts, task, i).exists()] for task in config.names}
    return [
        {**settings, "task": task, "episodes": episodes[share::shares], "folder": str(parts / task)}
        for task, episodes in missing.items()
        for share in range(min(shares, len(episodes)))
    ]


class _Workers:
    """Processes in LIBERO's own Python; none outlives the `with` block, nor this process."""

    def __init__(self, python: Path, modules: Path) -> None:
        self._python = python
        self._environment = {**os.environ, **LIBERO.variables(), "PYTHONPATH": str(modules), "OMP_NUM_THREADS": "1"}
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, job: Mapping[str, Any], finished: Callable[[], None]) -> None:
        """Have one job done; `finished` is called after each of its episodes."""
        if self._stopped:
            return
        log = Path(job["folder"]) / f"worker_{job['episodes'][0]:05d}.log"
        with log.open("w") as words:
            process = subprocess.Popen(
                [str(self._python), "-m", "eval.libero.demonstrator"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                text=True,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is this process's to handle
            )
        self._running.add(process)
        try:
            for _ in self._said(process, job):
                finished()
        except BrokenPipeError:
            process.wait()  # it ended before it was told what to do; its last words are raised below
        finally:
            process.kill()
            process.wait()
            self._running.discard(process)
        if not self._stopped and process.returncode != 0:
            last = " | ".join(log.read_text().strip().splitlines()[-_LAST_LINES:])
            raise RuntimeError(f"recording {job['task']} failed (status {process.returncode}): {last}")
        log.unlink()

    def _said(self, process: "subprocess.Popen[str]", job: Mapping[str, Any]) -> Iterator[str]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()  # and left open: a worker ends when it closes
        for line in process.stdout:
            if line.startswith("{"):  # LIBERO prints warnings
                yield line
        process.wait()

    def stop(self) -> None:
        """End all of them at once."""
        self._stopped = True
        for process in list(self._running):
            process.kill()


def _merge(config: LiberoRecordConfig, root: Path, parts: Path, made_with: Mapping[str, Any]) -> None:
    size = (config.image_size, config.image_size)
    facts = _facts(parts, [_path(parts, task, i) for task in config.names for i in range(config.episodes)])
    writer = LeRobotWriter(
        root,
        fps=FPS,
        robot_type=ROBOT_TYPE,
        cameras=dict.fromkeys(CAMERAS, size),
        features={name: len(parts) for name, parts in NAMES.items()},
        names=NAMES,
    )
    for task in config.names:
        for episode in range(config.episodes):
            _add(writer, config.suite, task, _path(parts, task, episode))
    writer.finish({f"meta/{_MARKER}": json.dumps({**made_with, "versions": facts}, indent=1)})


def _facts(parts: Path, paths: Sequence[Path]) -> dict[str, str]:
    """Versions of what simulated and drew, the same in every part.

    Raises:
        ValueError: LIBERO's environment changed in between.
    """
    found = set[str]()
    for path in paths:
        with np.load(path, allow_pickle=False) as part:
            found.add(str(part["versions"]))
    if len(found) != 1:
        raise ValueError(f"episodes were made with different versions {sorted(found)}; delete {parts}, record again")
    return json.loads(found.pop())


def _add(writer: LeRobotWriter, suite: str, task: str, path: Path) -> None:
    with np.load(path, allow_pickle=False) as part:
        subtasks: Sequence[tuple[int, str]] = [(start, text) for start, text in json.loads(str(part["subtasks"]))]
        writer.add_episode(
            frames={camera: part[f"frames/{camera}"] for camera in CAMERAS},
            columns={"observation.state": part["state"], "action": part["action"], EXECUTED_COLUMN: part["executed"]},
            task=instruction_of(task),
            subtasks=subtasks,
            info={
                "environment": f"{suite}/{task}",
                "kind": "expert",
                "seed": int(part["seed"]),
                "failures": int(part["failures"]),
                "success": True,
                "option.scattered": True,  # a case of the suite begins so, seeded with `seed`
            },
        )
