"""Our rollout engine beside the public evaluation harness's loop: what one more LIBERO episode costs in each.

Both play the same task from the same initial states, one simulator process, 256 x 256 pictures of two cameras, and ask
a policy that costs nothing after every fifth action; the harness asks our server, in its no-docker mode, with what it
records by default. An episode's cost is the difference between a run of few and a run of more, so that imports and
compiling are in neither. CPU seconds of all processes involved, and wall time; rounds alternate.

    VLA_HARNESS_PYTHON=/path/to/python python benchmarks/peers/harness_loop.py --out harness_loop.json

That Python has LIBERO as `vla setup libero` installs it, and torch and vla-eval beside it.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from data_mixtures.spaces.embodiments import LIBERO_COMMANDS
from eval.engine.config import EngineConfig
from eval.engine.drivers import NO_WEIGHTS, PolicyDriver
from eval.engine.engine import evaluate
from eval.environments import simulators_folder
from eval.libero.assets import assets_folder
from eval.libero.suite import LiberoSuite
from vla.policy import Committed, Observation
from vla.serve.observations import Keys, Sizes
from vla.serve.server import PolicyServer, ServerConfig
from vla.serve.vla_eval import EpisodeRules, VlaEvalConversation

ROOT = Path(__file__).parents[2]
CAMERAS = ("image", "wrist_image")


class Nothing:
    """Holds still with open fingers; it is shown everything and looks at nothing."""

    cameras, horizon, state_dim, action_dim = CAMERAS, 5, 8, 7

    def __init__(self) -> None:
        self.asked = 0
        self.first: Observation | None = None

    def act_many(
        self,
        observations: Sequence[Observation],
        seeds: Sequence[int],
        committed: Sequence[Committed | None] | None = None,
    ) -> np.ndarray:
        """Zeros, and the gripper's -1: float32 [n, 5, 7]."""
        assert all(observation.images.keys() == set(CAMERAS) for observation in observations)
        self.first = self.first or observations[0]
        self.asked += len(observations)
        chunks = np.zeros((len(seeds), self.horizon, self.action_dim), np.float32)
        chunks[..., 6] = -1.0
        return chunks


@contextmanager
def serving(policy: Nothing) -> Iterator[int]:
    """Our server of the harness's protocol in a thread of this process: its port."""
    sizes = Sizes(CAMERAS, policy.state_dim, policy.action_dim, policy.horizon)
    conversation = VlaEvalConversation(sizes, Keys(), EpisodeRules(benchmark="libero"), LIBERO_COMMANDS)
    ports: list[int] = []
    loop, stop, up = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    server = PolicyServer(policy, conversation, ServerConfig(port=0, keepalive_s=900.0))

    def ready(_: str, port: int) -> None:
        ports.append(port)
        up.set()

    thread = threading.Thread(target=lambda: loop.run_until_complete(server.run(stop, ready)))
    thread.start()
    up.wait(30)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def engine(episodes: int, steps: int, policy: Nothing) -> None:
    """Our engine, one process."""
    suite = LiberoSuite("libero_spatial", tasks=(0,), trials=episodes, max_steps=steps)
    with tempfile.TemporaryDirectory() as folder:
        driver = PolicyDriver(policy, NO_WEIGHTS)
        rows = evaluate(suite, driver, EngineConfig(videos=0, timeout_s=600.0), Path(folder), policy="nothing")
    assert [row.steps for row in rows] == [steps] * episodes


def harness(episodes: int, steps: int, policy: Nothing) -> None:
    """The harness's `run --no-docker`."""
    with serving(policy) as port, tempfile.TemporaryDirectory() as folder:
        for package in ("data_mixtures", "eval", "vla"):
            (Path(folder) / package).symlink_to(ROOT / package)
        (Path(folder) / "harness_libero.py").symlink_to(ROOT / "benchmarks/peers/harness_libero.py")
        entry: dict[str, Any] = {"benchmark": "harness_libero:LIBEROBenchmark", "episodes_per_task": episodes}
        entry |= {"max_tasks": 1, "max_steps": steps, "params": {"suite": "libero_spatial", "seed": 7}}
        recipe = {"server": {"url": f"ws://127.0.0.1:{port}", "timeout": 600}, "benchmarks": [entry]}
        path = Path(folder) / "recipe.yaml"
        path.write_text(json.dumps({**recipe, "output_dir": f"{folder}/results"}))
        command = [os.environ["VLA_HARNESS_PYTHON"], "-m", "vla_eval.cli.main", "run", "--no-docker", "-c", str(path)]
        assets = str(assets_folder(simulators_folder()))
        environment = {**os.environ, "PYTHONPATH": folder, "VLA_LIBERO_ASSETS": assets}
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])


def measured(play: Any, episodes: int, steps: int) -> tuple[float, float, Observation]:
    """Wall and CPU seconds of a run, all its processes counted, and what was seen first."""
    policy = Nothing()
    wall, cpu = time.perf_counter(), _cpu()
    play(episodes, steps, policy)
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    assert policy.asked == episodes * -(-steps // 5), policy.asked
    assert policy.first is not None
    return wall, cpu, policy.first


def differences(one: Observation, other: Observation) -> dict[str, float]:
    """How far apart two first observations are: the share of pixels that differ, and the largest state difference."""
    assert one.instruction == other.instruction
    shares = {f"pixels_{c}": float((one.images[c] != other.images[c]).any(-1).mean()) for c in CAMERAS}
    return {**shares, "state": float(np.abs(one.state - other.state).max())}


def _cpu() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in spent)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--few", type=int, default=1, help="episodes of the shorter run")
    parser.add_argument("--more", type=int, default=4, help="and of the longer")
    parser.add_argument("--steps", type=int, default=220, help="actions of an episode")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if "VLA_HARNESS_PYTHON" not in os.environ:
        raise SystemExit(__doc__)
    found: dict[str, list[dict[str, float]]] = {"engine": [], "harness": []}
    first: dict[str, Observation] = {}
    for _ in range(options.rounds):
        for name, play in (("engine", engine), ("harness", harness)):
            few = measured(play, options.few, options.steps)
            more = measured(play, options.more, options.steps)
            more_episodes = options.more - options.few
            wall, cpu = (more[0] - few[0]) / more_episodes, (more[1] - few[1]) / more_episodes
            first[name] = few[2]
            found[name].append(
                {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "start_cpu_s": round(few[1] - cpu * options.few, 1)}
            )
            print(name, found[name][-1], file=sys.stderr)
    ratios = [theirs["cpu_s"] / ours["cpu_s"] for ours, theirs in zip(found["engine"], found["harness"], strict=True)]
    median = round(statistics.median(ratios), 2)
    result = {
        "suite": "libero_spatial task 0",
        "steps": options.steps,
        "versions": {"vla-eval": version("vla-eval"), "vla": version("vla")},
        **found,
        "first_observations_differ": differences(first["engine"], first["harness"]),
        "harness_over_engine_cpu": {
            "median": median,
            "all": [round(r, 2) for r in ratios],
        },
    }
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
