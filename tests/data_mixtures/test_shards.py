"""Frames out of shards: the right ones, in order, checked."""

import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from array_reader import TEXTS, ArrayReader

from data_mixtures.defects import BadEpisodeError
from data_mixtures.shards import layout
from data_mixtures.shards.encoder import GOP
from data_mixtures.shards.ingest import ingest
from data_mixtures.shards.shard_frames import open_shards
from data_mixtures.shards.verify import verify
from data_mixtures.storage.frames import fit_square

SIZE = 48
LENGTHS = (20, 1, 8, 9, 33)
OPEN = partial(ArrayReader, LENGTHS)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards") / "set"
    ingest(OPEN, root, name="set", size=SIZE)
    return root


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "set"))


def flip(path: Path, place: int) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 0x10
    path.write_bytes(damaged)


def test_rows_come_in_the_order_asked_for_and_look_like_the_originals(shards: Path) -> None:
    index, frames = open_shards(shards)
    reader = OPEN()
    rows = np.random.default_rng(0).permutation(np.r_[np.arange(index.num_rows), [3, 3, 70, 0]])
    for camera in reader.cameras:
        images = frames.images(camera, rows, SIZE)
        assert images.dtype == np.uint8
        assert images.shape == (len(rows), 3, SIZE, SIZE)
        episodes = index.episode_of(rows)
        for image, row, episode in zip(images, rows, episodes, strict=True):
            number = np.array([row - index.first_row[episode]])
            original = fit_square(reader.frames(int(episode), camera, number), SIZE)[0]
            # neighbouring frames are 5 % of a wave apart (20 levels on average), other episodes and cameras more
            assert np.abs(original.astype(int) - image).mean() < 6
    there, back = (frames.images("front", np.array(rows), SIZE) for rows in ([3, 40], [40, 3]))
    assert np.array_equal(there, back[::-1])


def test_no_rows_give_no_images(shards: Path) -> None:
    assert open_shards(shards)[1].images("front", np.array([], dtype=np.int64), SIZE).shape == (0, 3, SIZE, SIZE)


def test_another_size_is_resized_like_everywhere_else(shards: Path) -> None:
    _, frames = open_shards(shards)
    rows = np.array([5, 30, 6])
    stored = frames.images("front", rows, SIZE)
    expected = fit_square(np.ascontiguousarray(stored.transpose(0, 2, 3, 1)), 32)
    assert np.array_equal(frames.images("front", rows, 32), expected)


def test_numerics_and_texts_are_the_readers(shards: Path) -> None:
    index, _ = open_shards(shards)
    reader = OPEN()
    episode = reader.episode(3)
    rows = np.arange(*index.first_row[3:5])
    numerics = index.numerics(rows)
    assert np.array_equal(numerics.state[:, :8], episode.numerics.state[:, :8])
    assert np.array_equal(numerics.action_mask, episode.numerics.action_mask)
    assert index.instructions(rows[:1]) == [TEXTS[0]]
    assert index.subtasks(rows[[0, -1]]) == ["reach", "grasp"]


def test_wrong_questions_say_what_there_is(shards: Path, tmp_path: Path) -> None:
    _, frames = open_shards(shards)
    with pytest.raises(ValueError, match="'top'.*front"):
        frames.images("top", np.array([0]), SIZE)
    with pytest.raises(ValueError, match="has 71"):
        frames.images("front", np.array([71]), SIZE)
    with pytest.raises(ValueError, match="vla data ingest"):
        open_shards(tmp_path)
    assert layout.is_shards(shards)
    assert not layout.is_shards(tmp_path)


def test_goes_to_another_process(shards: Path) -> None:
    _, frames = open_shards(shards)
    rows = np.arange(7)
    copy = pickle.loads(pickle.dumps(frames))
    assert np.array_equal(copy.images("front", rows, SIZE), frames.images("front", rows, SIZE))


def test_damage_names_its_episode_and_spares_the_others(copied: Path) -> None:
    index, frames = open_shards(copied)
    offsets = np.load(copied / "camera-01" / "offsets.npy")
    flip(copied / "camera-01" / "shard-00000.bin", int(offsets[21]) + 3)  # the first frame of episode 2
    with pytest.raises(BadEpisodeError, match="made-up-2.*checksum"):
        frames.images("wrist/left", np.arange(index.num_rows), SIZE)
    others = np.delete(np.arange(index.num_rows), np.arange(21, 29))
    assert len(frames.images("wrist/left", others, SIZE)) == len(others)
    assert len(frames.images("front", np.arange(index.num_rows), SIZE)) == index.num_rows
    (defect,) = verify(copied)
    assert (defect.key, defect.kind) == ("made-up-2", "checksum")
    assert "1 of 1 groups" in defect.detail


def test_a_cut_or_replaced_shard_is_noticed_in_mid_run(copied: Path) -> None:
    _, frames = open_shards(copied)
    rows = np.array([0, 70])
    frames.images("front", rows, SIZE)
    path = copied / "camera-00" / "shard-00000.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(BadEpisodeError, match="made-up-4.*truncated"):
        frames.images("front", rows, SIZE)
    assert [defect.kind for defect in verify(copied)] == ["truncated"]
    with pytest.raises(ValueError, match="copy the data set again"):
        open_shards(copied)
    path.with_name("other").write_bytes(whole)
    path.with_name("other").replace(path)
    with pytest.raises(BadEpisodeError, match="changed"):
        frames.images("front", rows, SIZE)
    assert verify(copied) == []


def test_verify_finds_every_damaged_file(shards: Path, tmp_path: Path) -> None:
    assert verify(shards) == []
    for number, name in enumerate(layout.read_meta(shards).files):
        copy = Path(shutil.copytree(shards, tmp_path / str(number)))
        if not (size := (copy / name).stat().st_size):
            continue
        flip(copy / name, size - 1)
        assert verify(copy), name
        if not name.endswith(".bin"):
            with pytest.raises(ValueError, match=Path(name).name):
                open_shards(copy)
        (copy / name).unlink()
        assert "unreadable" in [defect.kind for defect in verify(copy)], name
        with pytest.raises(ValueError, match="missing"):
            open_shards(copy)


@pytest.mark.parametrize("seed", range(6))
def test_random_damage_is_an_error_or_harmless(copied: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected = open_shards(copied)[1].images("front", np.arange(71), SIZE)
    for path in sorted(path for path in copied.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        if not whole:
            continue
        place = int(rng.integers(len(whole)))
        for damaged in (
            whole[:place],
            whole[:place] + rng.bytes(5) + whole[place:],
            whole[:place] + bytes([whole[place] ^ int(rng.integers(1, 256))]) + whole[place + 1 :],
        ):
            path.write_bytes(damaged)
            try:
                images = open_shards(copied)[1].images("front", np.arange(71), SIZE)
            except ValueError:  # BadEpisodeError is one
                continue
            assert np.array_equal(images, expected), path
        path.write_bytes(whole)


def test_groups_begin_with_their_episodes(shards: Path) -> None:
    checksums = np.load(shards / "camera-00" / "crc32.npy")
    assert len(checksums) == sum(-(-length // GOP) for length in LENGTHS)
