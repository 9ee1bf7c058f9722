"""Where the time of a LIBERO episode goes, as LIBERO runs it and as we do: `python benchmarks/libero_costs.py`.

LIBERO's own environment, stepped as openpi's, OpenVLA's and LeRobot's loops step it (a hard reset an episode, two
pictures of 256 pixels a side at every step), beside eval/libero on the same courses of random actions. Milliseconds of
processor time, all threads of the process together, medians; both in one process after another, so that a busy machine
is busy for both. Results go to benchmarks/results/libero_costs.json.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
INSIDE = "--inside"
TASKS = (("libero_spatial", 0), ("libero_object", 0), ("libero_goal", 0), ("libero_10", 2))


def main() -> None:
    """Measure each task and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="of a course; default 20")
    parser.add_argument("--out", type=Path, default=RESULTS / "libero_costs.json")
    options = parser.parse_args()
    measured = {f"{suite}/{number}": _task(suite, number, options.steps) for suite, number in TASKS}
    figures = {"tasks": measured, "load_average": os.getloadavg()[0], "cores": os.cpu_count()}
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    for name, ms in measured.items():
        print(name, ", ".join(f"{what} {value:,.1f}" for what, value in ms.items()))


def _task(suite: str, number: int, steps: int) -> dict[str, float]:
    """Both ways in processes of their own: robosuite draws into whatever OpenGL context is current."""
    from eval.environments import own_packages
    from eval.libero.install import LIBERO

    found: dict[str, float] = {}
    for way in ("upstream", "ours"):
        with own_packages() as packages:
            variables = {**os.environ, **LIBERO.variables(), "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"}
            command = [str(LIBERO.python), __file__, INSIDE, way, suite, str(number), str(steps)]
            done = subprocess.run(command, env=variables, text=True, capture_output=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        found |= json.loads(done.stdout.splitlines()[-1])
    step = found["ours_step_ms"] + (found["ours_image_ms"] + found["ours_wrist_image_ms"]) / 5
    return {**found, "ours_step_and_fifth_of_two_pictures_ms": step, "ratio": found["upstream_step_ms"] / step}


def _milliseconds(work: Callable[[], Any]) -> float:
    began = _cpu()
    work()
    return 1000 * (_cpu() - began)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _upstream(suite: str, task: str, steps: int) -> dict[str, float]:
    import numpy as np

    from eval.libero.upstream import load_upstream

    upstream = load_upstream(Path(os.environ["VLA_LIBERO_ASSETS"]))
    from libero.libero.envs import OffScreenRenderEnv  # type: ignore[import-not-found]

    path = upstream.bddl / suite / f"{task}.bddl"
    env: Any = OffScreenRenderEnv(bddl_file_name=str(path), camera_heights=256, camera_widths=256)
    reset = median(_milliseconds(env.reset) for _ in range(2))
    rng = np.random.default_rng(0)
    env.step(rng.uniform(-1, 1, 7))  # compiles
    step = median(_milliseconds(lambda: env.step(rng.uniform(-1, 1, 7))) for _ in range(steps))
    return {"upstream_reset_ms": reset, "upstream_step_ms": step}


def _ours(suite: str, task: str, steps: int) -> dict[str, float]:
    import numpy as np

    from eval.libero.simulator import LiberoSimulator
    from eval.suite import Case

    simulator = LiberoSimulator(os.environ["VLA_LIBERO_ASSETS"], 256, 0, "-1 opens, +1 closes")
    case = Case(suite, task, 0, 7, 300, options={"resets": 0})
    began = time.process_time()
    episode = simulator.episode(case)
    found = {"ours_compile_ms": 1000 * (time.process_time() - began)}
    found["ours_reset_ms"] = median(_milliseconds(lambda: simulator.episode(case)) for _ in range(3))
    episode, rng = simulator.episode(case), np.random.default_rng(0)
    episode.step(rng.uniform(-1, 1, 7).astype(np.float32))
    episode.view()
    spent: dict[str, list[float]] = {"step": [], "image": [], "wrist_image": [], "image_all": [], "wrist_image_all": []}
    for _ in range(steps):
        spent["step"].append(_milliseconds(lambda: episode.step(rng.uniform(-1, 1, 7).astype(np.float32))))
        for camera in ("image", "wrist_image"):
            for name, cull in ((camera, True), (f"{camera}_all", False)):
                episode.renderer.cull = cull
                draw = lambda: episode.renderer.draw(episode.task.seen.snapshot, camera, 256)  # noqa: B023, E731
                spent[name].append(_milliseconds(draw))
    return found | {f"ours_{name}_ms": median(values) for name, values in spent.items()}


if __name__ == "__main__":
    if INSIDE in sys.argv:
        sys.path.pop(0)  # the folder of this script: its neighbours are no modules of LIBERO's
        from eval.libero.tasks import TASKS as NAMES

        way, suite, number, steps = sys.argv[2:]
        measure = {"upstream": _upstream, "ours": _ours}[way]
        print(json.dumps(measure(suite, NAMES[suite][int(number)], int(steps))))
    else:
        main()
