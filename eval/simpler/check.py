"""Tries SIMPLER's environment out with its own Python: one WidowX scene built, stepped and drawn."""

import json
import subprocess
import sys

import numpy as np

from eval.simpler.renderer import HOW_TO_DRAW_ON_CPU
from eval.simpler.simulator import SimplerSimulator
from eval.simpler.suite import SimplerSuite

_PLAY = "play"


def main() -> None:
    """Print what was found as one line of JSON; fail with the reason."""
    suite = SimplerSuite("widowx", tasks=("put_carrot_on_plate",), starts=1)
    if sys.argv[1:] == [_PLAY]:
        _play(suite)
        return
    # In a process of its own: where no device draws, SAPIEN ends in a segmentation fault.
    command = [sys.executable, "-m", "eval.simpler.check", _PLAY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        advice = f"\n{HOW_TO_DRAW_ON_CPU}" if suite.options["renderer"] is None else f"\n{done.stderr.strip()[-2000:]}"
        sys.exit(f"no picture could be drawn here (status {done.returncode}): {words}{advice}")
    sys.stdout.write(done.stdout.splitlines()[-1] + "\n")


def _play(suite: SimplerSuite) -> None:
    simulator = SimplerSimulator(**suite.options)
    episode = simulator.episode(suite.cases()[0])
    episode.step(np.zeros(7, np.float32))
    if episode.view().images["primary"].std() < 10:
        sys.exit("the picture is blank: the renderer draws nothing")
    sys.stdout.write(json.dumps(simulator.facts()) + "\n")


if __name__ == "__main__":
    main()
