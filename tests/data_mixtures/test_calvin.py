"""CALVIN's folders: recordings and annotated spans, numbers as recorded, and pickles of which nothing runs."""

import os
from pathlib import Path

import numpy as np
import pytest
from calvin_files import action, picture, state, write_annotations, write_frame, write_split

from data_mixtures.config import DatasetConfig
from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers.calvin import CalvinReader
from data_mixtures.readers.calvin_language import read_annotations
from data_mixtures.readers.opening import detect_format, open_reader
from data_mixtures.storage.dataset import open_dataset

SPANS = [(3, 12), (20, 24)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_split(tmp_path / "training", SPANS)
    return tmp_path


def test_recordings(root: Path) -> None:
    assert detect_format(root) == "calvin"
    reader = open_reader(DatasetConfig(str(root)))
    assert [reader.key(i) for i in range(len(reader))] == ["play_0", "play_1"]
    episode = reader.episode(0)
    assert (len(episode), episode.instruction, episode.subtasks, episode.fps) == (10, "", [], 30.0)
    np.testing.assert_allclose(episode.numerics.state[:, :39], [state(n) for n in range(3, 13)], atol=1e-6)
    np.testing.assert_allclose(episode.numerics.actions[:, :7], [action(n) for n in range(3, 13)], atol=1e-6)
    assert episode.numerics.state_mask[0].sum() == 39
    assert episode.numerics.action_mask[0].sum() == 7
    assert (episode.space, episode.robot_type) == ("recorded", "calvin_scene")


def test_pictures(root: Path) -> None:
    reader = CalvinReader(root)
    numbers = np.array([4, 0, 4])
    np.testing.assert_array_equal(reader.frames(1, "primary", numbers), [picture(20 + n, 20) for n in numbers])
    np.testing.assert_array_equal(reader.episode(1).frames("wrist", numbers), [picture(20 + n, 8) for n in numbers])
    with pytest.raises(BadEpisodeError, match="5 frames, 5 was asked"):
        reader.frames(1, "primary", np.array([5]))


def test_annotations_are_subtasks_of_recordings(root: Path) -> None:
    write_annotations(root / "training", [(4, 6), (6, 8), (21, 24)], ["push", "lift", "close it"], ["a", "b", "c"])
    reader = open_reader(DatasetConfig(str(root), split="training"))
    assert reader.episode(0).subtasks == [(1, "push"), (3, "lift"), (6, "")]
    assert reader.episode(1).subtasks == [(1, "close it")]


def test_annotated_spans_as_episodes(root: Path) -> None:
    write_annotations(root / "training", [(21, 24), (4, 6)], ["close the drawer", "go left"], ["close_drawer", "slide"])
    reader = open_reader(DatasetConfig(str(root), split="training/lang_annotations"))
    episode = reader.episode(0)
    assert (reader.key(0), len(episode), episode.instruction) == ("lang_0", 4, "close the drawer")
    assert episode.info["task"] == "close_drawer"
    np.testing.assert_allclose(episode.numerics.state[0, :39], state(21), atol=1e-6)
    assert reader.fingerprint != CalvinReader(root, "training").fingerprint


class _Harm:
    """Pickled, it makes a folder when it is loaded by what trusts it."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.place,)


def test_nothing_in_annotations_is_run(root: Path, tmp_path: Path) -> None:
    path = write_annotations(root / "training", [(4, 6)], ["push"], ["a"])
    made = tmp_path / "made"
    np.save(path, np.array({"language": _Harm(made)}, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"it names posix\.mkdir.*without its annotations"):
        read_annotations(path)
    assert not made.exists()
    np.load(path, allow_pickle=True)  # what trusts it would have
    assert made.exists()


@pytest.mark.parametrize("kept", [0, 6, 100, 300])
def test_cut_annotations(root: Path, kept: int) -> None:
    path = write_annotations(root / "training", [(4, 6)], ["push"], ["a"])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="no file of CALVIN's language annotations"):
        CalvinReader(root)


def test_words_for_splits(root: Path) -> None:
    with pytest.raises(ValueError, match="does not exist: leave /lang_annotations out"):
        CalvinReader(root, "training/lang_annotations")
    with pytest.raises(ValueError, match=r"has \['training'\]"):
        CalvinReader(root, "validation")
    write_split(root / "validation", [(0, 1)])
    with pytest.raises(ValueError, match="training and validation; name one"):
        CalvinReader(root)
    assert len(CalvinReader(root / "validation")) == 1
    with pytest.raises(ValueError, match=r"expected ep_start_end_ids\.npy.*task_D_D"):
        CalvinReader(root / "training" / "no")


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        ({"robot_obs": np.full(15, np.nan)}, "not_finite"),
        ({"robot_obs": np.zeros(14)}, "column"),
        ({"scene_obs": np.zeros(0)}, "column"),
        ({"scene_obs": np.full(24, 1e4)}, "column"),
        ({"rel_actions": np.full(7, 1.5)}, "column"),
    ],
)
def test_bad_frames_are_named_by_episode(root: Path, other: dict[str, np.ndarray], kind: str) -> None:
    write_frame(root / "training", 22, **other)
    reader = CalvinReader(root)
    assert len(reader.episode(0)) == 10
    with pytest.raises(BadEpisodeError) as error:
        reader.episode(1)
    assert (error.value.defect.key, error.value.defect.kind) == ("play_1", kind)


def test_a_missing_and_a_damaged_frame_are_left_out(root: Path) -> None:
    (root / "training" / "episode_0000005.npz").unlink()
    dataset = open_dataset(DatasetConfig(str(root)), [], 16, 1.0)
    assert dataset.index.num_episodes == 1
    assert [(d.key, d.kind) for d in dataset.index.quarantined] == [("play_0", "unreadable")]
    path = root / "training" / "episode_0000021.npz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadEpisodeError, match="episode_0000021.npz cannot be read"):
        CalvinReader(root).episode(1)


def test_random_damage_of_frames_and_annotations(root: Path) -> None:
    annotations = write_annotations(root / "training", [(4, 6), (21, 24)], ["push", "close it"], ["a", "b"])
    frame, draws = root / "training" / "episode_0000005.npz", np.random.default_rng(0)
    for path in (annotations, frame):
        whole = path.read_bytes()
        for _ in range(40):
            changed = bytearray(whole)
            for _ in range(draws.integers(1, 9)):
                changed[draws.integers(len(changed))] = draws.integers(256)
            path.write_bytes(changed)
            try:
                episode = CalvinReader(root).episode(0)
                episode.frames("primary", np.arange(len(episode)))
            except BadEpisodeError as error:
                assert error.defect.key == "play_0"  # noqa: PT017
            except ValueError as error:
                assert str(annotations) in str(error)  # noqa: PT017
        path.write_bytes(whole)
