"""`vla setup`: simulators' own virtual environments."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.loading import RecipeError

if TYPE_CHECKING:
    from eval.environments import Environment

_SETUP = """examples:
  vla setup                       what is installed, and where
  vla setup libero                build LIBERO's environment; about a minute, 1.5 GB
  VLA_SIMULATORS=/big/disk/simulators vla setup libero
  VLA_LIBERO_ASSETS=libero_assets.tar.zst vla setup libero     without internet: meshes from an archive or folder
  vla setup simpler               build SIMPLER's environment; needs an NVIDIA GPU's driver, or --mesa
  vla setup simpler --mesa mesa/unpacked                       drawing on the CPU (what to unpack is said without it)
  VLA_SIMPLER_ASSETS=simpler_assets.tar.zst vla setup simpler --source clones     without internet

A simulator with pins of its own gets a virtual environment of its own, with exact versions, under
~/.cache/vla/simulators or $VLA_SIMULATORS. Evaluations start it by themselves; nothing is to be activated. Set-up ends
by trying the environment out: versions in range, one task simulated and drawn; until that succeeds the environment
counts as absent. The same command goes on where an interrupted one stopped, and does nothing where all is there.
Meta-World needs no set-up.
"""


def add_setup_command(commands: Any) -> None:
    """Add `setup` to the commands of `vla`."""
    words = "build a simulator's own virtual environment, or say what is installed"
    setup = commands.add_parser(
        "setup",
        help=words,
        description=words[0].upper() + words[1:] + ".",
        epilog=_SETUP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    setup.add_argument("name", nargs="?", help="libero or simpler")
    setup.add_argument("--source", type=Path, metavar="FOLDER", help="simpler: local clones of its repository")
    setup.add_argument("--mesa", type=Path, metavar="FOLDER", help="simpler: Mesa 25's packages, unpacked, for a CPU")
    setup.set_defaults(handler=_setup)


def _environments(source: Path | None = None, mesa: Path | None = None) -> "dict[str, Environment]":
    from eval.libero.install import LIBERO
    from eval.simpler.install import environment as simpler

    return {environment.name: environment for environment in (LIBERO, simpler(source, mesa))}


def _setup(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    if overrides:
        raise RecipeError(f"`vla setup` has no --{' --'.join(overrides)}; `vla setup --help` shows what it does.")
    if options.name != "simpler" and (options.source or options.mesa):
        raise RecipeError("--source and --mesa belong to `vla setup simpler`.")
    environments = _environments(options.source, options.mesa)
    if options.name is None:
        _say_what_is_there(environments)
        return
    if options.name not in environments:
        raise RecipeError(f"`vla setup {options.name}`: there is no such simulator; choose from {list(environments)}.")
    from eval.environments import install

    found = install(environments[options.name], _say)
    sys.stdout.write(f"{options.name} is ready: {_in_words(found)}\n")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _say_what_is_there(environments: "dict[str, Environment]") -> None:
    for name, environment in environments.items():
        found = environment.found()
        state = f"ready, {environment.folder}" if found else f"not set up; `vla setup {name}`"
        sys.stdout.write(f"{name}: {state}\n  {environment.about}\n")
        if found:
            sys.stdout.write(f"  {_in_words(found)}\n")


def _in_words(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())
