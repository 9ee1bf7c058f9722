"""Checks that recipes share: made before any work, each naming the field, its value and the fix."""

import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID

from data_mixtures.config import MixtureConfig
from data_mixtures.config import check as check_config
from data_mixtures.mixture import Mixture
from data_mixtures.quarantine import FILE_NAME as QUARANTINE_FILE
from data_mixtures.storage.remote import is_url
from recipes.loading import RecipeError
from vla.train.config import LoopConfig, ParallelConfig
from vla.train.distributed import check_launcher


def check_input(field: str, path: str, made: set[Path], hint: str, part: str = "") -> None:
    """The path (and the `part` of it that is needed) is on disk, or an earlier step (its folder in `made`) makes it."""
    needed = Path(path) / part
    if not needed.exists() and not any(step == needed or step in needed.parents for step in made):
        what = "does not exist" if needed == Path(path) or not Path(path).exists() else f"holds no `{part}`"
        raise RecipeError(f"`{field}: {path}` {what}; {hint}")


def check_mixture(name: str, config: MixtureConfig, made: set[Path]) -> None:
    """The mixture is possible in itself, and with its data sets, each of which is on disk or will be made."""
    _say_where(name, check_config, config)
    for index, dataset in enumerate(config.datasets):
        origin = f"it comes from {dataset.source}; " if dataset.source else ""
        hint = f"{origin}record, label or download it first, or point `--{name}.datasets.{index}.path` at it."
        if not is_url(dataset.path):
            check_input(f"{name}.datasets.{index}.path", dataset.path, made, hint)
    if all(is_url(dataset.path) or Path(dataset.path).exists() for dataset in config.datasets):
        _say_where(name, open_mixture, config, 0)


def open_mixture(config: MixtureConfig, seed: int, run: Path | None = None) -> Mixture:
    """A mixture, with a bar for each data set that is opened for the first time, whose numerics are read then.

    Args:
        config: the mixture.
        seed: of its sampler.
        run: the run folder, whose quarantine.jsonl names the episodes left out; None keeps them to itself.
    """
    console = Console(stderr=True)
    columns = Progress.get_default_columns()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(path: str, done: int, total: int) -> None:
            if path not in tasks:
                tasks[path] = bars.add_task(f"reading the episodes of {escape(Path(path).name)}")
            bars.update(tasks[path], completed=done, total=total)

        mixture = Mixture(config, seed, show)
    if run is not None:
        mixture.quarantine.write_to(run / QUARANTINE_FILE)
        if on_first_rank():
            _warn_of_units(mixture)
    return mixture


def _warn_of_units(mixture: Mixture) -> None:
    console = Console(stderr=True, highlight=False)
    for source in mixture.sources:
        for suspicion in source.suspicions():
            console.print(f"[yellow]suspected[/] {escape(str(suspicion))}", soft_wrap=True)


def _say_where(name: str, check: Callable[..., object], *arguments: object) -> None:
    try:
        check(*arguments)
    except ValueError as error:
        raise RecipeError(f"`{name}`: {error}") from error


def require_equal(first: str, value: object, second: str, other: object) -> None:
    """Two fields that say the same thing must agree."""
    if value != other:
        raise RecipeError(f"`{first}: {value}` and `{second}: {other}` must be equal; change one of them.")


def check_launch(loop: LoopConfig, parallel: ParallelConfig, ranks: int | None) -> None:
    """The batch divides over the ranks, and `parallel` is possible with them (None: there is no launcher)."""
    loop.check_batch(ranks or 1)
    check_launcher(parallel, ranks)


def check_alone(stage: str, ranks: int | None) -> None:
    """For a stage that is one process's work."""
    if ranks is not None and ranks > 1:
        raise RecipeError(
            f"`stage: {stage}` runs in one process, but {ranks} were launched: start it without torchrun "
            "(in a pipeline: `processes: 1`)."
        )


def on_first_rank() -> bool:
    """True in the one process of a launch that writes what is not sharded."""
    return os.environ.get("RANK", "0") == "0"
