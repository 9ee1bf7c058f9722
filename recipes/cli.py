"""`vla`: the command line over recipes; `vla --help` lists its commands, `vla fields RECIPE` a recipe's fields."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from recipes.bench_command import add_bench_command
from recipes.data_commands import add_data_commands
from recipes.hub_commands import add_hub_commands
from recipes.loading import RecipeError, load_recipe, parse_overrides
from recipes.parent import die_with_launcher
from recipes.parity_command import add_parity_command
from recipes.pipeline import PipelineRecipe, check_steps, run_pipeline
from recipes.plan_command import add_plan_command
from recipes.provenance import resolved_text, write_provenance
from recipes.report_command import add_report_command
from recipes.serve_command import add_serve_command
from recipes.setup_command import add_setup_command
from recipes.writer_lock import only_writer
from vla.train.interrupt import Interrupted

_EPILOG = """examples:
  vla run recipes/demo/pipeline.yaml                    the whole demo: data, three stages, rollouts, report
  vla run recipes/demo/lam.yaml --optim.lr 1e-4         one stage with one field changed
  vla run recipes/demo/lam.yaml --data.datasets.0.path runs/mine/play
  vla data inspect data/mine                            what a data set of any format holds
  vla eval recipes/libero/eval_spatial.yaml --policy runs/mine/finetune        a benchmark; vla eval --help
  torchrun --nproc-per-node 8 -m -- recipes.cli run recipes/latbot/1_lam_pretrain.yaml
"""

# said by hand: argparse puts --preflight before the recipe, where its optional word would swallow the recipe
_EVAL_USAGE = "vla eval RECIPE [--preflight [refuse | warn | off]] [--FIELD VALUE ...]"

_EVAL = """examples:
  vla eval recipes/metaworld/mt10.yaml --policy runs/mine/finetune --arm mine --run runs/mt10-mine
  vla eval recipes/libero/eval_spatial.yaml --policy ws://localhost:8000 --arm theirs --run runs/theirs
  vla eval recipes/libero/eval_goal.yaml --policy expert --run runs/try --suite.libero.tasks "[7]"
  vla eval RECIPE --policy runs/mine/finetune --demonstrations data/mine --preflight        only look, play nothing

RECIPE has `stage: rollout`; recipes/metaworld, recipes/libero and recipes/simpler have one for each benchmark. Any
field is set behind it, and `vla fields RECIPE` lists them all:
  --policy FOLDER     a run or model folder; ws://HOST:PORT, a server of openpi's protocol; or expert, random, hold
  --arm NAME          what tables call it
  --run FOLDER        a folder for each policy: episodes.jsonl, results.parquet, videos/. The same command goes on in it
  --engine.processes 4 --engine.videos 2         simulators at a time; films of each task's successes and failures
A policy's folder is looked at first (docs/preflight.md), and what makes numbers meaningless stops the run.
`vla setup` says which simulators are there, `vla report FOLDER...` makes the tables. docs/rollouts.md has the rest.
"""


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status (0 done, 2 the recipe is wrong, 130 interrupted)."""
    die_with_launcher()
    options, rest = _parser().parse_known_args(arguments)
    console = Console(stderr=True)
    try:
        options.handler(options, parse_overrides(rest))
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on where this one stopped.")
        return 130
    except (RecipeError, ValueError, FileNotFoundError) as error:
        console.print(f"[bold red]error[/]: {_escape(str(error))}", highlight=False, soft_wrap=True)
        return 2
    except OSError as error:  # a read-only folder, a full disk, no right to a file
        place = f": {error.filename}" if error.filename else ""
        words = f"{error.strerror or error}{place}"
        console.print(f"[bold red]error[/]: {_escape(words)}", highlight=False, soft_wrap=True)
        return 2
    except RuntimeError as error:
        console.print(f"[bold red]stopped[/]: {_escape(str(error))}", highlight=False, soft_wrap=True)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vla",
        description="Robot and human video to a vision-language-action policy, in three stages, from recipes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, handler, words in (
        ("run", _run, "run a recipe; the same command goes on after an interruption"),
        ("label", _label, "run a label recipe: write a teacher's latents as columns of copies of data sets"),
        ("eval", _eval, "run a rollout recipe: roll a policy out and keep a row an episode"),
        ("show", _show, "print the resolved recipe without running it"),
        ("fields", _fields, "list every field a recipe may set, with types and defaults"),
    ):
        command = commands.add_parser(
            name,
            help=words,
            description=words.capitalize() + ".",
            usage=_EVAL_USAGE if handler is _eval else None,
            epilog=_EVAL if handler is _eval else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("recipe", type=Path, help="a YAML file; those shipped are under recipes/")
        command.set_defaults(handler=handler)
        if handler is _eval:
            wishes = ("refuse", "warn", "off")
            words = "only look whether this evaluation can be trusted; with a word: play, and what refusals do to it"
            command.add_argument("--preflight", nargs="?", const=True, choices=wishes, help=words)
    add_report_command(commands)
    add_data_commands(commands)
    add_bench_command(commands)
    add_parity_command(commands)
    add_plan_command(commands)
    add_hub_commands(commands)
    add_serve_command(commands)
    add_setup_command(commands)
    return parser


def _run(options: argparse.Namespace, overrides: dict[str, object], stage: str | None = None) -> None:
    recipe = load_recipe(options.recipe, overrides)
    if stage not in (None, recipe.stage):
        raise RecipeError(f"{options.recipe} has `stage: {recipe.stage}`, not `{stage}`; use `vla run` for it.")
    run = Path(recipe.run)
    ranks = int(os.environ["WORLD_SIZE"]) if _launched() else None
    if isinstance(recipe, PipelineRecipe):
        from recipes.checks import check_alone  # torch comes with it, and `vla --help` must not wait for that

        check_alone(recipe.stage, ranks)
        steps = check_steps(recipe, options.recipe)
        with only_writer(run):
            write_provenance(run, recipe, may_grow=True)
            run_pipeline(recipe, options.recipe, steps)
        return
    recipe.check(made=set(), ranks=ranks)
    _log_to_stderr()
    with only_writer(run):
        already = recipe.is_done()
        if os.environ.get("RANK", "0") == "0":
            write_provenance(run, recipe, may_grow=recipe.stage == "table")
        _execute(recipe, lambda: _say_done(run, already))


def _log_to_stderr() -> None:
    """What stages say at their start (names loaded, what learns) goes to standard error, once for all ranks."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    for name in ("vla", "lam", "distill", "eval", "recipes"):
        logging.getLogger(name).setLevel(level)


def _say_done(run: Path, already: bool) -> None:
    if os.environ.get("RANK", "0") == "0":
        model = f"; the model is {run}/model" if (run / "model").is_dir() else ""
        sys.stderr.write(f"{run} {'was done already' if already else 'is done'}{model}\n")


def _execute(recipe: Any, say_done: Callable[[], None]) -> None:
    """Run a stage; the ranks of a launch leave together, done or interrupted."""
    code = 0
    try:
        recipe.execute()
        say_done()
    except Interrupted:
        if not _launched():
            raise
        code = 130
    if _launched():
        from vla.train.distributed import leave

        leave(code)


def _launched() -> bool:
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def _label(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    _run(options, overrides, stage="label")


def _eval(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    if options.preflight is True:
        recipe = load_recipe(options.recipe, overrides)
        if recipe.stage != "rollout":
            raise RecipeError(f"{options.recipe} has `stage: {recipe.stage}`; a preflight is of a `rollout`.")
        recipe.check(made=set(), ranks=None)
        with only_writer(Path(recipe.run)):
            recipe.look_first(alone=True)
        return
    wish = {} if options.preflight is None else {"preflight": options.preflight}
    _run(options, overrides | wish, stage="rollout")


def _show(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    sys.stdout.write(resolved_text(load_recipe(options.recipe, overrides)) + "\n")


def _fields(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    from recipes.fields import describe

    sys.stdout.write(describe(type(load_recipe(options.recipe, overrides))))


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


if __name__ == "__main__":
    sys.exit(main())
