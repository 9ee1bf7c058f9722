"""Statistics of numerics: exact while small, pooled, stored; and the guards, each with its fault planted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.mixture import Mixture
from data_mixtures.spaces.rotations import euler_from_matrix, matrix_from_euler, xyzw_from_matrix
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM, Numerics, NumericSpace
from data_mixtures.spaces.unit_checks import Suspicion, check_statistics, check_units
from data_mixtures.statistics.normalisation import Quantiles
from data_mixtures.statistics.streaming import Statistics, pooled_normalisation, statistics_of

FPS = 10.0


class Frames:
    """Numerics in memory as an index gives them."""

    space: NumericSpace = "unified"

    def __init__(self, numerics: Numerics, length: int = 100) -> None:
        self.kept, self.num_rows, self._length = numerics, len(numerics.state), length
        self.fps = np.full(-(-self.num_rows // length), FPS, dtype=np.float32)

    def numerics(self, rows: np.ndarray) -> Numerics:
        return Numerics(*(getattr(self.kept, n)[rows] for n in ("state", "state_mask", "actions", "action_mask")))

    def episode_of(self, rows: np.ndarray) -> np.ndarray:
        return rows // self._length

    def camera_rotation(self, rows: np.ndarray) -> np.ndarray | None:
        return None


def arm(count: int = 2000, seed: int = 0) -> Numerics:
    """A left arm that swings and turns smoothly, at most 0.2 m/s and 1 rad/s; the actions are its state's changes."""
    rng = np.random.default_rng(seed)
    time = np.arange(count + 1) / FPS
    swing = [np.sin(time * speed + shift) for speed, shift in rng.uniform(0.5, 1.0, (6, 2)) * [1, 6]]
    position = np.stack([0.4 + 0.2 * swing[0], 0.2 * swing[1], 0.3 + 0.2 * swing[2]], axis=1)
    turns = matrix_from_euler(np.stack([2.5 + 0.5 * swing[3], 0.6 * swing[4], 0.6 * swing[5]], axis=1))
    gripper = (np.sin(time) > 0).astype(np.float64)
    state, actions = np.zeros((count, STATE_DIM)), np.zeros((count, ACTION_DIM))
    state[:, :3], state[:, 3:7], state[:, 7] = position[:-1], xyzw_from_matrix(turns[:-1]), gripper[:-1]
    actions[:, :3] = np.diff(position, axis=0)
    actions[:, 3:6] = euler_from_matrix(turns[1:] @ turns[:-1].swapaxes(1, 2))
    actions[:, 6] = gripper[1:]
    state_mask, action_mask = np.zeros(state.shape, dtype=bool), np.zeros(actions.shape, dtype=bool)
    state_mask[:, :8] = action_mask[:, :7] = True
    return Numerics(state.astype(np.float32), state_mask, actions.astype(np.float32), action_mask)


def suspicions(numerics: Numerics) -> list[Suspicion]:
    frames = Frames(numerics)
    return check_units("pour_tea", frames, statistics_of(frames))


def test_a_mixtures_normalisation_stays_what_it_was(door_root: Path, other_root: Path) -> None:
    """Pooled frames of both data sets, masked ones left out, and the very numbers of np.quantile."""
    config = MixtureConfig(
        [DatasetConfig(str(door_root)), DatasetConfig(str(other_root), weight=3, labelled_share=0.5)],
        ["corner"],
        WindowConfig(),
        image_size=32,
    )
    mixture = Mixture(config, seed=0)
    batches = list(mixture.windows(100))
    state, state_mask = (np.concatenate([getattr(b, n).numpy() for b in batches]) for n in ("state", "state_mask"))
    actions, mask = (np.concatenate([getattr(b, n)[:, 0].numpy() for b in batches]) for n in ("actions", "action_mask"))
    parts = [
        statistics_of(Frames(Numerics(state, state_mask, actions, mask)), rows)
        for rows in np.split(np.arange(len(state)), [188])
    ]
    found = pooled_normalisation(parts)
    assert found.state == Quantiles.of(state, state_mask)
    assert found.action == Quantiles.of(actions, mask)
    assert found == mixture.normalisation()


def test_rows_and_merging() -> None:
    numerics = arm()
    frames, rows = Frames(numerics), np.random.default_rng(0).permutation(2000)[:900]
    chosen = statistics_of(frames, rows)
    assert chosen.normalisation().state == Quantiles.of(numerics.state[rows], numerics.state_mask[rows])
    assert chosen.state.count[:9].tolist() == [900] * 8 + [0]
    merged = statistics_of(frames, np.arange(500))
    merged.merge(statistics_of(frames, np.arange(500, 2000)))
    assert merged.normalisation() == statistics_of(frames).normalisation()


def test_weights_of_a_mixture_count_frames() -> None:
    one, other = arm(600, seed=1), arm(500, seed=2)
    found = pooled_normalisation([statistics_of(Frames(one)), statistics_of(Frames(other))], weights=[1, 2])
    both = np.concatenate([one.actions, other.actions, other.actions])
    expected = Quantiles.of(both, np.concatenate([one.action_mask, other.action_mask, other.action_mask]))
    np.testing.assert_allclose(found.action.q01, expected.q01, atol=1e-7)
    np.testing.assert_allclose(found.action.q99, expected.q99, atol=1e-7)


def test_stored_statistics_come_back_and_speak_in_words(tmp_path: Path) -> None:
    statistics = statistics_of(Frames(arm()))
    statistics.save(tmp_path, "0123456789abcdef")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["statistics.json", "statistics.npz"]
    again = Statistics.load(tmp_path, "0123456789abcdef")
    assert again.normalisation() == statistics.normalisation()
    again.merge(statistics)
    assert again.state.count[0] == 4000
    words = json.loads((tmp_path / "statistics.json").read_text())
    assert len(words["state"]) == 8
    x = words["action"]["left arm translation x"]
    assert (x["unit"], x["count"]) == ("m", 2000)
    assert x["lowest"] < x["q01"] < x["q10"] < x["q50"] < x["q90"] < x["q99"] < x["highest"]


def test_stored_statistics_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"statistics.npz does not exist: compute"):
        Statistics.load(tmp_path, "a")
    statistics_of(Frames(arm(300))).save(tmp_path, "a")
    with pytest.raises(ValueError, match="is of other content than the data set has now: delete it"):
        Statistics.load(tmp_path, "b")
    path = tmp_path / "statistics.npz"
    whole = path.read_bytes()
    for damaged in (whole[:-200], whole[:5000], b"", whole[:3000] + bytes(8) + whole[3008:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"statistics.npz.* compute it anew"):
            Statistics.load(tmp_path, "a")


def test_sound_data_raise_no_suspicion() -> None:
    assert suspicions(arm()) == []
    empty = arm(0)
    assert suspicions(empty) == []
    masked = replace(
        arm(), state_mask=np.zeros((2000, STATE_DIM), bool), action_mask=np.zeros((2000, ACTION_DIM), bool)
    )
    assert suspicions(masked) == []


def test_millimetres() -> None:
    numerics = arm()
    numerics.state[:, :3] *= 1000
    numerics.actions[:, :3] *= 1000
    found = suspicions(numerics)
    assert [s.dimension for s in found] == [
        f"left arm {q} {axis} (m)" for q in ("position", "translation") for axis in "xyz"
    ]
    assert all(s.dataset == "pour_tea" and "millimetres?" in s.words for s in found)
    assert found[0].value == pytest.approx(600, rel=0.01)
    assert str(found[3]).startswith("pour_tea: left arm translation x (m): a change of ")
    assert "in one step at 10 frames/s is" in found[3].words


def test_degrees() -> None:
    numerics = arm()
    numerics.actions[:, 3:6] *= 180 / np.pi
    found = suspicions(numerics)
    assert [s.dimension for s in found] == [f"left arm rotation {turn} (rad)" for turn in ("roll", "pitch", "yaw")]
    assert all("degrees?" in s.words for s in found)


def test_single_jumps_and_outliers() -> None:
    numerics = arm()
    numerics.actions[77, 1] = 0.5
    (found,) = suspicions(numerics)
    assert (found.dimension, found.value) == ("left arm translation y (m)", 0.5)
    assert "is 5 m/s; 0.05% of the steps are faster than 3: single jumps" in found.words
    still = arm()
    still.state[:, 2] = 0.3 + 1e-3 * still.state[:, 2]
    still.state[5, 2] = 0.9
    found = [s for s in suspicions(still) if "position" in s.dimension]
    assert [s.dimension for s in found] == ["left arm position z (m)"]
    assert "times the 1..99 % span" in found[0].words
    assert found[0].value == pytest.approx(0.9)


def test_constants() -> None:
    numerics = arm()
    numerics.state[:, 0] = 0.25
    numerics.actions[:, 0] = 0
    numerics.actions[3, 0] = 0.01
    found = check_statistics("pour_tea", statistics_of(Frames(numerics)), FPS)
    assert [s.dimension for s in found] == ["left arm position x (m)", "left arm translation x (m)"]
    assert "it is 0.25 in every frame" in found[0].words
    assert "98 % of the values are 0, the others reach from 0 to 0.01" in found[1].words


@pytest.mark.parametrize(("low", "high", "worst"), [(-1, 1, -1), (0, 120, 120), (0.5, 1.5, 1.5)])
def test_grippers_outside_of_closed_and_open(low: float, high: float, worst: float) -> None:
    numerics = arm()
    numerics.actions[:, 6] = low + (high - low) * numerics.actions[:, 6]
    (found,) = suspicions(numerics)
    assert (found.dimension, found.value) == ("left gripper (0 closed, 1 open)", worst)


def test_quaternions_of_another_length() -> None:
    numerics = arm()
    numerics.state[40, 3:7] *= 1.5
    found = [s for s in suspicions(numerics) if s.dimension == "left arm quaternion"]
    assert [s.value for s in found] == [pytest.approx(1.5)]
    assert "not normalised" in found[0].words


@pytest.mark.parametrize("made_positive", [False, True])
def test_quaternions_with_w_first(made_positive: bool) -> None:
    """Found by the sign of what stands in w's place, and, where a reader has turned that, by where the arm turns."""
    numerics = arm()
    swapped = np.roll(numerics.state[:, 3:7], 1, axis=1)
    numerics.state[:, 3:7] = swapped * np.sign(swapped[:, 3:]) if made_positive else swapped
    found = {s.dimension: s for s in suspicions(numerics)}
    assert ("left arm quaternion" in found) == (not made_positive)
    assert "quaternions in another order (wxyz)" in found["left arm rotation"].words
    if not made_positive:
        assert "w comes first (wxyz)" in found["left arm quaternion"].words


def test_actions_in_another_frame() -> None:
    numerics = arm()
    numerics.actions[:, :3] = np.roll(numerics.actions[:, :3], 1, axis=1)
    (found,) = suspicions(numerics)
    assert found.dimension == "left arm translation"
    assert found.value < 0.3
