"""Checks that recipes share: made before any work, each naming the field, its value and the fix."""

import os
from collections.abc import Sequence
from pathlib import Path

from data_mixtures.config import MixtureConfig
from data_mixtures.config import check as check_config
from recipes.loading import RecipeError
from vla.train.config import LoopConfig


def check_inputs(field: str, paths: Sequence[str], made: set[Path], hint: str) -> None:
    """Every path is on disk, or an earlier step of the pipeline (its folders in `made`) makes it."""
    for path in map(Path, paths):
        if not path.exists() and not any(step == path or step in path.parents for step in made):
            raise RecipeError(f"`{field}: {path}` does not exist; {hint}")


def check_mixture(name: str, config: MixtureConfig, made: set[Path]) -> None:
    """The mixture is possible in itself, and each of its data sets is on disk or will be made."""
    check_config(config)
    for index, dataset in enumerate(config.datasets):
        origin = f"it comes from {dataset.source}; " if dataset.source else ""
        hint = f"{origin}record, label or download it first, or point `--{name}.datasets.{index}.path` at it."
        check_inputs(f"{name}.datasets[{index}].path", [dataset.path], made, hint)


def require_equal(first: str, value: object, second: str, other: object) -> None:
    """Two fields that say the same thing must agree."""
    if value != other:
        raise RecipeError(f"`{first}: {value}` and `{second}: {other}` must be equal; change one of them.")


def check_batch(loop: LoopConfig) -> None:
    """The batch divides over the ranks of this launch, before data or weights are touched."""
    loop.check_batch(int(os.environ.get("WORLD_SIZE", "1")))


def on_first_rank() -> bool:
    """True in the one process of a launch that writes what is not sharded."""
    return os.environ.get("RANK", "0") == "0"
