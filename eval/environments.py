"""Simulators' own virtual environments: where they are, whether they are whole, and how they are made.

    $VLA_SIMULATORS (default ~/.cache/vla/simulators)
      libero/              the virtual environment; bin/python is what the engine starts
      libero/whole.json    written last, after the check ran: without it the environment counts as absent
      libero_assets/       meshes and textures, where the simulator's package ships none

What an environment holds is data (`Environment`); `vla setup NAME` makes it.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_mixtures.storage.whole_file import write_whole

SIMULATORS_VARIABLE = "VLA_SIMULATORS"

_WHOLE = "whole.json"
_OWN_PACKAGES = ("data_mixtures", "eval", "vla")
_LAST_LINES = 15

Say = Callable[[str], None]


@dataclass(frozen=True)
class Environment:
    """What one simulator's virtual environment is made of.

    Attributes:
        name: Of its folder, and of `vla setup NAME`.
        about: One line for people.
        pip: The arguments of each `pip install`, in order, with exact versions.
        check: The module that tries it out, run with its own Python after everything is there: prints a JSON object
            of what it found, or fails with the reason as its last words.
        prepare: What else must be there before the check, such as meshes; may be called again and goes on.
        is_prepared: Whether that is there now; where it is not, the environment counts as absent.
        variables: Environment variables of `check` and of every process the simulator runs in.
    """

    name: str
    about: str
    pip: tuple[tuple[str, ...], ...]
    check: str
    prepare: Callable[[Path, Say], None] | None = None
    is_prepared: Callable[[], bool] = lambda: True
    variables: Callable[[], Mapping[str, str]] = dict

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        return simulators_folder() / self.name

    @property
    def python(self) -> Path:
        """Its interpreter, whether it is there or not."""
        return self.folder / "bin" / "python"

    @property
    def pins(self) -> str:
        """A digest of `pip`: an environment made from another list is made anew."""
        return hashlib.sha256(json.dumps(self.pip).encode()).hexdigest()[:16]

    def found(self) -> dict[str, Any] | None:
        """What the check found when it was made; None where the environment is absent, unfinished or out of date."""
        return self.tried_out() if self.is_prepared() else None

    def tried_out(self) -> dict[str, Any] | None:
        """What the check found with these packages, whatever has become since of what was prepared beside them."""
        try:
            whole = json.loads((self.folder / _WHOLE).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return whole["found"] if whole.get("pins") == self.pins and self.python.exists() else None


def simulators_folder() -> Path:
    """$VLA_SIMULATORS, or ~/.cache/vla/simulators."""
    given = os.environ.get(SIMULATORS_VARIABLE)
    return Path(given).expanduser().absolute() if given else Path.home() / ".cache" / "vla" / "simulators"


def python_of(environment: Environment) -> Path:
    """The environment's interpreter.

    Raises:
        ValueError: it is not there, or was made for other versions; the message says what to run.
    """
    if environment.found() is None:
        state = "is unfinished or out of date" if environment.folder.exists() else "is not set up"
        raise ValueError(
            f"{environment.name}: its environment {environment.folder} {state}; run `vla setup {environment.name}` "
            f"(once, about a minute), or point {SIMULATORS_VARIABLE} at where it is"
        )
    return environment.python


def install(environment: Environment, say: Say) -> dict[str, Any]:
    """Make an environment, or go on where an interrupted call stopped; does nothing where it is whole.

    Returns:
        What its check found.

    Raises:
        RuntimeError: a step failed; the message has its last words. The environment then still counts as absent.
    """
    environment.folder.mkdir(parents=True, exist_ok=True)
    with _only_one(environment):
        if (found := environment.found()) is not None:
            say(f"{environment.name}: already there, {environment.folder}")
            return found
        if environment.tried_out() is None:
            _install_packages(environment, say)
        if environment.prepare:
            environment.prepare(environment.folder, say)
        (environment.folder / _WHOLE).unlink(missing_ok=True)
        say(f"{environment.name}: trying it out")
        found = run_check(environment)
        write_whole(environment.folder / _WHOLE, json.dumps({"pins": environment.pins, "found": found}, indent=1))
    return found


def _install_packages(environment: Environment, say: Say) -> None:
    (environment.folder / _WHOLE).unlink(missing_ok=True)
    if not environment.python.exists():
        say(f"{environment.name}: a virtual environment in {environment.folder}")
        _run([sys.executable, "-m", "venv", str(environment.folder)], "venv")
    for arguments in environment.pip:
        say(f"{environment.name}: pip install {' '.join(arguments)}")
        options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([str(environment.python), *options, *arguments], "pip install")


def run_check(environment: Environment) -> dict[str, Any]:
    """Run the environment's check with its own Python and return what it found."""
    with own_packages() as folder:
        variables = {**os.environ, **environment.variables(), "PYTHONPATH": str(folder)}
        lines = _run([str(environment.python), "-m", environment.check], environment.check, variables).splitlines()
    return json.loads(lines[-1])


@contextmanager
def own_packages() -> Iterator[Path]:
    """A folder for PYTHONPATH with our packages and nothing else: this environment's own do not leak into another."""
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory(prefix="vla-packages-") as folder:
        for name in _OWN_PACKAGES:
            (Path(folder) / name).symlink_to(root / name)
        yield Path(folder)


@contextmanager
def _only_one(environment: Environment) -> Iterator[None]:
    with (environment.folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(f"{environment.folder} is being set up by another process; wait for it") from error
        yield


def _run(command: list[str], what: str, variables: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode != 0:
        words = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-_LAST_LINES:])
        raise RuntimeError(f"{what} failed (status {done.returncode}):\n{words}")
    return done.stdout
