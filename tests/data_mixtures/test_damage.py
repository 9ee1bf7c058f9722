"""Random damage to data sets of every format: a named defect, an error at opening, or data that can be.

Where a format carries checksums it is the right data or none.
"""

import json
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import agibot_files
import egodex_files
import lerobot_v2_files as v2
import libero_files
import numpy as np
import pytest
import rlds_files
from array_reader import ArrayReader
from damages import damaged_copy
from recorded import moving_frames, write_dataset

from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.defects import BadEpisodeError
from data_mixtures.mixture import Mixture
from data_mixtures.readers.opening import detect_format, open_reader
from data_mixtures.readers.reader import Reader
from data_mixtures.readers.shards import ShardsReader
from data_mixtures.shards.ingest import ingest

Form = Callable[[Path], Path]
SEEDS = range(24)  # a format; 1,000 to 2,800 others of each were run when this was written


def lerobot_v2(root: Path) -> Path:
    return v2.write_v2(root / "set", [6, 7, 8])


def gr00t(root: Path) -> Path:
    return v2.write_v2(root / "set", [6, 7], gr00t=True, version="v2.0")


def lerobot_images(root: Path) -> Path:
    return v2.write_v2(root / "set", [4, 5], image_dtype=True, size=16, fixed_size_lists=True)


def lerobot_v3(root: Path) -> Path:
    return write_dataset(root / "set", [10, 11, 12], ("corner", "wrist"))


def rlds(root: Path) -> Path:
    episodes = [rlds_files.bridge_episode(length, seed) for seed, length in enumerate((4, 5, 6, 7))]
    splits = {"train": [episodes[:2], episodes[2:3]], "val": [episodes[3:]]}
    return rlds_files.write_rlds(root / "set" / "1.0.0", "bridge_dataset", rlds_files.BRIDGE, splits).parent


def agibot(root: Path) -> Path:
    for episode, length in ((10, 12), (11, 9)):
        agibot_files.write_episode(root / "set", 327, episode, length)
    agibot_files.write_task_info(root / "set", 327, [10, 11])
    return root / "set"


def agibot_tars(root: Path) -> Path:
    return agibot_files.pack(agibot(root), root / "tars")


def egodex(root: Path) -> Path:
    for number in range(2):
        egodex_files.write_episode(root / "set", f"part1/fold/{number}", egodex_files.recording(10, number))
    return root / "set"


def libero(root: Path) -> Path:
    libero_files.write_task(root / "set" / "a_demo.hdf5", {0: 12, 1: 9})
    libero_files.write_task(root / "set" / "b_demo.hdf5", {0: 8})
    return root / "set"


def videos(root: Path) -> Path:
    for name, codec, b_frames in (("a.mp4", "libx264", 2), ("b.webm", "libvpx-vp9", 0), ("c/d.mkv", "libx264", 2)):
        v2.write_video(root / "set" / name, moving_frames(9, 32, 0), codec=codec, b_frames=b_frames)
    spans = [{"start_s": 0, "text": "reach"}, {"start_s": 0.2, "end_s": 0.3, "text": "pull"}]
    captions = {"a.mp4": {"text": "open it", "subtasks": spans}, "b.webm": "shut it"}
    (root / "set" / "captions.json").write_text(json.dumps(captions))
    return root / "set"


def shards(root: Path) -> Path:
    ingest(partial(ArrayReader, (9, 5, 20), height=24, width=32), root / "set", name="set", size=32)
    return root / "set"


FORMATS = (lerobot_v2, gr00t, lerobot_images, lerobot_v3, rlds, agibot, agibot_tars, egodex, libero, videos, shards)
CHECKSUMMED: dict[Form, tuple[str, ...]] = {rlds: (".json",), shards: ()}  # but for files of these endings


def opened(root: Path) -> Reader:
    if detect_format(root) == "shards":
        return ShardsReader(root)
    return open_reader(DatasetConfig(str(root)))


def content(reader: Reader, index: int) -> tuple[object, ...]:
    """All that an episode gives, after a look whether it can be."""
    episode = reader.episode(index)
    numerics, length = episode.numerics, len(episode)
    arrays = [numerics.state, numerics.state_mask, numerics.actions, numerics.action_mask]
    assert [len(array) for array in arrays] == [length] * 4
    assert length > 0
    assert np.isfinite(numerics.state).all()
    assert np.isfinite(numerics.actions).all()
    assert 0 < episode.fps < 1e6
    starts = [start for start, _ in episode.subtasks]
    assert starts == sorted(set(starts))
    assert all(0 <= start < length for start in starts)
    assert all(isinstance(text, str) for text in (episode.instruction, *(text for _, text in episode.subtasks)))
    frames = {}
    for camera in episode.cameras:
        pictures = episode.frames(camera)
        assert (len(pictures), pictures.dtype, pictures.shape[3]) == (length, np.uint8, 3)
        frames[camera] = pictures.tobytes()
    return (episode.instruction, *episode.subtasks, *(array.tobytes() for array in arrays), *sorted(frames.items()))


def contents(reader: Reader) -> list[tuple[object, ...] | None]:
    """Of every episode; None where it is named as bad."""
    found: list[tuple[object, ...] | None] = []
    for index in range(len(reader)):
        try:
            found.append(content(reader, index))
        except BadEpisodeError:
            found.append(None)
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Form], Path]:
    return cache(lambda form: form(tmp_path_factory.mktemp(form.__name__)))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.__name__)
def test_random_damage(form: Form, written: Callable[[Form], Path], tmp_path: Path) -> None:
    source = written(form)
    whole = contents(opened(source))
    assert None not in whole
    outcomes = {"refused": 0, "named": 0, "right": 0, "other": 0}
    for seed in SEEDS:
        root = tmp_path / str(seed)
        damaged = damaged_copy(source, root, seed, spare_hdf5=True)
        try:
            reader = opened(root)
            found = contents(reader)
            outcomes["named"] += found.count(None) + len(reader.defects)
            good = [item for item in found if item is not None]
            outcomes["right"] += sum(item in whole for item in good)
            different = [item for item in good if item not in whole]
            outcomes["other"] += len(different)
            if form in CHECKSUMMED and damaged.suffix not in CHECKSUMMED[form]:
                assert not different, f"seed {seed}: damage to {damaged} gave other data"
        except BadEpisodeError as error:
            pytest.fail(f"seed {seed}: opening raised what only an episode may: {error}")
        except ValueError as error:
            outcomes["refused"] += 1
            assert str(root) in str(error), f"seed {seed}: does not say which data set"  # noqa: PT017
        shutil.rmtree(root)
    assert outcomes["named"] + outcomes["refused"] > len(SEEDS) / 4, outcomes
    assert outcomes["right"] > len(SEEDS) / 2 or form is shards, outcomes  # whose small files are checked at opening


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.__name__)
def test_a_mixture_of_damaged_data_gives_batches_or_says_why(
    form: Form, written: Callable[[Form], Path], tmp_path: Path
) -> None:
    """With the episodes that only decoding finds, and the caches that are made of it all."""
    source = written(form)
    camera, gave = opened(source).cameras[0], 0
    for seed in range(1000, 1008):
        root = tmp_path / str(seed)
        damaged_copy(source, root, seed, spare_hdf5=True)
        dataset = DatasetConfig(str(root), labelled_share=float(seed % 2))
        config = MixtureConfig([dataset], [camera], WindowConfig(2, 3), 16, decoded_gib=float(seed % 3 == 0))
        try:
            mixture = Mixture(config, seed=0)
            batch = mixture.batch(range(8))
            mixture.normalisation()
        except BadEpisodeError as error:
            pytest.fail(f"seed {seed}: {error}")
        except ValueError:
            continue
        gave += 1
        assert np.isfinite(batch.state.numpy()).all()
        assert np.isfinite(batch.actions.numpy()).all()
    assert gave > 0
