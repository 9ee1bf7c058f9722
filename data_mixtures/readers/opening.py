"""The one place that knows every format: which folder is which, and which reader opens it."""

from collections.abc import Callable
from pathlib import Path

from data_mixtures.config import DatasetConfig, Format
from data_mixtures.readers.agibot import AgiBotReader, is_agibot
from data_mixtures.readers.calvin import CalvinReader, is_calvin
from data_mixtures.readers.d4rl import D4rlReader, is_d4rl
from data_mixtures.readers.egodex import EgoDexReader, is_egodex
from data_mixtures.readers.lerobot import LeRobotReader, is_lerobot
from data_mixtures.readers.libero_hdf5 import LiberoHdf5Reader, is_libero_hdf5
from data_mixtures.readers.reader import Reader
from data_mixtures.readers.rlds import RldsReader, is_rlds
from data_mixtures.readers.video_folder import VideoFolderReader, is_video_folder
from data_mixtures.shards.layout import is_shards
from data_mixtures.storage.remote import localise

# In this order: a folder of videos is what is left when it is nothing more.
_LOOKS_LIKE: tuple[tuple[Format, Callable[[Path], bool]], ...] = (
    ("shards", is_shards),
    ("lerobot", is_lerobot),
    ("rlds", is_rlds),
    ("agibot", is_agibot),
    ("libero", is_libero_hdf5),
    ("egodex", is_egodex),
    ("d4rl", is_d4rl),
    ("calvin", is_calvin),
    ("video", is_video_folder),
)

# Which formats a field of the config says something to.
_TAKERS: dict[str, tuple[Format, ...]] = {
    "split": ("rlds", "calvin", "d4rl"),
    "spec": ("rlds",),
    "fps": ("video",),
    "embodiment": ("lerobot",),
}


def detect_format(root: Path) -> Format:
    """What a folder looks like, without reading its episodes.

    Raises:
        ValueError: it does not exist, or looks like none of the formats.
    """
    if not root.exists():
        raise ValueError(f"no data set at {root}: {root.resolve()} does not exist")
    for name, looks_like in _LOOKS_LIKE:
        if looks_like(root):
            return name
    raise ValueError(
        f"{root} looks like no format that is read: LeRobot (meta/info.json), RLDS (features.json and .tfrecord "
        "files), AgiBot World (task_info/), EgoDex (hdf5 beside mp4), LIBERO (*_demo.hdf5), D4RL (hopper_*.hdf5), "
        "CALVIN (ep_start_end_ids.npy), a captions file, videos (deeper than one folder down only with "
        "`format: video`), or training shards. Point at the folder that holds these; docs/data.md describes each"
    )


def open_reader(config: DatasetConfig) -> Reader:
    """The reader of a data set in a published format, behind a URL too (shards are opened by `open_shards`).

    Raises:
        ValueError: the folder is no data set of its format, or the format needs what the config does not say.
    """
    root = localise(config.path)
    found = detect_format(root) if config.format == "auto" else config.format
    for field, takers in _TAKERS.items():
        if found not in takers and getattr(config, field) is not None:
            raise ValueError(f"{field} is given, but {config.path} is {found}: only {_words(takers)} data sets take it")
    if found == "lerobot":
        return _open_lerobot(root, config)
    if found == "rlds":
        return RldsReader(root, config.split, config.spec)
    if found == "agibot":
        return AgiBotReader(root)
    if found == "egodex":
        return EgoDexReader(root)
    if found == "libero":
        return LiberoHdf5Reader(root)
    if found == "d4rl":
        return D4rlReader(root, config.split)
    if found == "calvin":
        return CalvinReader(root, config.split)
    if found == "video":
        return VideoFolderReader(root, config.fps)
    raise ValueError(f"{config.path} holds training shards already: train from them as they are")


def _open_lerobot(root: Path, config: DatasetConfig) -> Reader:
    """With its labels where its robot is known, even if they are not to be shown: what is cached of it then serves."""
    try:
        return LeRobotReader(root, config.embodiment)
    except ValueError:
        if config.labelled_share > 0:
            raise
        return LeRobotReader(root, config.embodiment, video_only=True)


def _words(formats: tuple[Format, ...]) -> str:
    return " and ".join(filter(None, [", ".join(formats[:-1]), formats[-1]]))
