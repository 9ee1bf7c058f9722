"""An index holds what its episodes held; joined parts are the same as one."""

from pathlib import Path

import numpy as np
import pytest

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode
from data_mixtures.spaces.unified import Numerics, no_numerics
from data_mixtures.storage.index import Index, IndexWriter, merge_indices


def _episode(length: int, seed: int, *, dims: tuple[int, ...] = (0, 1, 2, 6), camera: bool = False) -> Episode:
    rng = np.random.default_rng(seed)
    numerics = no_numerics(length)
    state_mask, action_mask = numerics.state_mask, numerics.action_mask
    state_mask[:, [0, 1, 2, 7]] = True
    action_mask[:-1, list(dims)] = True
    state = np.where(state_mask, rng.normal(size=state_mask.shape), 0).astype(np.float32)
    actions = np.where(action_mask, rng.normal(size=action_mask.shape), 0).astype(np.float32)
    return Episode(
        key=f"e{seed}",
        instruction=f"task {seed % 2}",
        subtasks=[(0, "reach"), (3, ""), (5, f"move {seed % 3}")] if seed % 2 else [],
        fps=10.0 + seed,
        robot_type="arm",
        numerics=Numerics(state, state_mask, actions, action_mask),
        cameras=["primary"],
        read_frames=lambda camera, numbers: np.zeros((len(numbers), 4, 4, 3), dtype=np.uint8),
        info={"camera_rotation": rng.normal(size=(length, 3, 3)).astype(np.float32)} if camera else {},
    )


def _write(folder: Path, episodes: list[Episode], first: int = 0, defects: tuple[Defect, ...] = ()) -> Path:
    writer = IndexWriter(folder)
    for number, episode in enumerate(episodes, start=first):
        writer.add(episode, number)
    writer.finish(name="set", cameras=["primary"], robot_type="arm", fingerprint="f", quarantined=defects)
    return folder


@pytest.mark.parametrize("camera", [False, True])
def test_rows_come_back(tmp_path: Path, camera: bool) -> None:
    episodes = [_episode(length, seed, camera=camera) for seed, length in enumerate((7, 9, 1))]
    index = Index(_write(tmp_path / "i", episodes, defects=(Defect("bad", "video", "no frames"),)))
    assert (index.num_rows, index.num_episodes) == (17, 3)
    assert index.meta.state_dims == [0, 1, 2, 7]
    assert index.quarantined == [Defect("bad", "video", "no frames")]
    rows = np.array([[0, 6], [7, 15], [16, 12]])
    assert index.episode_of(rows).tolist() == [[0, 0], [1, 1], [2, 1]]
    assert index.last_row(rows).tolist() == [[6, 6], [15, 15], [16, 15]]
    got = index.numerics(rows)
    for place in np.ndindex(rows.shape):
        row = int(rows[place])
        episode = episodes[int(index.episode_of(rows)[place])]
        frame = row - int(index.first_row[index.episode_of(rows)[place]])
        for name in ("state", "state_mask", "actions", "action_mask"):
            np.testing.assert_array_equal(getattr(got, name)[place], getattr(episode.numerics, name)[frame])
        turns = index.camera_rotation(rows)
        if camera and turns is not None:
            np.testing.assert_array_equal(turns[place], episode.info["camera_rotation"][frame])  # pyright: ignore
        else:
            assert turns is None
    assert index.instructions(np.array([0, 8, 16])) == ["task 0", "task 1", "task 0"]
    assert index.subtasks(np.array([0, 7, 9, 10, 12, 15])) == ["", "reach", "reach", "", "move 1", "move 1"]
    assert index.subtask_spans(1) == [(0, "reach"), (3, ""), (5, "move 1")]
    assert index.subtask_texts == ["move 1", "reach"]


def test_joined_parts_are_the_whole(tmp_path: Path) -> None:
    episodes = [_episode(5 + seed, seed, dims=(0,) if seed < 3 else (1, 6)) for seed in range(6)]
    whole = Index(_write(tmp_path / "whole", episodes))
    parts = [_write(tmp_path / "a", episodes[:3]), _write(tmp_path / "b", episodes[3:], first=3)]
    merge_indices(parts, tmp_path / "joined")
    joined = Index(tmp_path / "joined")
    for file in sorted((tmp_path / "whole").iterdir()):
        assert file.read_bytes() == (tmp_path / "joined" / file.name).read_bytes(), file.name
    rows = np.arange(whole.num_rows)
    np.testing.assert_array_equal(joined.numerics(rows).actions, whole.numerics(rows).actions)


def test_an_index_without_episodes_opens(tmp_path: Path) -> None:
    index = Index(_write(tmp_path / "i", [], defects=(Defect("all", "unreadable", "nothing there"),)))
    assert (index.num_rows, index.num_episodes, index.subtask_texts) == (0, 0, [])
    assert index.quarantined[0].key == "all"


def test_a_camera_moves_in_all_episodes_or_none(tmp_path: Path) -> None:
    with IndexWriter(tmp_path / "i") as writer:
        writer.add(_episode(4, 0, camera=True), 0)
        with pytest.raises(BadEpisodeError, match="e1: of camera_rotation, all episodes have it, or none does"):
            writer.add(_episode(4, 1), 1)
        writer.add(_episode(4, 2, camera=True), 2)
        writer.finish(name="i", cameras=[], robot_type="", fingerprint="", quarantined=[])
    index = Index(tmp_path / "i")
    assert index.first_row.tolist() == [0, 4, 8], "nothing is left of the one that was refused"
    assert index.num_rows == len(index.numerics(np.arange(8)).state) == 8
