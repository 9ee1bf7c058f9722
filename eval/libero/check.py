"""Tries LIBERO's environment out: one task compiled, settled and drawn; prints what it found as JSON.

Run by `vla setup libero` with LIBERO's own Python. It also leaves robosuite's compiled functions in their cache, which
takes the first process half a minute.
"""

import json
import os
import sys
from pathlib import Path

from eval.libero.assets import ASSETS_VARIABLE, assets_kind
from eval.libero.upstream import load_upstream, versions

_TASK = ("libero_spatial", "pick_up_the_black_bowl_on_the_ramekin_and_place_it_on_the_plate")


def main() -> None:
    """Print what was found; an exception's last words say what is wrong."""
    assets = Path(os.environ[ASSETS_VARIABLE])
    upstream = load_upstream(assets)
    # They import mujoco, which reads once, at its import, how it is to draw.
    from eval.libero.drawing import CAMERAS, Renderer
    from eval.libero.task import SETTLING_ACTION, Task

    task = Task(upstream, *_TASK)
    task.start(init=0, seed=7, resets=0)
    for _ in range(10):
        task.step(SETTLING_ACTION)
    renderer = Renderer(task.model)
    brightness = {camera: renderer.draw(task.seen.snapshot, camera, 256).mean() for camera in CAMERAS}
    renderer.close()
    if dark := [name for name, mean in brightness.items() if mean < 1]:
        raise RuntimeError(
            f"the cameras {dark} see nothing: MuJoCo draws black with MUJOCO_GL={os.environ['MUJOCO_GL']}"
        )
    found = {**versions(), "assets": assets_kind(assets), "python": sys.version.split()[0]}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
