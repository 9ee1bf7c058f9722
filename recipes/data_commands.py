"""`vla data ...`: look at data sets, count them, convert and ingest them.

Everything heavy is imported by the command that needs it, so that `vla data --help` answers at once.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.generate_command import add_generate_command
from recipes.loading import RecipeError, decode, load_mixture

if TYPE_CHECKING:
    from rich.progress import Progress

    from data_mixtures.config import DatasetConfig
    from data_mixtures.readers.reader import Reader
    from data_mixtures.shards.ingest import IngestProgress

Overrides = dict[str, Any]

_DATA = """examples:
  vla data inspect data/bridge_dataset                     what is in a data set of any format
  vla data view data/egodex/part1 --episode 3              one episode as a page to scrub through
  vla data stats data/mine --write                         quantiles of states and actions, saved with the data set
  vla data mixture data_mixtures/mixtures/latbot_pretrain.yaml
  vla data ingest data_mixtures/mixtures/bridge.yaml data/shards/bridge --workers 8
"""
_ANY_PATH = "a data set's folder in any format, a URL (hf://, s3://, gs://), or a mixture's YAML with --dataset"
_FIELDS = """
Fields of the data set (docs/data.md) follow as overrides where the folder alone does not say enough:
  --format rlds --split val --robot_type my_arm
"""
_INSPECT = """examples:
  vla data inspect data/mine
  vla data inspect data/agibot --episodes 100              read a spread-out sample only
  vla data inspect hf://datasets/lerobot/pusht --json      the whole report as JSON
  vla data inspect data_mixtures/mixtures/bridge.yaml --dataset bridge_dataset
"""
_VIEW = """examples:
  vla data view data/mine --episode 0
  vla data view data/mine --episode episode_000012 --out mug.html
"""
_STATS = """examples:
  vla data stats data/mine
  vla data stats data/mine --write                         also into the data set's folder, as statistics.json
"""
_CONVERT = """examples:
  vla data convert data/droid/1.0.0 data/droid_lerobot
  vla data convert data/droid/1.0.0 data/droid_small --episodes 50
"""
_INGEST = """examples:
  vla data ingest data_mixtures/mixtures/bridge.yaml data/shards/bridge --workers 8
  vla data ingest mixture.yaml data/shards/mine --datasets.0.weight 2.0

The same command goes on where an interrupted one stopped; originals are only read.
"""
_VERIFY = """examples:
  vla data verify data/shards/bridge
"""
_MIXTURE = """examples:
  vla data mixture data_mixtures/mixtures/latbot_pretrain.yaml
  vla data mixture mixture.yaml --exact --out mixture.html --datasets.0.weight 2.0
  vla data mixture recipes/demo/lam.yaml                   the `data:` of a recipe
"""


def add_data_commands(commands: Any) -> None:
    """Add `data` to the sub-commands of `vla`."""
    words = "look at data sets, count them, convert and ingest them"
    data = _add(commands, "data", words, _DATA)
    verbs = data.add_subparsers(required=True, metavar="COMMAND")
    _add_reading(verbs)
    _add_writing(verbs)
    add_generate_command(verbs)
    mixture = _add(verbs, "mixture", "a mixture's weights, shares drawn, hours and embodiments", _MIXTURE, _mixture)
    mixture.add_argument("mixture", type=Path, help="a mixture's YAML, or a recipe's")
    mixture.add_argument("--out", type=Path, help="also write the table and its plot as an HTML page")
    mixture.add_argument("--exact", action="store_true", help="read every set through, as the first training would")
    mixture.add_argument("--seed", type=int, default=0, help="of the sampler (default %(default)s)")
    mixture.add_argument("--json", action="store_true", help="print JSON and no table")


def _add_reading(verbs: Any) -> None:
    inspect = _add(verbs, "inspect", "what a data set holds and what looks wrong", _INSPECT + _FIELDS, _inspect)
    _add_path(inspect)
    inspect.add_argument("--episodes", type=_positive, help="read only so many, spread out; all by default")
    inspect.add_argument("--json", action="store_true", help="print JSON and no table")
    view = _add(verbs, "view", "one episode as an HTML page to scrub through", _VIEW + _FIELDS, _view)
    _add_path(view)
    view.add_argument("--episode", default="0", help="its number in the data set, from 0, or its key (default 0)")
    view.add_argument("--out", type=Path, help="the page to write (default: NAME-episode-N.html)")

    stats = _add(verbs, "stats", "quantiles of states and actions, without decoding video", _STATS + _FIELDS, _stats)
    _add_path(stats)
    stats.add_argument("--write", action="store_true", help="save them with the data set, as statistics.json")
    stats.add_argument("--json", action="store_true", help="print JSON and no table")


def _add_writing(verbs: Any) -> None:
    convert = _add(verbs, "convert", "write a data set as LeRobot v3.0", _CONVERT + _FIELDS, _convert)
    _add_path(convert)
    convert.add_argument("target", type=Path, help="the folder to make; it must not exist yet")
    convert.add_argument("--episodes", type=_positive, help="convert only so many, spread out over the set")
    ingest = _add(verbs, "ingest", "write a mixture as shards for training, once", _INGEST, _ingest)
    ingest.add_argument("mixture", type=Path, help="a mixture's YAML, or a recipe's")
    ingest.add_argument("target", type=Path, help="the folder of the shards")
    ingest.add_argument("--workers", type=_positive, default=1, help="processes (default %(default)s)")
    ingest.add_argument("--size", type=_positive, help="pixels of stored frames (default: the mixture's image_size)")
    verify = _add(verbs, "verify", "check every byte of ingested shards against its checksum", _VERIFY, _verify)
    verify.add_argument("shards", type=Path, help="the folder `vla data ingest` wrote")


def _add(
    commands: Any, name: str, words: str, epilog: str, handler: Callable[..., None] | None = None
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=words,
        description=words.capitalize() + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if handler is not None:
        command.set_defaults(handler=handler)
    return command


def _add_path(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", help=_ANY_PATH)
    command.add_argument("--dataset", help="of a mixture's YAML: the folder's name, or its number from 0")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


# ---------------------------------------------------------------------------------------------------------- reading


def _inspect(options: argparse.Namespace, overrides: Overrides) -> None:
    from data_mixtures.summaries.inspection import inspect
    from recipes.data_tables import inspection_table, terminal

    config, reader, unread = _open(options, overrides)
    with progress_bar("reading episodes") as on_episode:
        found = inspect(reader, config.path, _format(config, reader), options.episodes, on_episode)
    if unread:
        found = replace(found, suspicions=[f"states and actions are not read: {unread}", *found.suspicions])
    if options.json:
        _write_json(found.as_json())
    else:
        terminal().print(inspection_table(found))
    if not found.episodes_usable:
        raise RuntimeError(f"no episode of {config.path} could be read; the reasons are above.")


def _view(options: argparse.Namespace, overrides: Overrides) -> None:
    from data_mixtures.summaries.inspection import dataset_name
    from data_mixtures.summaries.viewing import write_episode_page

    config, reader, _ = _open(options, overrides)
    index = _episode_number(reader, options.episode, config.path)
    name = dataset_name(config.path)
    out = options.out or Path(f"{name}-episode-{index}.html")
    with _waiting(f"drawing episode {index} of {len(reader)}"):
        write_episode_page(reader.episode(index), name, out)
    sys.stdout.write(f"{out}\n")


def _stats(options: argparse.Namespace, overrides: Overrides) -> None:
    from data_mixtures.spaces.unit_checks import check_units
    from data_mixtures.statistics.streaming import FILE_NAME, statistics_of
    from data_mixtures.storage.dataset import open_dataset
    from data_mixtures.summaries.inspection import dataset_name, dimension_ranges
    from recipes.data_tables import statistics_table, terminal

    config = _config(options, overrides)
    with progress_bar("reading states and actions") as progress:
        index = open_dataset(config, [], 1, 0.0, progress).index
        statistics = statistics_of(index)
    dimensions = dimension_ranges(statistics, index.num_rows, index.space)
    suspicions = [f"{s.dimension}: {s.words}" for s in check_units(dataset_name(config.path), index, statistics)]
    if options.json:
        ranges = [asdict(dimension) for dimension in dimensions]
        _write_json({"frames": index.num_rows, "dimensions": ranges, "suspicions": suspicions})
    else:
        terminal().print(statistics_table(config.path, dimensions, suspicions))
    if options.write:
        folder = index.folder.parent
        statistics.save(folder, index.meta.fingerprint)
        sys.stderr.write(f"{folder / FILE_NAME}\n")


def _episode_number(reader: "Reader", wanted: str, path: str) -> int:
    if wanted.isdigit() and int(wanted) < len(reader):
        return int(wanted)
    for index in range(len(reader)):
        if reader.key(index) == wanted:
            return index
    first = reader.key(0) if len(reader) else ""
    raise RecipeError(
        f"`--episode {wanted}`: {path} has {len(reader):,} episodes; give a number from 0 to {len(reader) - 1}, or a "
        f"key such as {first!r}."
    )


def _open(options: argparse.Namespace, overrides: Overrides) -> "tuple[DatasetConfig, Reader, str]":
    """The data set a command names: its config, its reader, and why its states and actions are not read ('' if so)."""
    from data_mixtures.readers.opening import open_reader
    from data_mixtures.readers.shards import ShardsReader
    from data_mixtures.shards.layout import is_shards

    config = _config(options, overrides)
    with _waiting(f"opening {config.path}"):
        if is_shards(config.path):
            return config, ShardsReader(config.path), ""
        try:
            return config, open_reader(config), ""
        except ValueError as error:
            if config.embodiment is not None or config.labelled_share == 0 or "labelled_share" not in str(error):
                raise
            # A robot nobody has described yet: its videos and texts can be looked at all the same.
            return config, open_reader(replace(config, labelled_share=0)), str(error)


def _config(options: argparse.Namespace, overrides: Overrides) -> "DatasetConfig":
    from data_mixtures.config import DatasetConfig
    from data_mixtures.summaries.inspection import dataset_name

    if not options.path.endswith((".yaml", ".yml")):
        if options.dataset is not None:
            raise RecipeError(f"`--dataset {options.dataset}` chooses from a mixture's YAML, {options.path} is none.")
        return _fetched(decode(DatasetConfig, {"path": options.path} | overrides, options.path))
    datasets = load_mixture(options.path).datasets
    names = [dataset_name(dataset.path) for dataset in datasets]
    if options.dataset is None and len(datasets) > 1:
        raise RecipeError(f"{options.path} names {len(datasets)} data sets; choose one: --dataset {' | '.join(names)}.")
    position = _place_of(options.dataset or "0", names, options.path)
    changed = load_mixture(options.path, {f"datasets.{position}.{name}": v for name, v in overrides.items()})
    return _fetched(changed.datasets[position])


def _fetched(config: "DatasetConfig") -> "DatasetConfig":
    """The same data set as a local folder: what lies behind a URL is mirrored first."""
    from data_mixtures.storage.remote import is_url, localise

    if not is_url(config.path):
        return config
    with progress_bar(f"fetching {config.path} (bytes)") as progress:
        return replace(config, path=str(localise(config.path, progress=progress)))


def _place_of(wanted: str, names: list[str], path: str) -> int:
    if wanted in names:
        return names.index(wanted)
    if wanted.isdigit() and int(wanted) < len(names):
        return int(wanted)
    raise RecipeError(f"`--dataset {wanted}`: {path} has {', '.join(names)}.")


def _format(config: "DatasetConfig", reader: "Reader") -> str:
    from data_mixtures.readers.opening import detect_format

    return detect_format(Path(reader.root)) if config.format == "auto" else config.format


# ---------------------------------------------------------------------------------------------------------- mixtures


def _mixture(options: argparse.Namespace, overrides: Overrides) -> None:
    from data_mixtures.summaries.mixture_summary import exact_size, rough_size, summarise, write_mixture_page
    from recipes.data_tables import mixture_table, terminal

    config = load_mixture(options.mixture, overrides)
    name = options.mixture.stem
    with progress_bar("drawing samples") as progress:
        measure = partial(exact_size, on_progress=progress) if options.exact else rough_size
        summary = summarise(config, measure, options.seed, on_set=progress.say)
    if options.json:
        _write_json(summary.as_json())
    else:
        terminal().print(mixture_table(summary, name))
    if options.out:
        sys.stderr.write(f"{write_mixture_page(summary, name, options.out)}\n")


def _convert(options: argparse.Namespace, overrides: Overrides) -> None:
    from data_mixtures.lerobot.conversion import QUARANTINE, convert_to_lerobot
    from data_mixtures.summaries.inspection import spread_out

    _, reader, unread = _open(options, overrides)
    if unread:
        raise RecipeError(unread)  # a set without its states and actions is converted only when that is asked for
    with progress_bar("reading, then writing episodes") as progress:
        episodes = spread_out(len(reader), options.episodes)
        written = convert_to_lerobot(reader, options.target, episodes, progress=progress)
    if written.quarantined:
        sys.stderr.write(f"{len(written.quarantined)} left out: {written.root / QUARANTINE}\n")
    sys.stdout.write(f"{written.root}: {written.num_episodes:,} episodes, {written.num_frames:,} frames\n")


def _ingest(options: argparse.Namespace, overrides: Overrides) -> None:
    from recipes.ingest import ingest_mixture

    config = load_mixture(options.mixture, overrides)
    left_out: dict[str, int] = {}
    with progress_bar("opening the data sets") as progress:

        def show(name: str, now: "IngestProgress") -> None:
            left_out[name] = now.num_quarantined
            progress.say(f"{name}: {now.num_rows:,} frames, {now.num_quarantined} episodes left out")
            progress(now.done_episodes, now.num_episodes)

        mixture = ingest_mixture(config, options.target, options.workers, options.size, show)
    for name, count in left_out.items():
        if count:
            sys.stderr.write(f"{count} episodes left out: {options.target / name / 'quarantine.jsonl'}\n")
    sys.stdout.write(f"{mixture}\n")


def _verify(options: argparse.Namespace, overrides: Overrides) -> None:
    from data_mixtures.shards.layout import is_shards
    from data_mixtures.shards.verify import verify

    _no_overrides("verify", overrides)
    inside = [path for path in sorted(options.shards.glob("*")) if is_shards(path)]  # of a whole mixture
    folders = [options.shards] if is_shards(options.shards) or not inside else inside
    damage = []
    with progress_bar("") as progress:
        for folder in folders:
            progress.say(f"{folder.name}: bytes read")
            damage += [(folder, defect) for defect in verify(folder, progress)]
    for folder, defect in damage:
        sys.stdout.write(f"{folder}: {defect.key}: {defect.detail} ({defect.kind})\n")
    if damage:
        raise RuntimeError(f"{len(damage)} episodes or files are not what was written: ingest or copy them again.")
    sys.stdout.write(f"every byte of {options.shards} is what was written\n")


def _no_overrides(command: str, overrides: Overrides) -> None:
    if overrides:
        raise RecipeError(f"`vla data {command}` has no option --{', --'.join(overrides)}; see its --help.")


# ---------------------------------------------------------------------------------------------------------- terminal


class _Bar:
    """A progress bar's handle: call it with (done, total), or let it say what goes on now."""

    def __init__(self, progress: "Progress", words: str) -> None:
        self._progress, self._task = progress, progress.add_task(words, total=None)

    def __call__(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)

    def say(self, words: str) -> None:
        self._progress.update(self._task, description=words)


@contextmanager
def progress_bar(words: str) -> "Iterator[_Bar]":
    """A progress bar on standard error, gone when it is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _Bar(progress, words)


@contextmanager
def _waiting(words: str) -> Iterator[None]:
    """A line on standard error while something runs."""
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(words)):
        yield


def _write_json(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
