"""Episodes an hour and core through the engine, beside the bare simulator: `python benchmarks/rollouts.py metaworld`.

Both play the same cases with the same actions (`HoldDriver`: no policy's time is in it), show the same pictures before
every chunk and stop by the same rule, on one core. Bare is one process that makes the suite's simulator and steps it in
a loop; the engine adds its socket, its own process, rows and their way to disk. They take turns, bare first; each
round starts both anew, and what starting costs (imports, making the simulator) is measured in the bare one and taken
off both. Rates are those of processor time, which a busy machine leaves alone; wall time is beside them.

Results go to benchmarks/results/rollouts_SUITE.json.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

RESULTS = Path(__file__).parent / "results"
BARE = "--bare"

if TYPE_CHECKING:
    from eval.suite import Suite


def main() -> None:
    """Measure one suite and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", nargs="?", default="metaworld", choices=sorted(SUITES))
    parser.add_argument("--episodes", type=int, default=4, help="of each task; default 4")
    parser.add_argument("--rounds", type=int, default=3, help="of both; default 3")
    parser.add_argument("--out", type=Path, help="default benchmarks/results/rollouts_SUITE.json")
    options = parser.parse_args()
    suite = SUITES[options.suite](options.episodes)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # children inherit it
    rounds = [{"bare": bare(suite), "engine": engine(suite)} for _ in range(options.rounds)]
    figures = summary(suite, rounds)
    out = options.out or RESULTS / f"rollouts_{options.suite}.json"
    out.write_text(json.dumps(figures, indent=1) + "\n")
    bare_rate, rate = figures["bare_episodes_per_hour"], figures["engine_episodes_per_hour"]
    print(f"{suite.name}: bare {bare_rate:,.0f} episodes/hour/core, engine {rate:,.0f}")
    overhead, share = 100 * figures["overhead"], 100 * figures["engine_process_share"]
    print(f"overhead {overhead:.1f} % of processor time (median), the engine's own process {share:.1f} %")


def _metaworld(episodes: int) -> "Suite":
    from eval.metaworld.suite import MetaWorldSuite

    tasks = ("drawer-open-v3", "door-open-v3", "faucet-open-v3", "coffee-button-v3", "drawer-close-v3")
    return MetaWorldSuite(tasks, episodes=episodes, cameras=("corner",))


def _libero(episodes: int) -> "Suite":
    from eval.libero.suite import LiberoSuite

    return LiberoSuite("libero_spatial", tasks=(0,), trials=episodes)


def _simpler(episodes: int) -> "Suite":
    from eval.simpler.suite import SimplerSuite

    return SimplerSuite("widowx", tasks=("put_spoon_on_towel",), starts=episodes, shader="rasteriser")


SUITES: "dict[str, Callable[[int], Suite]]" = {"metaworld": _metaworld, "libero": _libero, "simpler": _simpler}


def bare(suite: "Suite") -> dict[str, Any]:
    """One process, one loop; its own account of processor and wall seconds."""
    from eval.engine.drivers import HoldDriver
    from eval.engine.process import ModuleFolder

    hold, modules, python = HoldDriver(), ModuleFolder(suite.simulator), suite.python()
    hold.begin(suite)
    job = {
        "simulator": suite.simulator,
        "options": dict(suite.options),
        "past_success": suite.past_success,
        "execute": suite.execute,
        "action": hold.plan([None])[0][0].tolist(),  # type: ignore[list-item]
        "cases": [asdict(case) for case in suite.cases()],
    }
    environment = {**os.environ, "PYTHONPATH": str(modules.path), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [str(python), __file__, BARE], input=json.dumps(job), env=environment, text=True, capture_output=True
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout.splitlines()[-1])
    finally:
        modules.close()


def bare_loop(job: dict[str, Any]) -> dict[str, Any]:
    """What runs in the simulator's own Python: no part of the engine."""
    import importlib

    import numpy as np

    from eval.suite import Case

    module, _, name = job["simulator"].partition(":")
    simulator = getattr(importlib.import_module(module), name)(**job["options"])
    action, steps = np.array(job["action"], np.float32), 0
    began, began_cpu = time.perf_counter(), time.process_time()
    for fields in job["cases"]:
        case = Case(**fields)
        episode, taken, past = simulator.episode(case), 0, None
        while taken < case.max_steps and (past is None or job["past_success"] is None or past < job["past_success"]):
            if taken % job["execute"] == 0:
                episode.view()
            _, ever = episode.step(action)
            past = past + 1 if past is not None else (0 if ever else None)
            taken += 1
        steps += taken
    return {
        "episodes": len(job["cases"]),
        "steps": steps,
        "start_cpu_s": began_cpu,
        "cpu_s": time.process_time() - began_cpu,
        "wall_s": time.perf_counter() - began,
    }


def engine(suite: "Suite") -> dict[str, Any]:
    """The same through `evaluate`: this process's seconds and the simulator's together, its start included."""
    from eval.engine.config import EngineConfig
    from eval.engine.drivers import HoldDriver
    from eval.engine.engine import evaluate

    with tempfile.TemporaryDirectory() as folder:
        began, own, children = time.perf_counter(), _cpu(resource.RUSAGE_SELF), _cpu(resource.RUSAGE_CHILDREN)
        rows = evaluate(suite, HoldDriver(), EngineConfig(videos=0), Path(folder), "hold")
        wall = time.perf_counter() - began
    return {
        "episodes": len(rows),
        "steps": sum(row.steps for row in rows),
        "own_cpu_s": _cpu(resource.RUSAGE_SELF) - own,
        "simulator_cpu_s": _cpu(resource.RUSAGE_CHILDREN) - children,
        "wall_s": wall,
    }


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def summary(suite: "Suite", rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, each round's overhead from that round's two measurements."""
    for one in rounds:
        if one["bare"]["steps"] != one["engine"]["steps"]:
            raise RuntimeError(f"bare took {one['bare']['steps']} steps, the engine {one['engine']['steps']}")
        played = one["engine"]["own_cpu_s"] + one["engine"]["simulator_cpu_s"] - one["bare"]["start_cpu_s"]
        one["engine"]["cpu_s"], one["overhead"] = played, played / one["bare"]["cpu_s"] - 1

    def per_hour(which: str) -> float:
        return round(median(3600 * one[which]["episodes"] / one[which]["cpu_s"] for one in rounds), 1)

    return {
        "suite": suite.name,
        "protocol": dict(suite.protocol),
        "bare_episodes_per_hour": per_hour("bare"),
        "engine_episodes_per_hour": per_hour("engine"),
        "overhead": round(median(one["overhead"] for one in rounds), 4),
        # What the engine's own process used: the part of the overhead that the machine's other work does not blur.
        "engine_process_share": round(median(one["engine"]["own_cpu_s"] / one["bare"]["cpu_s"] for one in rounds), 4),
        "load_average": os.getloadavg()[0],
        "processor": platform.processor() or platform.machine(),
        "rounds": rounds,
    }


if __name__ == "__main__":
    if BARE in sys.argv:
        sys.path.pop(0)  # the folder of this script: its neighbours are no modules of the simulator's
        print(json.dumps(bare_loop(json.load(sys.stdin))))
    else:
        main()
