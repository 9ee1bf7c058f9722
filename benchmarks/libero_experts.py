"""How often LIBERO's scripted experts succeed: `python benchmarks/libero_experts.py`, about an hour of processor time.

Every task of the four suites, from LIBERO's fixed initial states 0, 1, ..., without noise and without pictures: at the
first try, and with up to five grasps tried first in turn, each from the same initial state. Results go to
benchmarks/results/libero_experts.json and .md; tasks that are there already are left alone, so that it can be
interrupted (delete the files to measure anew).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
INSIDE = "--inside"
SUITES = {"libero_object": 280, "libero_spatial": 220, "libero_goal": 300, "libero_10": 520}
SEED = 7


def main() -> None:
    """Play what is missing and write both files after each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=10, help="initial states of each task; default 10")
    parser.add_argument("--out", type=Path, default=RESULTS / "libero_experts.json")
    options = parser.parse_args()
    from eval.libero.tasks import TASKS

    measured = json.loads(options.out.read_text()) if options.out.exists() else {}
    for suite in SUITES:
        for number, task in enumerate(TASKS[suite]):
            name = f"{suite}/{task}"
            if measured.get(name, {}).get("states") != options.states:
                measured[name] = _task(suite, task, options.states)
                options.out.write_text(json.dumps(measured, indent=1) + "\n")
                options.out.with_suffix(".md").write_text(_table(measured))
                print(number, name, measured[name], flush=True)


def _task(suite: str, task: str, states: int) -> dict[str, Any]:
    from eval.environments import own_packages
    from eval.gl_backend import select_gl_backend
    from eval.libero.install import LIBERO

    select_gl_backend()
    with own_packages() as packages:
        variables = {**os.environ, **LIBERO.variables(), "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"}
        command = [str(LIBERO.python), __file__, INSIDE, suite, task, str(states)]
        done = subprocess.run(command, env=variables, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _inside(suite: str, task: str, states: int) -> None:
    """In LIBERO's own Python: play one task."""
    from eval.libero.experts.grasps import NUM_VARIANTS
    from eval.libero.task import Task
    from eval.libero.upstream import load_upstream

    compiled = Task(load_upstream(Path(os.environ["VLA_LIBERO_ASSETS"])), suite, task)
    began, first, any_grasp, steps = time.process_time(), 0, 0, []
    for init in range(states):
        for grasp in range(NUM_VARIANTS):
            if taken := _play(compiled, init, grasp, SUITES[suite]):
                first += grasp == 0
                any_grasp += 1
                steps.append(taken)
                break
    mean = round(sum(steps) / len(steps)) if steps else None
    seconds = round((time.process_time() - began) / states, 1)
    found = {"states": states, "first_try": first, "five_grasps": any_grasp, "steps": mean, "cpu_s_a_state": seconds}
    print("\n" + json.dumps(found))


def _play(compiled: Any, init: int, grasp: int, max_steps: int) -> int:
    """Steps to the first success; 0 for none."""
    from eval.libero.experts.expert import Expert
    from eval.libero.experts.scene import Scene
    from eval.libero.task import SETTLING_ACTION

    compiled.start(init, SEED, init)
    for _ in range(10):
        compiled.step(SETTLING_ACTION)
    expert = Expert(Scene(compiled.env), grasp)
    for step in range(max_steps):
        try:
            compiled.step(expert.action())
        except NotImplementedError:
            return 0
        if compiled.success():
            return step + 1
    return 0


def _table(measured: dict[str, Any]) -> str:
    lines = ["# LIBERO's scripted experts", "", "`python benchmarks/libero_experts.py`: successes from LIBERO's own"]
    lines += ["initial states, at the first try and with up to five grasps, mean steps of the successes.", ""]
    lines += ["| task | states | first try | five grasps | steps |", "|---|---|---|---|---|"]
    for name, found in measured.items():
        row = [name, found["states"], found["first_try"], found["five_grasps"], found["steps"] or "-"]
        lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if INSIDE in sys.argv:
        _inside(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
