"""A policy's numbers in the controller's terms, each robot's gripper above all."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from eval.simpler.actions import AbsoluteGripper, StickyGripper, controller_action
from eval.simpler.poses import axis_angle_from_euler

OPEN, CLOSED = 1.0, 0.0


@pytest.mark.parametrize("angles", [(0.1, -0.2, 0.3), (1.2, 0.9, -2.0), (3.0, -1.4, 0.7), (0, 0, 0), (1e-9, 0, 0)])
def test_euler_angles_become_the_same_turn(angles):
    turned = axis_angle_from_euler(np.array(angles))
    expected = Rotation.from_euler("xyz", angles)
    assert np.allclose(Rotation.from_rotvec(turned).as_matrix(), expected.as_matrix(), atol=1e-9)
    assert np.linalg.norm(turned) <= np.pi + 1e-9


def test_at_large_angles_the_two_are_not_alike():
    angles = np.array([1.2, 0.9, -2.0])
    assert np.abs(axis_angle_from_euler(angles) - angles).max() > 0.3


def test_a_policys_action_becomes_the_controllers():
    action = np.array([0.01, -0.02, 0.03, 0.4, 0.5, -0.6, 0.9], np.float32)
    told = controller_action(action, "euler_xyz", AbsoluteGripper())
    assert told.dtype == np.float32
    assert np.array_equal(told[:3], action[:3])
    assert np.allclose(told[3:6], Rotation.from_euler("xyz", action[3:6]).as_rotvec(), atol=1e-6)
    assert told[6] == 1.0
    assert np.array_equal(controller_action(action, "axis_angle", AbsoluteGripper())[3:6], action[3:6])


@pytest.mark.parametrize(("opening", "told"), [(1.0, 1), (0.51, 1), (0.5, -1), (0.0, -1), (-3.0, -1)])
def test_widowx_is_open_above_one_half(opening, told):
    assert AbsoluteGripper()(opening) == told


def _played(openings, steps, trigger):
    gripper = StickyGripper(steps, trigger)
    return [gripper(opening) for opening in openings]


def test_octo_holds_a_command_for_15_actions():
    told = _played([OPEN, OPEN] + [CLOSED] * 20, 15, "step_change")
    assert told == [0, 0] + [1] * 15 + [0] * 5


def test_opening_again_is_the_other_sign():
    assert _played([CLOSED, OPEN, OPEN], 2, "step_change") == [0, -1, -1]


def test_while_a_command_is_held_no_other_is_heard():
    told = _played([OPEN, CLOSED, OPEN] + [OPEN] * 5, 4, "step_change")
    assert told == [0, 1, 1, 1, 1, 0, 0, 0]


def test_after_it_the_next_change_counts():
    told = _played([OPEN, CLOSED, CLOSED, CLOSED, OPEN, OPEN, OPEN, OPEN], 3, "step_change")
    assert told == [0, 1, 1, 1, -1, -1, -1, 0]


def test_a_slow_change_is_no_command_for_octo_but_for_openpi():
    drift = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0]
    assert max(_played(drift, 10, "step_change")) == pytest.approx(0.2)
    told = _played(drift, 10, "decided_change")
    assert told[:3] == pytest.approx([0, 0.2, 0.4])
    assert told[3:] == pytest.approx([0.6] * 4)


def test_level_closes_from_the_first_action():
    assert _played([CLOSED, CLOSED, OPEN, OPEN], 2, "level") == [1, 1, -1, -1]


def test_episodes_do_not_share_a_gripper():
    first = StickyGripper(15, "step_change")
    assert [first(OPEN), first(CLOSED)] == [0, 1]
    assert StickyGripper(15, "step_change")(CLOSED) == 0
