"""Robots described in YAML: units, rotation forms, gripper ranges, kinds of action, and the way back."""

import io
from dataclasses import dataclass, replace
from typing import Any

import draccus
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation as ScipyRotation

from data_mixtures.spaces.arm_columns import Gripper, Position, Rotation, RotationForm
from data_mixtures.spaces.embodiments import (
    EMBODIMENTS,
    LIBERO,
    LIBERO_COMMANDS,
    METAWORLD_SAWYER,
    Arm,
    ArmAction,
    Embodiment,
    Fingertips,
    checked,
    embodiment_of,
)
from data_mixtures.spaces.rotations import matrix_from_euler
from data_mixtures.spaces.unified import ACTION_FINGERTIPS, STATE_FINGERTIPS


def raw_form(turns: ScipyRotation, form: str, unit: str) -> np.ndarray:
    """Rotations [T] as scipy writes them in a form of ours."""
    if form == "quaternion_xyzw":
        return turns.as_quat()
    if form == "quaternion_wxyz":
        return turns.as_quat()[:, [3, 0, 1, 2]]
    if form == "axis_angle":
        return np.rad2deg(turns.as_rotvec()) if unit == "deg" else turns.as_rotvec()
    if form == "6d_columns":
        return turns.as_matrix()[:, :, :2].swapaxes(1, 2).reshape(-1, 6)
    if form == "matrix":
        return turns.as_matrix().reshape(-1, 9)
    if form == "matrix_column_major":
        return turns.as_matrix().swapaxes(1, 2).reshape(-1, 9)
    return turns.as_euler(form.removeprefix("euler_"), degrees=unit == "deg")


@pytest.mark.parametrize("unit", ["rad", "deg"])
@pytest.mark.parametrize("form", [form for form in RotationForm.__args__ if form != "6d"])  # which is refused
def test_every_rotation_form_and_unit(form: Any, unit: Any) -> None:
    turns = ScipyRotation.from_quat(np.random.default_rng(3).normal(size=(50, 4)))
    raw = raw_form(turns, form, unit)
    if raw.shape[1] != 3:
        unit = "rad"
    rotation = Rotation(form, list(range(2, 2 + raw.shape[1])), unit)
    rotation.check("rotation")
    robot = Embodiment("x", Arm(rotation=rotation))
    numerics = robot.numerics({"observation.state": np.concatenate([np.full((50, 2), 9.0), raw], axis=1)})
    np.testing.assert_allclose(numerics.state[:, 3:7], turns.as_quat(canonical=True), atol=1e-6)
    changes = (turns[1:] * turns[:-1].inv()).as_euler("xyz")
    np.testing.assert_allclose(numerics.actions[:-1, 3:6], changes, atol=2e-5)
    assert np.flatnonzero(numerics.state_mask[0]).tolist() == [3, 4, 5, 6]
    assert np.flatnonzero(robot.action_mask).tolist() == [3, 4, 5]
    assert not numerics.action_mask[-1].any()


YAML = """
path: data/mine
embodiment:
  robot_type: two_arms
  left:
    position: {indices: [0, 1, 2], unit: mm}
    gripper: {index: 3, open: 0.0, closed: 120}
  right:
    position: {indices: [4, 5, null], unit: cm, column: poses}
    action: {kind: absolute, position: {indices: [0, 1, 2]}, gripper: {index: 3, open: 1, closed: -1}}
  action_column: targets
  fps: 12.5
"""


@dataclass
class Entry:
    path: str
    embodiment: Embodiment | None = None


def test_yaml_of_two_arms_with_units_missing_axes_and_targets() -> None:
    robot = draccus.load(Entry, io.StringIO(YAML)).embodiment
    assert robot is not None
    robot = checked(robot)
    assert (robot.columns, robot.fps) == (["observation.state", "poses", "targets"], 12.5)
    rng = np.random.default_rng(0)
    state, poses, targets = rng.uniform(-100, 100, (9, 4)), rng.normal(size=(9, 6)), rng.uniform(-1, 1, (9, 4))
    got = robot.numerics({"observation.state": state, "poses": poses, "targets": targets})
    np.testing.assert_allclose(got.state[:, :3], state[:, :3] / 1000, rtol=1e-6)
    np.testing.assert_allclose(got.state[:, 7], 1 - state[:, 3].clip(0, 120) / 120, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(got.state[:, 8:10], poses[:, 4:6] / 100, rtol=1e-6)
    assert np.flatnonzero(got.state_mask[0]).tolist() == [0, 1, 2, 7, 8, 9]
    np.testing.assert_allclose(got.actions[:-1, :3], np.diff(state[:, :3], axis=0) / 1000, rtol=1e-4, atol=1e-8)
    np.testing.assert_array_equal(got.actions[:-1, 6], got.state[1:, 7])
    np.testing.assert_allclose(got.actions[:-1, 7:10], np.diff(targets[:, :3], axis=0), rtol=1e-5)
    np.testing.assert_allclose(got.actions[:, 13], (targets[:, 3] + 1) / 2, rtol=1e-5)
    assert np.flatnonzero(got.action_mask[0]).tolist() == [0, 1, 2, 6, 7, 8, 9, 13]
    assert np.flatnonzero(got.action_mask[-1]).tolist() == [13]  # what was commanded needs no next frame


def test_the_sawyer_keeps_its_numbers() -> None:
    """Bit for bit: 0.03 m a unit command in float32, grippers affine."""
    rng = np.random.default_rng(1)
    raw = rng.uniform(-1, 1, (3, 50, 4)).astype(np.float32)
    action = METAWORLD_SAWYER.to_unified_action(raw)
    expected = np.concatenate([raw[..., :3] * np.float32(0.03), raw[..., 3:] * np.float32(-0.5) + np.float32(0.5)], -1)
    np.testing.assert_array_equal(action[..., [0, 1, 2, 6]], expected)
    state = rng.uniform(0, 1, (50, 4)).astype(np.float32)
    np.testing.assert_array_equal(METAWORLD_SAWYER.to_unified_state(state)[:, [0, 1, 2, 7]], state)
    assert np.flatnonzero(METAWORLD_SAWYER.state_mask).tolist() == [0, 1, 2, 7]
    assert np.flatnonzero(METAWORLD_SAWYER.action_mask).tolist() == [0, 1, 2, 6]
    episode = METAWORLD_SAWYER.numerics({"observation.state": state, "action": raw[0]})
    np.testing.assert_array_equal(episode.actions, action[0])  # commands, though the state has a position
    assert episode.action_mask.sum(axis=1).tolist() == [4] * 50


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1, 1), min_size=7, max_size=7))
def test_commands_come_back_from_the_unified_space(command: list[float]) -> None:
    raw = np.array([command])
    back = LIBERO_COMMANDS.action_from_unified(LIBERO_COMMANDS.to_unified_action(raw))
    np.testing.assert_allclose(back, raw, atol=2e-6)


def test_commands_are_the_turns_they_ask_for() -> None:
    raw = np.array([[1, 0, 0, 0.4, -0.6, 0.2, -1]])
    unified = LIBERO_COMMANDS.to_unified_action(raw)[0]
    turn = ScipyRotation.from_rotvec(0.5 * raw[0, 3:6]).as_euler("xyz")
    np.testing.assert_allclose(unified[:7], [0.05, 0, 0, *turn, 1], atol=1e-7)
    assert (np.abs(LIBERO_COMMANDS.action_from_unified(unified[None] * 100)) <= 1).all()
    with pytest.raises(
        ValueError, match=r"actions of 'libero' are {'left': 'from_state'}: only 'delta' actions can be"
    ):
        LIBERO.action_from_unified(unified)


def test_right_arms_are_written_back_beside_left_ones() -> None:
    def arm(first: int) -> Arm:
        positions = Position([first, first + 1, first + 2], unit="mm", scale=5.0)
        return Arm(action=ArmAction("delta", positions, gripper=Gripper(index=first + 3, open=100, closed=0)))

    robot = checked(Embodiment("two", arm(0), arm(4)))
    raw = np.random.default_rng(0).uniform(0, 1, (6, 8)).astype(np.float32) * 100
    unified = robot.to_unified_action(raw)
    np.testing.assert_allclose(unified[:, 7:10], raw[:, 4:7] * 0.005, rtol=1e-6)
    np.testing.assert_allclose(robot.action_from_unified(unified), raw, rtol=1e-5, atol=1e-4)


def test_fingertips() -> None:
    raw = np.random.default_rng(0).normal(size=(7, 31)).astype(np.float32)
    robot = checked(Embodiment("hands", fingertips=Fingertips(list(range(1, 31)), unit="mm")))
    got = robot.numerics({"observation.state": raw})
    np.testing.assert_allclose(got.state[:, STATE_FINGERTIPS], raw[:, 1:] / 1000, rtol=1e-6)
    np.testing.assert_allclose(
        got.actions[:-1, ACTION_FINGERTIPS], np.diff(raw[:, 1:].astype(np.float64), axis=0) / 1000, atol=1e-9, rtol=1e-5
    )


def test_a_name_stands_for_a_known_robot() -> None:
    assert checked(Embodiment("libero")) == LIBERO
    assert (LIBERO.state_width, LIBERO_COMMANDS.state_width) == (8, 8), "its second finger is in the state and not read"
    assert checked(Embodiment("libero", fps=10)) == replace(LIBERO, fps=10)
    assert embodiment_of("metaworld_sawyer") is METAWORLD_SAWYER
    for robot in EMBODIMENTS.values():
        assert checked(robot) == robot
    with pytest.raises(ValueError, match=r"robot_type 'walker' has no unified mapping; known: \['metaworld_sawyer'"):
        checked(Embodiment("walker"))


POSE = Position([0, 1, 2])


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (Arm(Position([0, 1])), r"embodiment.left.position.indices is \[0, 1\]: give the places of x, y and z"),
        (Arm(Position([0, 1, -2])), "embodiment.left.position names place -2"),
        (Arm(Position([0, 1, 2], scale=0)), "position.scale is 0"),
        (Arm(POSE, Rotation("6d_columns", [0, 1, 2])), "rotation.indices is .*: 6d_columns has 6 values"),
        (Arm(POSE, Rotation("quaternion_xyzw", [0, 1, 2, 3], "deg")), "quaternion_xyzw has no unit"),
        (Arm(POSE, gripper=Gripper(1, 1, 3)), "open is 1 and closed is 1"),
        (Arm(POSE, gripper=Gripper(1, 0)), "gripper.index is missing"),
        (Arm(POSE, action=ArmAction("delta")), "kind is 'delta', but neither position nor rotation is described"),
        (Arm(POSE, action=ArmAction(position=POSE)), "kind is 'from_state', which reads no pose"),
    ],
)
def test_descriptions_that_cannot_be_right(arm: Arm, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked(Embodiment("x", arm))


def test_other_fields_that_cannot_be_right() -> None:
    with pytest.raises(ValueError, match="fingertips.indices has 3 places: give 30"):
        checked(Embodiment("x", fingertips=Fingertips([0, 1, 2])))
    with pytest.raises(ValueError, match=r"action_range is \[1\]"):
        checked(Embodiment("x", Arm(POSE), action_range=[1]))


def test_what_is_no_rotation_is_no_number() -> None:
    forms: list[tuple[RotationForm, int]] = [("matrix", 9), ("quaternion_xyzw", 4), ("6d_columns", 6)]
    for form, width in forms:
        robot = Embodiment("x", Arm(rotation=Rotation(form, list(range(width)))))
        got = robot.numerics({"observation.state": np.zeros((3, width))})
        assert np.isnan(got.state[:, 3:7]).all()


def test_six_numbers_of_a_rotation_are_refused_unless_their_layout_is_named() -> None:
    with pytest.raises(ValueError, match="6d does not say its layout"):
        Rotation("6d", [0, 1, 2, 3, 4, 5])
    assert draccus.decode(Rotation, {"form": "6d_columns"}).form == "6d_columns"
    m = matrix_from_euler([[0.9, -0.4, 2.0]])
    columns = np.concatenate([m[:, :, 0], m[:, :, 1]], axis=1)
    interleaved = m[:, :, :2].reshape(1, 6)
    assert np.abs(columns - interleaved).max() > 0.3
    np.testing.assert_allclose(Rotation("6d_columns", [0, 1, 2, 3, 4, 5]).read(columns), m, atol=1e-12)
    np.testing.assert_allclose(Rotation("6d_columns", [0, 2, 4, 1, 3, 5]).read(interleaved), m, atol=1e-12)
    assert np.abs(Rotation("6d_columns", [0, 1, 2, 3, 4, 5]).read(interleaved) - m).max() > 0.3


@pytest.mark.parametrize("form", ["axis_angle", "euler_xyz"])
def test_large_changes_of_rotation_come_back_as_they_were_said(form: RotationForm) -> None:
    rotation = Rotation(form, [0, 1, 2], scale=0.5)
    said = np.random.default_rng(2).uniform(-1.5, 1.5, (50, 3))
    angles = rotation.read_change(said)
    raw = np.zeros((50, 3))
    rotation.write_change(angles, raw)
    np.testing.assert_allclose(raw, said, atol=1e-9)
    other = Rotation("euler_xyz" if form == "axis_angle" else "axis_angle", [0, 1, 2], scale=0.5)
    taken = np.zeros((50, 3))
    other.write_change(angles, taken)
    assert np.abs(taken - said).max() > 0.1, "one form taken for the other shows at large angles"
