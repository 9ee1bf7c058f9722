"""LIBERO's class of the public evaluation harness as it is, with our guarded import of LIBERO before it.

That import names the assets, so that nothing is downloaded or asked for. Runs in the harness's own Python.
"""

import os
from pathlib import Path

from eval.libero.upstream import load_upstream

load_upstream(Path(os.environ["VLA_LIBERO_ASSETS"]))

from vla_eval.benchmarks.libero.benchmark import LIBEROBenchmark  # noqa: E402 it imports LIBERO too

__all__ = ["LIBEROBenchmark"]
