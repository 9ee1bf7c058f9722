"""Tries SIMPLER's environment out with its own Python: one WidowX scene built, stepped and drawn."""

import json
import sys

import numpy as np

from eval.simpler.simulator import SimplerSimulator
from eval.simpler.suite import SimplerSuite


def main() -> None:
    """Print what was found as one line of JSON; fail with the reason."""
    suite = SimplerSuite("widowx", tasks=("put_carrot_on_plate",), starts=1)
    simulator = SimplerSimulator(**suite.options)
    episode = simulator.episode(suite.cases()[0])
    episode.step(np.zeros(7, np.float32))
    if episode.view().images["primary"].std() < 10:
        raise RuntimeError("the picture is blank: the renderer draws nothing")
    sys.stdout.write(json.dumps(simulator.facts()) + "\n")


if __name__ == "__main__":
    main()
