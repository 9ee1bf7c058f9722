"""Every row of the table of pitfalls (docs/preflight.md): the fault is planted, and the preflight names it."""

from dataclasses import replace

import numpy as np
import pytest

from data_mixtures.spaces.arm_columns import Gripper, Rotation
from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.statistics.normalisation import Normalisation, Quantiles
from eval.preflight.findings import Report
from eval.suite import Column
from tests.eval.preflight.toy import ACTION, STATE, ToySuite
from tests.eval.preflight.trained import RECORDED, UNIFIED, Toy, refused, words


def says(report: Report, check: str, *phrases: str) -> None:
    """Something of this kind is refused, in these words."""
    found = [str(finding) for finding in refused(report) if finding.check == check]
    assert any(all(phrase in text for phrase in phrases) for text in found), words(report)
    assert report.verdict == "refused"


def with_left(robot: Embodiment, **changes: object) -> Embodiment:
    assert robot.left is not None
    return replace(robot, left=replace(robot.left, **changes))


def with_action(robot: Embodiment, **changes: object) -> Embodiment:
    assert robot.left is not None
    return with_left(robot, action=replace(robot.left.action, **changes))


@pytest.mark.parametrize("space", ["recorded", "unified"])
def test_a_clean_set_up_passes(toy: Toy, space: str) -> None:
    report = toy.preflight(checkpoint=getattr(toy, space))
    assert report.verdict == "passed", words(report)
    assert {finding.check for finding in report.findings if finding.verdict == "passed"} >= {
        "actions",
        "protocol",
        "cases",
        "replay",
        "states",
        "pictures",
        "statistics",
    }
    assert not [finding for finding in report.findings if finding.cause or finding.verdict == "not checked"]


# -- row 1: quaternion -> axis-angle with the flip that robosuite does not do


def test_antipodal_axis_angle_is_named(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("antipodal state",)))
    says(report, "states", "axis_angle_x (rad)", "the checkpoint was trained on", "a quaternion's sign was flipped")
    assert not [f for f in refused(report) if "eef_" in f.where or "gripper" in f.where], "the others are as they were"


def test_antipodal_axis_angle_is_named_without_demonstrations(toy: Toy) -> None:
    # Only what travels in the checkpoint is at hand, and two resets.
    suite = ToySuite(("antipodal state",), seeds=(0, 1))
    says(toy.preflight(suite, demonstrations=False), "states", "axis_angle", "a quaternion's sign was flipped")


def test_a_policy_in_the_unified_spaces_does_not_care_about_the_sign(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("antipodal state",)), toy.unified)
    assert report.verdict == "warning", words(report)


# -- rows 3, 4, 5: Euler for axis-angle, wxyz for xyzw, the state from another source or not sent


def test_euler_angles_in_the_state_are_named(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("euler state",)))
    says(report, "states", "axis_angle_x (rad)", "Euler angles are sent where axis-angle was trained on")


def test_euler_angles_in_the_actions_are_named(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("euler actions",)))
    says(report, "replay", "axis-angle is taken for Euler angles: with that undone the demonstrations succeed")


def test_a_policy_that_speaks_euler_angles_is_named(toy: Toy) -> None:
    robot = with_action(UNIFIED, rotation=Rotation("euler_xyz", [3, 4, 5], scale=0.5))
    report = toy.preflight(checkpoint=replace(toy.unified, robot=robot))
    says(report, "actions", "action 3, delta_axis_angle_x (0.5 rad)", "one rotation form is taken for another")


def test_quaternion_order_is_named_by_the_columns_names(toy: Toy) -> None:
    wxyz = tuple(Column(f"quaternion_{part}", "1", -1, 1) for part in "wxyz")
    suite = ToySuite(state=(*STATE[:3], *wxyz, STATE[6]))
    robot = with_left(UNIFIED, rotation=Rotation("quaternion_xyzw", [3, 4, 5, 6]), gripper=None)
    robot = replace(robot, state_values=8)
    from eval.preflight.column_check import check_columns

    found = check_columns(suite, replace(toy.unified, robot=robot))
    assert [str(f) for f in found if f.verdict == "refused" and "quaternion order (wxyz or xyzw)" in f.cause]


def test_another_source_of_orientation_is_named(toy: Toy) -> None:
    for checkpoint in (toy.recorded, toy.unified):
        report = toy.preflight(ToySuite(("turned hand",)), checkpoint)
        says(report, "states", "the orientation is from another source, turned by 90 degrees about the hand's z")


def test_a_state_that_is_not_sent_is_named(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("no state",)))
    says(report, "states", "eef_z (m)", "0 to 0 m", "the checkpoint was trained on", "the state is not sent")


def test_a_state_that_is_too_short_is_named(toy: Toy) -> None:
    from eval.preflight.column_check import check_columns

    found = check_columns(ToySuite(state=STATE[:3]), toy.unified)
    assert [f.verdict for f in found if f.where == "state"] == ["refused"]
    assert "the suite has 3 numbers (eef_x, eef_y, eef_z), the policy's robot 7" in found[0].what


# -- row 6: a pose in another frame than the base's


def test_a_pose_in_the_world_frame_is_named_with_its_offset(toy: Toy) -> None:
    for checkpoint, name in ((toy.recorded, "eef_z (m)"), (toy.unified, "left arm position z (m)")):
        report = toy.preflight(ToySuite(("world frame",)), checkpoint)
        says(report, "states", name, "another origin, -0.600, +0.100, +0.900 m away: the world's in place of")


# -- rows 7, 8: the gripper's range, polarity and threshold


def test_the_grippers_range_is_named(toy: Toy) -> None:
    suite = ToySuite(state=(*STATE[:6], Column("gripper_opening", "m", 0.015, 0.037)))
    robot = with_left(UNIFIED, gripper=Gripper(index=6, open=0.037, closed=0.0))
    report = toy.preflight(suite, replace(toy.unified, robot=robot), demonstrations=False)
    says(report, "actions", "state 6, gripper_opening (m)", "closed at 0.015", "closed at 0", "gripper range")


def test_a_flipped_gripper_is_named_by_replaying(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("gripper flipped",)))
    says(report, "replay", "0 of 6 recorded demonstrations succeed", "gripper polarity is flipped")


def test_two_flips_cancel_and_the_replay_says_nothing(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("gripper flipped", "gripper flipped again")))
    assert not refused(report), words(report)


def test_a_policy_with_the_other_polarity_is_named_by_the_columns(toy: Toy) -> None:
    robot = with_action(UNIFIED, gripper=Gripper(index=6, open=1.0, closed=-1.0))
    report = toy.preflight(checkpoint=replace(toy.unified, robot=robot))
    says(report, "actions", "action 6, gripper", "open at -1 and closed at 1", "gripper polarity is flipped")


def test_another_threshold_is_named_by_replaying(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("threshold 0.8",)), demonstrations="half open")
    says(report, "replay", "the gripper's threshold or range differs from the recording's")


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("gripper state flipped", "the gripper's polarity is flipped"),
        ("metres gripper", "the gripper comes as a joint's position in metres where 0 to 1 was trained on"),
    ],
)
def test_a_wrong_gripper_in_the_state_is_named(toy: Toy, fault: str, cause: str) -> None:
    says(toy.preflight(ToySuite((fault,))), "states", "gripper_opening", cause)


# -- row 9: sticky gripper missing


def test_a_google_robot_without_sticky_gripper_is_refused(toy: Toy) -> None:
    suite = ToySuite(name="simpler_google_toy")
    says(toy.preflight(suite), "protocol", "names no sticky gripper", "was left to the policy")
    assert toy.preflight(replace(suite, more={"sticky_steps": 15})).verdict == "passed"


def test_commands_held_too_briefly_are_named_by_replaying(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("slow gripper",)))
    says(report, "replay", "no sticky gripper")


# -- row 10: delta / absolute, joint / end-effector


def test_targets_where_changes_are_meant_are_named_by_replaying(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("absolute actions",)))
    says(report, "replay", "delta and absolute actions mixed up")


def test_absolute_and_joint_columns_are_named(toy: Toy) -> None:
    targets = tuple(replace(column, name=column.name.replace("delta", "target")) for column in ACTION)
    report = toy.preflight(ToySuite(action=targets), toy.unified, demonstrations=False)
    says(report, "actions", "action 0, target_x", "a target against a change for each step", "delta and absolute")
    joints = tuple(Column(f"joint_{place}", "rad", -3, 3) for place in range(7))
    report = toy.preflight(ToySuite(action=joints), toy.unified, demonstrations=False)
    says(report, "actions", "action 0, joint_0 (rad)", "joint and end-effector control mixed up")


def test_another_width_is_named(toy: Toy) -> None:
    for checkpoint in (toy.recorded, toy.unified):
        report = toy.preflight(ToySuite(action=ACTION[:4]), checkpoint, demonstrations=False)
        says(report, "actions", "the suite has 4 numbers", "another robot or control mode")


def test_another_scale_is_named(toy: Toy) -> None:
    action = (replace(ACTION[0], unit="0.02 m"), *ACTION[1:])
    report = toy.preflight(ToySuite(action=action), toy.unified, demonstrations=False)
    says(report, "actions", "action 0, delta_x (0.02 m)", "2.5 times as much", "another unit or scale")


# -- row 11: min-max against q01/q99 statistics


def test_minima_and_maxima_in_place_of_quantiles_are_named(toy: Toy) -> None:
    for checkpoint, robot in ((toy.recorded, RECORDED), (toy.unified, UNIFIED)):
        actions = robot.to_unified_action(toy.actions)
        ends = Quantiles(tuple(actions.min(axis=0).tolist()), tuple(actions.max(axis=0).tolist()))
        damaged = replace(checkpoint, normalisation=replace(checkpoint.normalisation, action=ends))
        report = toy.preflight(checkpoint=damaged)
        says(
            report, "statistics", "the statistics are minima and maxima where the policy was trained with 1 % and 99 %"
        )


# -- rows 12, 13: chunk executed, max steps, control period


def test_more_actions_than_a_chunk_has_are_refused(toy: Toy) -> None:
    says(toy.preflight(ToySuite(execute=17)), "protocol", "17 actions of each chunk", "the policy gives 16")


def test_a_protocol_that_says_another_chunk_is_refused(toy: Toy) -> None:
    says(toy.preflight(ToySuite(more={"execute": 16})), "protocol", "8 actions of each chunk", "the protocol says 16")


def test_one_action_of_a_chunk_is_warned_of(toy: Toy) -> None:
    report = toy.preflight(ToySuite(execute=1))
    assert report.verdict == "warning"
    assert "1 of 16 actions of each chunk are carried out" in words(report)


def test_too_few_steps_are_named_with_the_task(toy: Toy) -> None:
    report = toy.preflight(ToySuite(max_steps=9))
    says(report, "protocol", "max steps of lift: episodes end after 9 actions, and a recorded demonstration takes")


def test_another_control_period_is_named(toy: Toy) -> None:
    report = toy.preflight(ToySuite(control_hz=5.0))
    says(
        report, "protocol", "the simulator takes 5 actions a second, the checkpoint was trained at 20", "control period"
    )
    report = toy.preflight(ToySuite(("double steps",)))
    says(report, "replay", "motions arrive twice as large as recorded (scale, or control period)")


# -- row 14: success at the last step against at any step


def test_quoting_the_last_step_of_episodes_that_stop_at_success_is_refused(toy: Toy) -> None:
    report = toy.preflight(ToySuite(quoted="final", past_success=0))
    says(report, "protocol", "success at the last step is confused with success at any step")
    assert toy.preflight(ToySuite(quoted="final", past_success=None)).verdict == "passed"


# -- row 15, 17: random placement; seeds


def test_random_placement_is_named(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("random placement",)))
    says(report, "cases", "begun twice, it is not the same", "takes no notice of the case's seed or initial state")


def test_a_random_list_of_cases_is_named(toy: Toy) -> None:
    class Drawn(ToySuite):
        def cases(self):  # noqa: ANN202
            draws = np.random.default_rng().integers(1 << 30, size=4).tolist()
            return [replace(case, seed=seed) for case, seed in zip(super().cases(), draws, strict=True)]

    says(toy.preflight(Drawn()), "cases", "the list of cases differs each time", "the protocol has a grid")


def test_the_same_initial_state_again_and_again_is_named(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("one initial state",)))
    says(report, "cases", "it looks just like toy/lift/1", "the same initial state is played again and again")


# -- row 16 and pictures: crops, orientation, channels, cameras, brightness


@pytest.mark.parametrize(
    ("fault", "camera", "cause"),
    [
        ("rotated", "front", "pictures are rotated by 180 degrees"),
        ("bgr", "front", "channels come as BGR"),
        ("swapped cameras", "front", "cameras are swapped: this is what training called 'wrist'"),
        ("swapped cameras", "wrist", "cameras are swapped: this is what training called 'front'"),
        ("cropped", "wrist", "pictures are cropped to the middle 80% of a side"),
        ("dark", "front", "another renderer (darker)"),
    ],
)
@pytest.mark.parametrize("demonstrations", [True, False])
def test_wrong_pictures_are_named(toy: Toy, fault: str, camera: str, cause: str, demonstrations: bool) -> None:
    report = toy.preflight(ToySuite((fault,)), demonstrations=demonstrations)
    says(report, "pictures", f"camera '{camera}'", cause)
    assert not [f for f in refused(report) if f.check != "pictures"], "nothing else is wrong"


def test_renamed_and_missing_cameras_are_named(toy: Toy) -> None:
    report = toy.preflight(ToySuite(("renamed camera",)))
    says(report, "protocol", "camera 'agentview'", "the policy looks through ['front', 'wrist']", "other names")
    says(toy.preflight(ToySuite(("no wrist",))), "protocol", "camera 'wrist'", "they will be black")


def test_an_old_checkpoint_is_told_that_its_pictures_are_not_known(toy: Toy) -> None:
    report = toy.preflight(checkpoint=replace(toy.recorded, seen=None), demonstrations=False)
    (finding,) = report.of("pictures")
    assert finding.verdict == "not checked"
    assert "does not say what its training pictures looked like" in finding.what
    assert report.verdict == "passed"


def test_statistics_of_another_data_set_are_named(toy: Toy) -> None:
    low = tuple(value + 0.5 if place < 3 else value for place, value in enumerate(toy.recorded.normalisation.state.q01))
    high = tuple(
        value + 0.5 if place < 3 else value for place, value in enumerate(toy.recorded.normalisation.state.q99)
    )
    state = Quantiles(low, high)
    damaged = replace(toy.recorded, normalisation=Normalisation(state, toy.recorded.normalisation.action, "recorded"))
    says(toy.preflight(checkpoint=damaged), "states", "eef_x (m)", "another origin, -0.5")
