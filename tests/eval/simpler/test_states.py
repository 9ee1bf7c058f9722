"""States against scipy and against what the simulator's own controller says of the hand's pose."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_mixtures.spaces.embodiments import embodiment_of
from eval.simpler.poses import (
    euler_from_matrix,
    half_turned_wxyz,
    in_base,
    matrix_from_euler,
    matrix_from_wxyz,
    xyzw_from_matrix,
)
from eval.simpler.simulator import RESET_SEED
from eval.simpler.states import bridge_state, fractal_state
from eval.simpler.suite import SimplerSuite

# From the simulator, WidowX at the start of put_carrot_on_plate, and its controller's target in the base frame.
BASE = np.array([0.147, 0.028, 0.87, 0.0, 5.6161298e-11, 0.0, 1.0])
HAND = np.array([-0.14506936, 0.03409147, 1.005321, 0.00808385, -0.72686553, 0.00525695, 0.6867122])
IN_BASE = np.array([0.29206848, -0.00609149, 0.13532141, 0.68671244, 0.00525701, 0.72686565, -0.00808379])

WIDOWX = ["waist", "shoulder", "left_finger", "right_finger"]
LIMITS = np.array([[-3.14, 3.14], [-1.88, 1.99], [0.015, 0.037], [0.015, 0.037]])


def _random_turns():
    return Rotation.from_quat(np.random.default_rng(0).normal(size=(50, 4)))


def test_the_hand_in_the_base_frame_is_what_the_controller_has():
    position, rotation = in_base(BASE, HAND)
    assert np.allclose(position, IN_BASE[:3], atol=1e-6)
    assert np.allclose(rotation, matrix_from_wxyz(IN_BASE[3:]), atol=1e-6)


def test_quaternions_are_wxyz_in_and_xyzw_out():
    for turn in _random_turns():
        x, y, z, w = turn.as_quat()
        assert np.allclose(matrix_from_wxyz(np.array([w, x, y, z])), turn.as_matrix())
        assert np.allclose(xyzw_from_matrix(turn.as_matrix()), turn.as_quat(canonical=True), atol=1e-9)


def test_euler_angles_are_about_fixed_axes():
    for turn in _random_turns():
        angles = euler_from_matrix(turn.as_matrix())
        assert np.allclose(angles, turn.as_euler("xyz"), atol=1e-9)
        assert np.allclose(matrix_from_euler(angles), turn.as_matrix())
    straight_up = matrix_from_euler(np.array([0.4, np.pi / 2, 0.0]))
    assert np.allclose(matrix_from_euler(euler_from_matrix(straight_up)), straight_up, atol=1e-7)


def test_bridge_counts_the_turn_from_pointing_down():
    state = bridge_state(BASE, HAND, np.array([0, 0, 0.037, 0.037]), WIDOWX, LIMITS)
    assert state.dtype == np.float32
    down = Rotation.from_euler("y", np.pi / 2)
    expected = (Rotation.from_quat(np.roll(IN_BASE[3:], -1)) * down.inv()).as_euler("xyz")
    assert np.allclose(state[3:6], expected, atol=1e-5)
    assert np.abs(state[3:6]).max() < 0.1  # it begins nearly straight down, as recordings do
    assert state[6] == 1.0


@pytest.mark.parametrize(("finger", "opening"), [(0.015, 0.0), (0.026, 0.5), (0.037, 1.0), (0.04, 1.0)])
def test_widowx_openness_is_read_between_its_joint_limits(finger, opening):
    state = bridge_state(BASE, HAND, np.array([0, 0, finger, finger]), WIDOWX, LIMITS)
    assert state[6] == pytest.approx(opening, abs=1e-6)


def test_fractal_has_a_quaternion_xyzw_and_closedness():
    names = ["joint_torso", "joint_finger_right", "joint_finger_left", "joint_head_tilt"]
    limits = np.array([[-4, 1], [0.0, 1.3], [0.0, 1.3], [-1, 1]])
    state = fractal_state(BASE, HAND, np.array([0.5, 1.3, 0.65, 0.7]), names, limits)
    assert np.allclose(state[3:7], np.roll(IN_BASE[3:], -1), atol=1e-5)
    assert state[7] == pytest.approx(0.75)


def test_robots_stand_half_a_turn_round_and_then_their_yaw():
    assert half_turned_wxyz(0.0) == [0.0, 0.0, 0.0, 1.0]
    turned = Rotation.from_quat(np.roll(half_turned_wxyz(-0.09), -1))
    assert np.allclose(turned.as_matrix(), Rotation.from_euler("z", np.pi - 0.09).as_matrix())


def test_every_episode_draws_what_a_fresh_scene_of_the_scripts_draws():
    assert np.random.RandomState(2022).randint(2**32) == RESET_SEED


def test_policies_of_the_unified_spaces_speak_both_robots():
    turn = Rotation.from_euler("xyz", [0.3, -0.2, 1.1])
    bridge = np.array([0.3, 0.1, 0.2, 0.3, -0.2, 1.1, 0.75], np.float32)
    fractal = np.array([0.3, 0.1, 0.2, *turn.as_quat(canonical=True), 0.25], np.float32)
    action = np.array([0.01, -0.02, 0.03, 0.1, -0.2, 0.3, 0.8], np.float32)
    for suite, raw in ((SimplerSuite("widowx"), bridge), (SimplerSuite("google"), fractal)):
        speaks = embodiment_of(suite.name)
        assert (speaks.state_width, speaks.action_width) == (len(suite.state), len(suite.action)) == (len(raw), 7)
        unified = speaks.to_unified_state(raw)
        assert np.allclose(unified[:8], [0.3, 0.1, 0.2, *turn.as_quat(canonical=True), 0.75], atol=1e-6)
        assert np.allclose(speaks.action_from_unified(speaks.to_unified_action(action)), action, atol=1e-6)
