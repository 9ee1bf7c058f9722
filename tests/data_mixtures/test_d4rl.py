"""D4RL's files: where episodes end, what their numbers are, and words for what is missing or damaged."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from d4rl_files import rows, write_file

from data_mixtures.config import DatasetConfig
from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers.d4rl import D4rlReader
from data_mixtures.readers.opening import detect_format, open_reader
from data_mixtures.storage.dataset import open_dataset

NAME = "hopper_medium_replay-v2"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve steps: a fall after step 3, the limit after step 8, three steps that belong to no ended episode."""
    write_file(tmp_path / f"{NAME}.hdf5", 12, falls=[3], timeouts=[8])
    return tmp_path


def test_episodes_end_where_a_flag_says_so(root: Path) -> None:
    assert detect_format(root) == "d4rl"
    reader = open_reader(DatasetConfig(str(root)))
    assert [reader.key(i) for i in range(len(reader))] == [f"{NAME}/{i}" for i in range(3)]
    assert [len(reader.episode(i)) for i in range(3)] == [4, 5, 3]
    assert [reader.episode(i).info["fallen"] for i in range(3)] == [True, False, False]
    assert [reader.episode(i).info["return"] for i in range(3)] == [0 + 1 + 2 + 3, 4 + 5 + 6 + 7 + 8, 9 + 10 + 11]
    assert not reader.defects


def test_two_flags_on_one_row_end_one_episode(tmp_path: Path) -> None:
    write_file(tmp_path / f"{NAME}.hdf5", 6, falls=[2, 5], timeouts=[2])
    assert [len(D4rlReader(tmp_path).episode(i)) for i in range(2)] == [3, 3]


def test_numbers_are_taken_as_they_are(root: Path) -> None:
    episode = open_reader(DatasetConfig(str(root))).episode(1)
    expected = rows("hopper", 12)
    numerics = episode.numerics
    np.testing.assert_array_equal(numerics.state[:, :11], expected["observations"][4:9])
    np.testing.assert_array_equal(numerics.actions[:, :3], expected["actions"][4:9])
    assert numerics.state_mask.sum() == 5 * 11
    assert numerics.action_mask.sum() == 5 * 3
    assert episode.space == "recorded"
    assert (episode.fps, episode.robot_type, episode.cameras) == (125.0, "gymnasium_hopper", [])


@pytest.mark.parametrize(("robot", "fps"), [("halfcheetah", 20.0), ("walker2d", 125.0)])
def test_other_robots(tmp_path: Path, robot: str, fps: float) -> None:
    write_file(tmp_path / f"{robot}_expert-v2.hdf5", 4, timeouts=[3], robot=robot)
    episode = D4rlReader(tmp_path).episode(0)
    assert (episode.fps, episode.robot_type) == (fps, f"gymnasium_{robot}")
    assert episode.numerics.state_mask[0].sum() == 17


def test_one_of_several_files_is_named(root: Path) -> None:
    write_file(root / "halfcheetah_medium-v2.hdf5", 5, timeouts=[4], robot="halfcheetah")
    with pytest.raises(ValueError, match="holds halfcheetah_medium-v2, hopper_medium_replay-v2; name one"):
        open_reader(DatasetConfig(str(root)))
    with pytest.raises(ValueError, match="no 'hopper'"):
        open_reader(DatasetConfig(str(root), split="hopper"))
    assert open_reader(DatasetConfig(str(root), split="halfcheetah_medium-v2")).robot_type == "gymnasium_halfcheetah"
    fingerprints = {open_reader(DatasetConfig(str(root), split=s)).fingerprint for s in (NAME, "halfcheetah_medium-v2")}
    assert len(fingerprints) == 2


def test_words_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"hopper_medium_replay-v2\.hdf5.*locomotion_data\.yaml"):
        open_reader(DatasetConfig(str(tmp_path), format="d4rl"))


@pytest.mark.parametrize(
    ("name", "table", "kind"),
    [
        ("observations", np.full((12, 11), np.nan), "not_finite"),
        ("observations", np.zeros((12, 17)), "column"),
        ("observations", np.full((12, 11), 1e5), "column"),
        ("actions", np.full((12, 3), 2.0), "column"),
        ("actions", np.zeros((7, 3)), "length"),
        ("rewards", None, "column"),
    ],
)
def test_bad_tables_are_named_by_episode(root: Path, name: str, table: np.ndarray | None, kind: str) -> None:
    with h5py.File(root / f"{NAME}.hdf5", "a") as file:
        del file[name]
        if table is not None:
            file[name] = table
    with pytest.raises(BadEpisodeError) as error:
        D4rlReader(root).episode(2)
    assert (error.value.defect.key, error.value.defect.kind) == (f"{NAME}/2", kind)


@pytest.mark.parametrize("flags", ["terminals", "timeouts"])
def test_a_file_that_does_not_say_where_episodes_end(root: Path, flags: str) -> None:
    with h5py.File(root / f"{NAME}.hdf5", "a") as file:
        del file[flags]
    reader = D4rlReader(root)
    assert len(reader) == 0
    assert [(d.key, d.kind) for d in reader.defects] == [(f"{NAME}.hdf5", "column")]


def test_a_bad_episode_is_left_out_of_the_data_set(root: Path) -> None:
    with h5py.File(root / f"{NAME}.hdf5", "a") as file:
        actions = file["actions"]
        assert isinstance(actions, h5py.Dataset)
        actions[5, 0] = np.inf
    dataset = open_dataset(DatasetConfig(str(root)), [], 16, 1.0)
    assert dataset.index.num_episodes == 2
    assert [(d.key, d.kind) for d in dataset.index.quarantined] == [(f"{NAME}/1", "not_finite")]


def test_a_cut_file(root: Path) -> None:
    path = root / f"{NAME}.hdf5"
    path.write_bytes(path.read_bytes()[:-200])
    reader = D4rlReader(root)
    assert [d.kind for d in reader.defects] == ["truncated"]
