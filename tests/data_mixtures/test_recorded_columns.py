"""A robot's own columns, outside the unified spaces: in as they were recorded, and out again."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded import moving_frames

from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.lerobot.conversion import convert_to_lerobot
from data_mixtures.lerobot.writer import LeRobotWriter
from data_mixtures.mixture import Mixture
from data_mixtures.readers.opening import open_reader
from data_mixtures.sampling.windows import last_command
from data_mixtures.spaces.embodiments import METAWORLD_SAWYER, Embodiment, embodiment_from
from data_mixtures.spaces.recorded_columns import RecordedColumns
from data_mixtures.statistics.normalisation import Normalisation, Quantiles

JOINTS = Embodiment(robot_type="six_joints", recorded=RecordedColumns())
LENGTHS = [14, 11]


def columns(episode: int) -> dict[str, np.ndarray]:
    """Joints in degrees: nothing that a unified space has a place for."""
    rng = np.random.default_rng(episode)
    state = rng.uniform(-170, 170, (LENGTHS[episode], 6)).astype(np.float32)
    return {"observation.state": state, "action": state + rng.normal(0, 2, state.shape).astype(np.float32)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("joints") / "set"
    features = {"observation.state": 6, "action": 6}
    with LeRobotWriter(root, 10, "six_joints", {"corner": (32, 32)}, features) as writer:
        for episode, length in enumerate(LENGTHS):
            frames = {"corner": moving_frames(length, 32, episode)}
            writer.add_episode(frames, columns(episode), "fold the cloth", [], {})
    return root


def mixture(*datasets: DatasetConfig, stride_s: float | None = None) -> Mixture:
    window = WindowConfig(frames=1, horizon=4, stride_s=stride_s)
    return Mixture(MixtureConfig(list(datasets), ["corner"], window=window, image_size=32), seed=0)


def test_columns_come_as_they_were_recorded(root: Path):
    opened = mixture(DatasetConfig(str(root), embodiment=JOINTS))
    batch = opened.batch_at([3])
    recorded = columns(0)
    np.testing.assert_array_equal(batch.state[0, :6], recorded["observation.state"][3])
    np.testing.assert_array_equal(batch.actions[0, :, :6], recorded["action"][3:7])
    assert batch.state_mask[0].nonzero().flatten().tolist() == list(range(6))
    assert batch.action_mask[0].any(0).nonzero().flatten().tolist() == list(range(6))
    assert opened.space == "recorded"
    assert opened.robot == Embodiment(robot_type="six_joints", recorded=RecordedColumns(list(range(6)), list(range(6))))


def test_normalisation_keeps_no_gripper(root: Path):
    opened = mixture(DatasetConfig(str(root), embodiment=JOINTS))
    normalisation = opened.normalisation()
    assert normalisation.space == "recorded"
    every = opened.batch_at(range(sum(LENGTHS)))
    normal = normalisation.normalise_state(every.state, every.state_mask)[:, :6]
    # Even the place where a unified state has its gripper is stretched to [-1, 1].
    assert normal.abs().max() > 0.99
    assert normal.abs().max() < 1.2


def test_chosen_places_in_their_order(root: Path):
    chosen = Embodiment(robot_type="two", recorded=RecordedColumns(state=[5, 0], action=[1, 3]))
    opened = mixture(DatasetConfig(str(root), embodiment=chosen))
    batch = opened.batch_at([2])
    np.testing.assert_array_equal(batch.state[0, :2], columns(0)["observation.state"][2, [5, 0]])
    np.testing.assert_array_equal(batch.actions[0, 0, :2], columns(0)["action"][2, [1, 3]])
    robot = opened.robot
    assert robot is not None
    np.testing.assert_array_equal(robot.to_unified_state(columns(0)["observation.state"][2])[:2], batch.state[0, :2])
    np.testing.assert_array_equal(robot.action_from_unified(batch.actions.numpy())[0, 0], batch.actions[0, 0, :2])


def test_description_is_read_back(root: Path):
    robot = mixture(DatasetConfig(str(root), embodiment=JOINTS)).robot
    assert robot is not None
    assert embodiment_from(asdict(robot)) == robot


def test_a_step_of_several_frames_has_the_last_command(root: Path):
    batch = mixture(DatasetConfig(str(root), embodiment=JOINTS), stride_s=0.2).batch_at([0])
    np.testing.assert_array_equal(batch.actions[0, :, :6], columns(0)["action"][[1, 3, 5, 7]])
    actions, mask = np.ones((1, 1, 3, 44), np.float32), np.ones((1, 1, 3, 44), bool)
    mask[0, 0, 1] = False
    spans = np.array([[[True, True, False]]])
    assert not last_command(actions, mask, spans)[1].any()
    assert not last_command(actions, mask, np.zeros_like(spans))[1].any()


def test_mixing_with_another_robot_is_refused(root: Path, door_root: Path):
    joints, door = DatasetConfig(str(root), embodiment=JOINTS), DatasetConfig(str(door_root))
    for pair in ((joints, door), (door, joints)):
        with pytest.raises(ValueError, match=r"embodiment\.recorded.*labelled_share: 0"):
            mixture(*pair)
    unlabelled = DatasetConfig(str(door_root), labelled_share=0)
    assert mixture(joints, unlabelled).space == "recorded"


def test_places_that_cannot_be(root: Path):
    for recorded, words in (
        (RecordedColumns(state=[6]), r"recorded\.state names the places \[6\]: the column has 0\.\.5"),
        (RecordedColumns(action=[0] * 45), r"recorded\.action has 45 places: at most 44"),
    ):
        with pytest.raises(ValueError, match=words):
            open_reader(DatasetConfig(str(root), embodiment=Embodiment("joints", recorded=recorded)))
    with pytest.raises(ValueError, match="one way only"):
        open_reader(DatasetConfig(str(root), embodiment=replace(METAWORLD_SAWYER, recorded=RecordedColumns())))


def test_conversion_has_no_names_for_them(root: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="have no unified names"):
        convert_to_lerobot(open_reader(DatasetConfig(str(root), embodiment=JOINTS)), tmp_path / "out")


@pytest.mark.parametrize("guard", ["lerobot", "openpi"])
def test_guards_of_published_checkpoints(guard: str):
    quantiles = Quantiles((-1.0, 3.0, *[0.0] * 44), (1.0, 3.0, *[0.0] * 44))
    normalisation = Normalisation(quantiles, quantiles, "recorded", guard)  # pyright: ignore[reportArgumentType]
    state = torch.zeros(46)
    state[:2] = torch.tensor([0.5, 3.0])
    width = {"lerobot": torch.tensor([2.0, 1e-8]), "openpi": torch.tensor([2.0, 0.0]) + 1e-6}[guard]
    expected = 2 * (state[:2] - torch.tensor([-1.0, 3.0])) / width - 1
    torch.testing.assert_close(normalisation.normalise_state(state)[:2], expected, rtol=0, atol=0)
    assert normalisation.normalise_state(state)[1] == -1
