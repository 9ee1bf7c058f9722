"""What the tests of the fork server run in a step's place; its imports are as light as can be."""

import atexit
import os
import random
import sys
import threading
import time

import numpy as np


def _late() -> None:
    time.sleep(0.2)
    sys.stdout.write("the thread\n")


def main(arguments: list[str]) -> int:
    word, *rest = arguments
    if word == "say":
        sys.stdout.write(f"{' '.join(rest)} to stdout\n")
        sys.stderr.write("and to stderr\n")
    elif word == "exit":
        return int(rest[0])
    elif word == "state":
        threads = len(os.listdir("/proc/self/task"))
        stdin = os.readlink("/proc/self/fd/0")
        told = (os.environ["OMP_NUM_THREADS"], os.getpid() == os.getsid(0), os.getppid(), threads, stdin, sys.argv)
        sys.stdout.write(repr(told))
    elif word == "leave":
        atexit.register(print, "the exit handler")
        threading.Thread(target=_late).start()
        raise SystemExit(int(rest[0]))
    elif word == "order":
        with open(rest[0], "a") as file:
            file.write(f"{rest[1]} ")
    elif word == "fail":
        raise ValueError("an uncaught error")
    elif word == "draw":
        sys.stdout.write(f"{random.random()} {np.random.random()}")
    elif word == "sleep":
        sys.stdout.write(f"{os.getpid()}\n")
        sys.stdout.flush()
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            sys.stdout.write("interrupted\n")
            return 130
    return 0
