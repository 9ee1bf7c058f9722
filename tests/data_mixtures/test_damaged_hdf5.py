"""Random damage to AgiBot World, EgoDex, LIBERO, D4RL: a named defect or numbers that can be, no other exception."""

import shutil
from collections.abc import Callable
from pathlib import Path

import agibot_files
import d4rl_files
import egodex_files
import libero_files
import numpy as np
import pytest

from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers.agibot import AgiBotReader
from data_mixtures.readers.d4rl import D4rlReader
from data_mixtures.readers.egodex import EgoDexReader
from data_mixtures.readers.libero_hdf5 import LiberoHdf5Reader
from data_mixtures.readers.reader import Reader

DAMAGES = 20


def agibot(root: Path) -> Path:
    agibot_files.write_episode(root / "folders", 327, 10, 12)
    agibot_files.write_task_info(root / "folders", 327, [10])
    return root / "folders"


def agibot_tars(root: Path) -> Path:
    return agibot_files.pack(agibot(root), root / "tars")


def egodex(root: Path) -> Path:
    egodex_files.write_episode(root / "egodex", "part1/fold/0", egodex_files.recording(12))
    return root / "egodex"


def libero(root: Path) -> Path:
    libero_files.write_task(root / "libero" / "a_demo.hdf5", {0: 12, 1: 9})
    return root / "libero"


def d4rl(root: Path) -> Path:
    d4rl_files.write_file(root / "d4rl" / "hopper_medium-v2.hdf5", 30, falls=[9], timeouts=[21])
    return root / "d4rl"


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, mostly among the headers at the front; cut off; or put in."""
    kind, place = rng.integers(6), int(rng.integers(len(content)))
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + rng.bytes(int(rng.integers(1, 64))) + content[place:]
    changed = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        changed[rng.integers(min(len(changed), 6000) if kind < 5 else len(changed))] = rng.integers(256)
    return bytes(changed)


def read_all(reader: Reader) -> None:
    for index in range(len(reader)):
        try:
            episode = reader.episode(index)
            numerics = episode.numerics
            assert np.isfinite(numerics.state).all()
            assert np.isfinite(numerics.actions).all()
            assert np.abs(numerics.state).max() <= 1000
            for camera in episode.cameras:
                frames = reader.frames(index, camera, np.array([len(episode) - 1, 0]))
                assert frames.shape[0] == 2
                assert frames.dtype == np.uint8
        except BadEpisodeError:
            continue


@pytest.mark.parametrize(
    ("write", "open_reader"),
    [
        *((agibot, AgiBotReader), (agibot_tars, AgiBotReader), (egodex, EgoDexReader)),
        *((libero, LiberoHdf5Reader), (d4rl, D4rlReader)),
    ],
)
def test_random_damage(write: Callable[[Path], Path], open_reader: Callable[[Path], Reader], tmp_path: Path) -> None:
    source = write(tmp_path)
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.suffix != ".png")
    rng = np.random.default_rng(0)
    for turn in range(DAMAGES):
        root = shutil.copytree(source, tmp_path / str(turn))
        path = root / files[rng.integers(len(files))]
        path.write_bytes(damaged(path.read_bytes(), rng))
        try:
            read_all(open_reader(root))
        except BadEpisodeError:
            raise
        except ValueError as error:
            assert str(root) in str(error)  # noqa: PT017 - nothing of the set could be opened, and it says which
        shutil.rmtree(root)
