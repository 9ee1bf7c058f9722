"""What a run folder says of itself: how it was trained, on what, and from whose weights."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vla.hub.weights import read_header

GEMMA_VOCABULARY = 257152
_BUILT_BY_LEROBOT = ((1024, 18, 4096), (2048, 18, 16384))  # width, depth, MLP of the Gemmas its `pi05` knows by name
_HUB_DATASET = re.compile(r"(?:hf://datasets/|huggingface\.co/datasets/)([\w.-]+/[\w.-]+)")
PULLED = "pulled.json"
"""Which repository and commit a folder was pulled from; `vla pull` leaves it there."""


@dataclass(frozen=True)
class DataSet:
    """One data set of the mixture; `episodes` and `hours` are of the whole set, None where it is not on this machine.

    `taken` says in words which part of it was used.
    """

    name: str
    source: str
    hub_id: str | None
    weight: float
    taken: str
    episodes: int | None
    hours: float | None


@dataclass(frozen=True)
class Published:
    """Weights that others made; `repo` and `licence` are known if they were pulled with `vla pull`."""

    name: str
    repo: str | None = None
    licence: str | None = None
    gemma: bool = False  # they descend from Gemma: by their licence, their name or the size of the vocabulary


@dataclass(frozen=True)
class Base:
    """Where the weights started; all empty for a fresh start.

    `through` are the runs in between, latest first; `unknown` are starts that are not on this machine any more.
    """

    published: tuple[Published, ...] = ()
    through: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunFacts:
    """A training run in numbers; None where the run does not say."""

    stage: str
    step: int | None
    steps: int | None
    finished: bool
    recipe: dict[str, Any]
    data: tuple[DataSet, ...]
    base: Base
    parameters: int
    dtypes: tuple[str, ...]
    wall_seconds: float | None
    code: str | None
    cameras: tuple[str, ...]
    robot: str | None
    horizon: int | None
    lerobot: bool

    def field(self, *names: str) -> Any:
        """A value of the recipe by its path, or None."""
        node: Any = self.recipe
        for name in names:
            node = node.get(name) if isinstance(node, dict) else None
        return node


def read_facts(run: Path) -> RunFacts:
    """Read a training run's folder.

    Raises:
        ValueError: it is not the folder of a training run.
    """
    recipe = _yaml(run / "recipe.yaml")
    if recipe is None:
        raise ValueError(f"{run} has no readable recipe.yaml; give the run folder of a training stage.")
    done = _json(run / "done.json") or {}
    versions = _json(run / "versions.json") or {}
    steps = _mapping(recipe, "loop").get("steps")
    steps = steps if isinstance(steps, int) else None
    finished = (run / "done.json").exists()
    headers = [read_header(path) for path in model_weights(run / "model")]
    processor = _json(run / "model" / "processor.json") or {}
    sizes = _json(run / "model" / "pi05.json") or _json(run / "model" / "config.json") or {}
    return RunFacts(
        stage=str(recipe.get("stage")),
        step=steps if finished and steps is not None else _last_step(run / "metrics.jsonl"),
        steps=steps,
        finished=finished,
        recipe=recipe,
        data=tuple(_data_sets(recipe)),
        base=find_base(recipe),
        parameters=sum(header.parameters for header in headers),
        dtypes=tuple(sorted({dtype for header in headers for dtype in header.dtypes})),
        wall_seconds=done.get("wall_seconds"),
        code=versions.get("code"),
        cameras=tuple(str(name) for name in processor.get("cameras") or ()),
        robot=_mapping(processor, "robot").get("robot_type") or None,
        horizon=sizes.get("horizon"),
        lerobot=(_json(run / "model" / "config.json") or {}).get("type") == "pi05" and _of_published_size(sizes),
    )


def model_weights(model: Path) -> list[Path]:
    """The files of a model folder that hold its parameters, not the statistics beside them."""
    return sorted(model.glob("model*.safetensors"))


def _of_published_size(sizes: dict[str, Any]) -> bool:
    parts = [_mapping(sizes, part) for part in ("vlm", "expert")]
    return all((part.get("width"), part.get("depth"), part.get("mlp_dim")) in _BUILT_BY_LEROBOT for part in parts)


def find_base(recipe: dict[str, Any]) -> Base:
    """Follow `init_from` (and a teacher's `pretrained`) through the runs of this machine to where the weights began."""
    published: list[Published] = []
    through: list[str] = []
    unknown: list[str] = []
    waiting, seen = list(_starts(recipe)), set()
    while waiting:
        start, vocabulary = waiting.pop(0)
        if start in seen:
            continue
        seen.add(start)
        path = Path(start)
        folder = path if path.is_dir() and path.name != "model" else path.parent
        earlier = _yaml(folder / "recipe.yaml")
        if (folder / PULLED).exists() or (earlier is None and path.exists()):
            published.append(_published(folder, path, vocabulary))
        elif earlier is not None:
            through.append(folder.name)
            waiting += _starts(earlier)
        else:
            unknown.append(folder.name if path.name == "model" else path.name)
    return Base(tuple(published), tuple(through), tuple(unknown))


def _published(folder: Path, path: Path, vocabulary: int | None) -> Published:
    pulled = _json(folder / PULLED) or {}
    repo, licence = pulled.get("repo"), pulled.get("license")
    generic = path.stem in ("model", "model.safetensors") or path.name.startswith("model-")
    name = str(repo or (folder.name if generic else path.name))
    like_gemma = vocabulary == GEMMA_VOCABULARY or re.search(r"(?i)pi_?0|paligemma|gemma", name) is not None
    return Published(name, repo, licence, licence == "gemma" or like_gemma)


def _starts(recipe: dict[str, Any]) -> Iterator[tuple[str, int | None]]:
    """(path, vocabulary of the model it starts) of all weights a recipe starts from."""
    objective = _mapping(recipe, "objective")
    if objective.get("init_from"):
        yield str(objective["init_from"]), _mapping(objective, "model").get("vocab_size")
    for path in _mapping(_mapping(recipe, "model"), "pretrained").values():
        if path:
            yield str(path), None


def _data_sets(recipe: dict[str, Any]) -> Iterator[DataSet]:
    data = recipe.get("data")
    for row in (data.get("datasets") if isinstance(data, dict) else None) or []:
        path, source = str(row.get("path")), str(row.get("source") or "")
        info = _json(Path(path) / "meta" / "info.json") or {}
        found = _HUB_DATASET.search(f"{path} {source}")
        frames, fps = info.get("total_frames"), info.get("fps")
        yield DataSet(
            name=_name_of(path),
            source=source,
            hub_id=found.group(1).rstrip(".") if found else None,
            weight=float(row.get("weight") or 1.0),
            taken=_taken(row),
            episodes=info.get("total_episodes"),
            hours=frames / fps / 3600 if frames and fps else None,
        )


def _name_of(path: str) -> str:
    """`runs/demo/expert/data` -> `expert`: the last part that names anything."""
    parts = [part for part in path.rstrip("/").split("/") if part]
    return parts[-2] if len(parts) > 1 and parts[-1] == "data" else parts[-1] if parts else path


def _taken(row: dict[str, Any]) -> str:
    words = []
    if row.get("only_successes"):
        words.append("successes only")
    if row.get("skip_per_task"):
        words.append(f"without the first {row['skip_per_task']} of every task")
    if row.get("episodes_per_task") is not None:
        words.append(f"at most {row['episodes_per_task']} of every task")
    share = row.get("labelled_share", 1.0)
    if share == 0:
        words.append("as video, actions not seen")
    elif share != 1:
        words.append(f"actions of {share:.0%} seen")
    if row.get("only_labelled"):
        words.append("labelled ones only")
    return ", ".join(words) or "all"


def _mapping(tree: dict[str, Any], name: str) -> dict[str, Any]:
    value = tree.get(name)
    return value if isinstance(value, dict) else {}


def _last_step(path: Path) -> int | None:
    try:
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        return int(json.loads(lines[-1])["step"])
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _yaml(path: Path) -> dict[str, Any] | None:
    try:
        parsed = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        parsed = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return parsed if isinstance(parsed, dict) else None
