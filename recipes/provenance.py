"""What made a run folder: the resolved recipe, the code's version and the packages', written before any work."""

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import draccus

from data_mixtures.storage.whole_file import write_whole
from recipes.loading import RecipeError, load_recipe

# fmt: off
PACKAGES = (
    "torch", "transformers", "diffusers", "accelerate", "deepspeed", "peft", "datasets", "timm", "sentencepiece",
    "torchvision", "numpy", "pyarrow", "safetensors", "tokenizers", "av", "draccus", "metaworld", "mujoco", "gymnasium",
)
# fmt: on


_BEFORE_WORK = {"recipe.yaml", "versions.json", ".lock", "log.txt", "spent.json", "preflight.json"}


def write_provenance(run: Path, recipe: Any, may_grow: bool = False) -> None:
    """Write `recipe.yaml` and `versions.json` into the run folder.

    Args:
        run: the folder.
        recipe: what is about to run in it.
        may_grow: another recipe may go on in the same folder. True for pipelines (more seeds join the finished ones,
            and every step guards its own folder) and for tables, which are written anew from what is there.

    Raises:
        ValueError: the folder holds work of a different recipe; mixing two would make its numbers untrue.
    """
    run.mkdir(parents=True, exist_ok=True)
    resolved = resolved_text(recipe)
    path = run / "recipe.yaml"
    if path.exists() and path.read_text() == resolved:
        return
    if path.exists() and not may_grow and {item.name for item in run.iterdir()} - _BEFORE_WORK:
        check_maker(run, recipe)
        return
    write_whole(run / "versions.json", json.dumps(versions(), indent=2))
    write_whole(path, resolved)


def check_maker(run: Path, recipe: Any) -> None:
    """Raise ValueError if a run folder was made by another recipe; a field added since then counts as its default."""
    path = run / "recipe.yaml"
    made_by = path.read_text() if path.exists() else resolved_text(recipe)
    if _parsed(path) != recipe and made_by != resolved_text(recipe):
        difference = _first_difference(made_by, resolved_text(recipe))
        raise ValueError(
            f"{run} was made by a different recipe (first difference: {difference}). "
            "Give this one its own folder with `--run FOLDER`, or remove the old one."
        )


def _parsed(path: Path) -> Any:
    try:
        return load_recipe(path)
    except RecipeError:  # of a version with other fields
        return None


def resolved_text(recipe: Any) -> str:
    """The recipe as YAML with every default written out."""
    text = draccus.dump(recipe)
    assert text is not None  # only when it is given a stream to write to
    return text


def versions() -> dict[str, Any]:
    """Code, package and hardware versions as a JSON-ready mapping."""
    return {
        "code": code_version(),
        "python": platform.python_version(),
        "packages": {name: _package_version(name) for name in PACKAGES},
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.system()},
    }


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def code_version() -> str:
    """The commit, with `-dirty` where files differ from it; the package's version where there is no git history."""
    root = Path(__file__).parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--tags"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"vla {_package_version('vla')}"  # installed without its git history


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _first_difference(old: str, new: str) -> str:
    for was, now in zip(old.splitlines(), new.splitlines(), strict=False):
        if was != now:
            return f"`{was.strip()}` there, `{now.strip()}` here"
    return "one has more fields"
