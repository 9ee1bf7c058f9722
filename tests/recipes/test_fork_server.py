"""Steps as forks: words, codes and signals are as of processes of their own, and none outlives the pipeline."""

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recipes.fork_server import PRELOADED, ForkedStep, ForkServer, environment

ROOT = Path(__file__).parents[2]
PROGRAM = "tests.recipes.forked_program"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    server = ForkServer(3, tmp_path / "server.txt", PROGRAM, preloaded=())
    yield server
    server.close()


def _run(server: ForkServer, log: Path, *arguments: str) -> tuple[int, str]:
    return server.start(list(arguments), log).wait(timeout=60), log.read_text()


def _wait_for_words(log: Path) -> str:
    until = time.monotonic() + 60
    while not log.exists() or "\n" not in log.read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    return log.read_text()


def _gone(pid: int) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def test_words_go_to_each_steps_log_and_codes_come_back(server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("an earlier run\n")
    assert _run(server, tmp_path / "a", "say", "hello") == (0, "an earlier run\nhello to stdout\nand to stderr\n")
    assert _run(server, tmp_path / "b", "exit", "7") == (7, "")
    assert (tmp_path / "server.txt").read_text() == ""


def test_a_step_ends_as_a_process_does(server: ForkServer, tmp_path: Path) -> None:
    assert _run(server, tmp_path / "a", "leave", "130") == (130, "the thread\nthe exit handler\n")
    code, said = _run(server, tmp_path / "b", "fail")
    assert code == 1
    assert "ValueError: an uncaught error" in said


def test_a_step_is_a_session_of_its_own_with_the_pipelines_threads(server: ForkServer, tmp_path: Path) -> None:
    _, first = _run(server, tmp_path / "a", "state")
    threads, leads, parent, running, stdin, argv = ast.literal_eval(first)
    assert (threads, leads, running, stdin, argv) == ("3", True, 1, "/dev/null", ["vla", "state"])
    assert ast.literal_eval(_run(server, tmp_path / "b", "state")[1])[2] == parent != os.getpid()


def test_forks_do_not_share_their_draws(server: ForkServer, tmp_path: Path) -> None:
    one, two = (_run(server, tmp_path / name, "draw")[1].split() for name in "ab")
    assert one[0] != two[0]
    assert one[1] != two[1]


def test_an_interrupt_reaches_one_step_and_the_other_goes_on(server: ForkServer, tmp_path: Path) -> None:
    steps = {name: server.start(["sleep"], tmp_path / name) for name in "ab"}
    for name in steps:
        _wait_for_words(tmp_path / name)
    steps["a"].send_signal(signal.SIGINT)
    assert steps["a"].wait(timeout=30) == 130
    assert (tmp_path / "a").read_text().endswith("interrupted\n")
    assert steps["b"].poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        steps["b"].wait(timeout=0.05)
    steps["b"].kill()
    assert steps["b"].wait(timeout=30) == -signal.SIGKILL


def test_closing_ends_what_still_runs(server: ForkServer, tmp_path: Path) -> None:
    server.start(["sleep"], tmp_path / "a")
    pid = int(_wait_for_words(tmp_path / "a"))
    server.close()
    assert _gone(pid)


def test_a_killed_pipeline_takes_server_and_steps_along(tmp_path: Path) -> None:
    script = (
        "import pathlib, time; from recipes.fork_server import ForkServer\n"
        f"server = ForkServer(1, pathlib.Path('server.txt'), {PROGRAM!r}, ())\n"
        "server.start(['sleep'], pathlib.Path('a')); time.sleep(60)"
    )
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipeline = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=variables)
    step = int(_wait_for_words(tmp_path / "a"))
    server = int(Path(f"/proc/{step}/stat").read_text().rpartition(")")[2].split()[1])
    pipeline.kill()
    pipeline.wait()
    assert _gone(server)
    assert _gone(step)


def test_a_server_that_cannot_import_is_said(tmp_path: Path) -> None:
    server = ForkServer(1, tmp_path / "server.txt", "no.such.module", preloaded=())
    step: ForkedStep = server.start(["say"], tmp_path / "a")
    with pytest.raises(RuntimeError, match=r"the process that starts the steps has ended.*server\.txt"):
        step.wait(timeout=60)
    assert "ModuleNotFoundError" in (tmp_path / "server.txt").read_text()
    assert step.poll() == -signal.SIGKILL
    server.close()


def test_what_is_preloaded_starts_no_thread_and_opens_no_simulator() -> None:
    """A fork copies one thread only; a lock that another one held would stay locked for ever."""
    script = (
        f"import importlib, os, sys; [importlib.import_module(m) for m in {PRELOADED!r}]\n"
        "heavy = [m for m in ('mujoco', 'metaworld', 'deepspeed') if m in sys.modules]\n"
        "print(len(os.listdir('/proc/self/task')), heavy)"
    )
    variables = {**os.environ, **environment(threads=2)}
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert told.stdout == "1 []\n", told.stderr
