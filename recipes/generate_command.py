"""`vla data generate`: demonstrations of scripted experts in a simulator, as a LeRobot v3.0 data set."""

import argparse
import sys
from pathlib import Path
from typing import Any

from recipes.loading import RecipeError, decode

_GENERATE = """examples:
  vla data generate libero --suite libero_object --out data/libero_object
  vla data generate libero --suite libero_goal --tasks turn_on_the_stove put_the_bowl_on_the_plate --episodes 20 \\
      --image-size 96 --out data/libero_two
  vla data generate metaworld --tasks drawer-open-v3 door-open-v3 --episodes 32 --out data/doors
  vla data generate metaworld --tasks door-open-v3 --episodes.medium 8 --out data/door

Episodes are simulated first; only those that succeed are drawn and kept. Objects are placed anew for each, from seeds
that no evaluation uses. The same command goes on where an interrupted one stopped and ends with the same data. It may
be given any other field of eval/libero/recording.py's LiberoRecordConfig or eval/metaworld/recording.py's RecordConfig:
  --noise 0.1 --waypoint_jitter_m 0.005        (LIBERO)      --expert_noise 0.2 --cameras '[corner]'      (Meta-World)
LIBERO needs `vla setup libero`.
"""


def add_generate_command(verbs: Any) -> None:
    """Add `generate` to the sub-commands of `vla data`."""
    words = "record demonstrations of scripted experts in a simulator"
    command = verbs.add_parser(
        "generate",
        help=words,
        description=words.capitalize() + ".",
        epilog=_GENERATE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("simulator", choices=("libero", "metaworld"))
    command.add_argument("--out", type=Path, required=True, help="the data set's folder")
    command.add_argument("--suite", help="libero: libero_spatial, libero_object (default), libero_goal or libero_10")
    command.add_argument("--tasks", nargs="+", metavar="TASK", help="names; libero: all of the suite by default")
    command.add_argument("--episodes", type=int, help="successful ones a task (LIBERO: 50, Meta-World: 10)")
    command.add_argument("--image-size", type=int, metavar="PIXELS", help="height and width, even (256, 64)")
    command.add_argument("--seed", type=int, help="data sets with different seeds share no initial state (default 0)")
    command.add_argument("--workers", type=int, help="processes (default 2)")
    command.set_defaults(handler=_generate)


def _generate(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    given = {name: getattr(options, name) for name in ("suite", "tasks", "episodes", "image_size", "seed", "workers")}
    fields = {name: value for name, value in given.items() if value is not None}
    if options.simulator == "libero":
        _libero(fields | overrides, options.out)
    else:
        _metaworld(fields, overrides, options.out)


def _libero(fields: dict[str, Any], out: Path) -> None:
    from eval.libero.recording import LiberoRecordConfig, record_libero
    from recipes.data_commands import progress_bar

    config = decode(LiberoRecordConfig, fields, "vla data generate libero")
    total = config.episodes * len(config.names)
    with progress_bar("starting LIBERO") as progress:

        def show(task: str, of_task: int, of_all: int) -> None:
            progress.say(f"{task}: {of_task} of {config.episodes}")
            progress(of_all, total)

        record_libero(config, out, show)
    sys.stdout.write(f"{out}: {total} episodes of {len(config.names)} tasks\n")


def _metaworld(fields: dict[str, Any], overrides: dict[str, Any], out: Path) -> None:
    from eval.metaworld.recording import RecordConfig, record

    if "suite" in fields:
        raise RecipeError("--suite belongs to libero; Meta-World's tasks are named with --tasks.")
    if "tasks" not in fields:
        raise RecipeError("metaworld needs --tasks, for example --tasks drawer-open-v3 door-open-v3.")
    kinds = {"expert": fields.pop("episodes")} if "episodes" in fields else {}
    kinds |= {name.partition(".")[2]: count for name, count in overrides.items() if name.startswith("episodes.")}
    rest = {name: value for name, value in overrides.items() if not name.startswith("episodes.")}
    config = decode(RecordConfig, fields | {"episodes": kinds} | rest, "vla data generate metaworld")
    record(config, out)
    sys.stdout.write(f"{out}\n")
