"""`vla push` and `vla pull`: a run's model to the Hugging Face Hub and back."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.loading import RecipeError

if TYPE_CHECKING:
    from eval.report.results import Rollout
    from vla.hub.card import Success
    from vla.hub.facts import RunFacts
    from vla.hub.run_files import Outgoing

_PUSH = """examples:
  vla push runs/my_policy --repo alice/drawer-policy
  vla push runs/demo --stage distilled-s0-d2 --repo alice/drawer-policy    one model of a pipeline's run folder
  vla push runs/my_policy --repo alice/drawer-policy --dry-run             list the files, print the card, ask no one
  vla push runs/my_policy --repo alice/drawer-policy --license apache-2.0 --results runs/my_rollout --public

What goes up: the model (safetensors, configuration, tokenizer, normalisation), and under run/ the resolved recipe,
package versions, metrics and results; README.md is a card made from them. Checkpoints stay here: they are pickles.
The repository is private unless you say --public. The same command goes on where an interrupted one stopped, and
uploads nothing if nothing changed. A token is taken from `hf auth login` or HF_TOKEN. docs/hub.md has the rest.
"""
_PULL = """examples:
  vla pull alice/drawer-policy
  vla pull alice/drawer-policy --revision step-600 --to runs/drawer
  vla pull lerobot/pi05_base                                               weights that others published

The folder is laid out as a run: model/ with the weights, and beside it the card and what the run left. So a recipe
takes it as `policy: FOLDER`, or `objective.init_from: FOLDER/model`. It appears whole or not at all; the same command
goes on where an interrupted one stopped. Code and pickles are never downloaded.
"""
_STAGES = ("lam", "distill", "finetune")


def add_hub_commands(commands: Any) -> None:
    """Add `push` and `pull` to the commands of `vla`."""
    push = _add(commands, "push", "upload a run's model to the Hugging Face Hub, private by default", _PUSH, _push)
    push.add_argument("run", type=Path, help="the run folder of a training stage, or a pipeline's with --stage")
    push.add_argument("--repo", required=True, metavar="USER/NAME", help="the repository; made if it does not exist")
    push.add_argument("--stage", metavar="NAME", help="which step of a pipeline's run folder")
    push.add_argument("--public", action="store_true", help="let everyone see it; opened when all of it is there")
    push.add_argument("--license", metavar="ID", help="the Hub's id of the licence, as apache-2.0, gemma, other")
    push.add_argument("--base-model", action="append", default=[], metavar="USER/NAME", help="weights it started from")
    push.add_argument(
        "--results", action="append", default=[], type=Path, metavar="FOLDER", help="a rollout's run folder"
    )
    push.add_argument("--tag", metavar="NAME", help="a name for this model (default: step-N)")
    push.add_argument("--card", choices=["keep", "replace"], help="what to do with a README.md edited on the Hub")
    push.add_argument("--dry-run", action="store_true", help="say what would be uploaded, and upload nothing")
    pull = _add(commands, "pull", "download a model from the Hugging Face Hub into a run folder", _PULL, _pull)
    pull.add_argument("repo", metavar="USER/NAME", help="the repository")
    pull.add_argument("--revision", help="a tag as step-600, a branch, or a commit (default: the newest)")
    pull.add_argument("--to", type=Path, metavar="FOLDER", help="where to (default: runs/NAME)")


def _add(commands: Any, name: str, words: str, epilog: str, handler: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=words,
        description=words[0].upper() + words[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler)
    return parser


def _push(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    _no_overrides("push", overrides)
    from vla.hub.card import Stated, choose_licence, write_card
    from vla.hub.facts import read_facts
    from vla.hub.push import push
    from vla.hub.run_files import CARD, Outgoing, collect

    run = training_run(options.run, options.stage)
    files, notes = collect(run)
    facts = read_facts(run)
    tag = _tag(options.tag, facts)
    stated = Stated(_licence(options.license), tuple(map(_base_model, options.base_model)))
    rows, others = measured(run, options.results)
    if rows or others:
        numbers = {"model": [asdict(row) for row in rows], "study": [asdict(row) for row in others]}
        files.append(Outgoing("run/results.json", json.dumps(numbers, indent=1).encode()))
    card = write_card(facts, options.repo, tag, stated, rows, others)
    files.append(Outgoing(CARD, card.encode()))
    say = _speaker()
    for note in notes:
        say(note)
    if options.license is None:
        say(f"licence: {choose_licence(facts.base, None)[0]} (none was stated; `--license ID` states one)")
    if options.dry_run:
        sys.stdout.write(_listing(files, tag) + "\n" + card)
        return
    done = push(files, options.repo, tag, public=options.public, card=options.card, say=say)
    seen = "private" if done.private else "public"
    sent = f"{len(done.uploaded)} file(s), {done.bytes_uploaded / 1e6:,.1f} MB uploaded" if done.uploaded else ""
    removed = f"{len(done.deleted)} old one(s) removed" if done.deleted else ""
    what = ", ".join(part for part in (sent, removed) if part) or "nothing had changed"
    sys.stdout.write(f"{done.url}\n{seen}, commit {done.commit[:8]}, tag {done.tag}: {what}\n")


def _pull(options: argparse.Namespace, overrides: dict[str, object]) -> None:
    _no_overrides("pull", overrides)
    from vla.hub.pull import pull

    to = options.to or Path("runs") / options.repo.split("/")[-1]
    with _bars() as show:
        done = pull(options.repo, to, options.revision, show=show)
    lines = [
        f"{done.folder}{'' if done.fresh else ' (it was there already)'}",
        f"  {done.repo} at {done.commit[:8]}, {done.parameters:,} parameters, {done.size / 1e6:,.1f} MB",
        f"  licence: {done.licence or 'not stated'}",
    ]
    if done.left_out:
        more = f" and {len(done.left_out) - 5} more" if len(done.left_out) > 5 else ""
        lines.append(f"  not taken: {', '.join(ascii(name)[1:-1] for name in done.left_out[:5])}{more}")
    lines.append(f"  Policy.from_pretrained({str(done.folder / 'model')!r}), or `policy: {done.folder}` in a recipe")
    sys.stdout.write("\n".join(lines) + "\n")


def training_run(folder: Path, stage: str | None) -> Path:
    """The run folder of one training stage: `folder` itself, or the step of it that `stage` names.

    Raises:
        RecipeError: there is none, or there are several; the message names them.
    """
    if not folder.is_dir():
        raise RecipeError(f"{folder} does not exist; give a run folder, for example runs/my_policy.")
    if not (folder / "pipeline.json").exists():
        if stage is not None:
            raise RecipeError(f"--stage {stage}: {folder} is not a pipeline's run folder; leave --stage out.")
        if folder.name == "model" and (folder.parent / "recipe.yaml").exists():
            raise RecipeError(f"{folder} is the model alone; give its run folder, {folder.parent}.")
        return folder
    from eval.report.run_folder import read_run

    steps = [s for s in read_run(folder).steps if s.kind in _STAGES and (s.folder / "model").is_dir()]
    names = [step.name for step in steps]
    if stage is None and len(steps) == 1:
        return steps[0].folder
    if stage not in names:
        wrong = f"`--stage {stage}` is no step with a model" if stage else "which of its models"
        raise RecipeError(f"{folder}: {wrong}? Choose with `--stage` among: {', '.join(names) or 'none, yet'}.")
    return steps[names.index(stage)].folder


def measured(run: Path, results: Sequence[Path]) -> "tuple[list[Success], list[Success]]":
    """(this model's rollouts by task, every arm's of the study it belongs to), as far as there are any.

    Args:
        run: the training run; rollouts of the pipeline it lies in are found.
        results: run folders of other rollouts of this model.
    """
    from eval.report.results import facets, read_rollouts, tally
    from eval.report.run_folder import Run, Step, read_run
    from vla.hub.card import Success

    own: list[Rollout] = []
    others: list[Success] = []
    if (run.parent / "pipeline.json").exists():
        study = read_rollouts(read_run(run.parent))
        own += [rollout for rollout in study if _rolls_out(rollout.step.folder, run)]
        for facet in facets(study):
            for arm in facet.arms:
                counted = tally(facet.of(arm.key))
                demos = None if arm.role == "reference" else facet.demos
                row = Success("", "all", arm.label, demos, counted.successes, counted.trials, *counted.interval)
                others += [] if row in others else [row]
    for folder in results:
        if not (folder / "episodes.jsonl").exists() or not _rolls_out(folder, run):
            raise RecipeError(f"--results {folder}: this is not the run folder of a rollout of {run}.")
        own += read_rollouts(Run(folder, folder.name, [Step(folder.name, "rollout", folder.name, folder)]))
    if not own and not others and (run / "results.json").exists():  # of a run that was pulled
        numbers = json.loads((run / "results.json").read_text())
        return [Success(**row) for row in numbers["model"]], [Success(**row) for row in numbers["study"]]
    return _by_task(own), others


def _by_task(rollouts: "list[Rollout]") -> "list[Success]":
    from eval.report.results import tally
    from vla.hub.card import Success

    rows = []
    tasks = list(dict.fromkeys((r.suite, r.task) for r in rollouts))
    for suite, task in tasks:
        counted = tally(r for r in rollouts if (r.suite, r.task) == (suite, task))
        rows.append(Success(suite, task, rollouts[0].arm, None, counted.successes, counted.trials, *counted.interval))
    if len(tasks) > 1:
        counted = tally(rollouts)
        rows.append(Success("", "all", rollouts[0].arm, None, counted.successes, counted.trials, *counted.interval))
    return rows


def _rolls_out(rollout: Path, run: Path) -> bool:
    """Whether a rollout's recipe names this run as its policy."""
    import yaml

    try:
        policy = Path(yaml.safe_load((rollout / "recipe.yaml").read_text())["policy"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return False
    policy = policy.parent if policy.name == "model" else policy
    return policy.resolve() == run.resolve() or (policy.name == run.resolve().name and rollout.parent == run.parent)


def _tag(given: str | None, facts: "RunFacts") -> str:
    if given is not None:
        return given
    if facts.step is None:
        raise RecipeError("The run does not say how many steps it trained; name the model with `--tag NAME`.")
    return f"step-{facts.step}"


def _licence(given: str | None) -> str | None:
    if given is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", given):
        raise RecipeError(f"--license {given}: write the Hub's id of it in small letters, as apache-2.0, gemma, other.")
    return given


def _base_model(given: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", given, re.ASCII):
        raise RecipeError(f"--base-model {given}: write the Hub's name of it, as lerobot/pi05_base.")
    return given


def _listing(files: "Sequence[Outgoing]", tag: str) -> str:
    lines = [f"{file.size:>14,}  {file.path}" for file in files]
    return "\n".join([*lines, f"{sum(file.size for file in files):>14,}  bytes in all, tag {tag}", ""])


def _no_overrides(command: str, overrides: dict[str, object]) -> None:
    if overrides:
        named = ", ".join(f"--{name}" for name in overrides)
        raise RecipeError(f"`vla {command}` does not know {named}; `vla {command} --help` lists what it takes.")


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each file that is downloaded, where someone is looking; else one line when it begins."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, there: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
                if not console.is_terminal:
                    console.print(f"{name}  {total / 1e6:,.1f} MB")
            bars.update(tasks[name], completed=there)

        yield show


def _speaker() -> Any:
    """Says a line on standard error; huggingface_hub's bars show only where someone is looking."""
    from huggingface_hub.utils import disable_progress_bars
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        disable_progress_bars()
    return console.print
