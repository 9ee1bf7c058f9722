"""Processes that end with the one that started them, so that a kill -9 leaves no orphan writing in a run folder.

python -m recipes.parent PID MODULE ARGUMENTS...    `python -m MODULE ARGUMENTS...`, for as long as PID lives
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG, _SIGKILL = 1, 9


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which started it, ends. The request outlives an exec."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:  # it ended before the call above
        os._exit(1)


def die_with_launcher() -> None:
    """The same for a rank that torchrun started."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with(os.getppid())


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[2:]])
