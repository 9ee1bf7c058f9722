"""The suites' columns against the robots': each suite's own robot passes, every other one is refused by name."""

import pytest

from data_mixtures.spaces.embodiments import EMBODIMENTS, LIBERO
from data_mixtures.statistics.normalisation import Normalisation, Quantiles
from eval.libero.suite import LiberoSuite
from eval.metaworld.suite import MetaWorldSuite
from eval.preflight.checkpoint import Checkpoint
from eval.preflight.column_check import check_columns
from eval.preflight.columns import meaning
from eval.preflight.findings import Finding
from eval.simpler.suite import SimplerSuite
from eval.suite import Column, Suite

SUITES: dict[str, Suite] = {
    "metaworld_sawyer": MetaWorldSuite(tasks=("push-v3",)),
    "libero_commands": LiberoSuite("libero_object"),
    "simpler_google": SimplerSuite("google"),
    "simpler_widowx": SimplerSuite("widowx"),
}


def found(suite: Suite, robot: str) -> list[Finding]:
    quantiles = Quantiles((0.0,) * 46, (1.0,) * 46), Quantiles((0.0,) * 44, (1.0,) * 44)
    return check_columns(suite, Checkpoint("one", ("front",), 10, Normalisation(*quantiles), EMBODIMENTS[robot]))


@pytest.mark.parametrize("own", SUITES)
@pytest.mark.parametrize("robot", EMBODIMENTS)
def test_each_suites_own_robot_passes_and_no_other(own: str, robot: str) -> None:
    findings = found(SUITES[own], robot)
    if robot == own:
        assert [finding.verdict for finding in findings] == ["passed", "passed"], findings
    else:
        assert "refused" in [finding.verdict for finding in findings], (own, robot)


def test_a_robot_that_only_differs_in_its_rotations_is_named_so() -> None:
    refused = [str(finding) for finding in found(SUITES["simpler_widowx"], "libero_commands")]
    assert any(
        "action 3, delta_roll (rad)" in text and "one rotation form is taken for another" in text for text in refused
    )
    assert any("gripper polarity is flipped" in text for text in refused)
    assert any("delta_x (m)" in text and "0.05 times as much" in text for text in refused)


def test_actions_that_are_no_commands_are_refused() -> None:
    (finding,) = [one for one in found(SUITES["libero_commands"], "libero") if one.verdict == "refused"]
    assert LIBERO.left is not None
    assert LIBERO.left.action.kind == "from_state"
    assert "it was trained on what the robot did, not on what it was told" in finding.cause


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        ("eef_x", "m", ("position", "", "x", 1.0)),
        ("delta_x", "0.05 m", ("position", "delta", "x", 0.05)),
        ("dyaw", "rad", ("euler", "delta", "yaw", 1.0)),
        ("delta_axis_angle_z", "0.5 rad", ("axis-angle", "delta", "z", 0.5)),
        ("quaternion_w", "1", ("quaternion", "", "w", None)),
        ("target_joint_3", "deg", ("joint", "target", "3", 0.017453292519943295)),
        ("rotation_y", "rad", ("rotation", "", "y", 1.0)),
        ("temperature", "K", ("unknown", "", "", None)),
        ("finger_1", "mm", ("gripper", "", "1", 0.001)),
    ],
)
def test_names_and_units_are_read(name: str, unit: str, expected: tuple[object, ...]) -> None:
    one = meaning(Column(name, unit, -1.0, 1.0))
    assert (one.quantity, one.kind, one.part, one.metres_or_rad) == expected


@pytest.mark.parametrize(
    ("name", "unit", "opens", "closes"),
    [
        ("gripper_opening", "1", 1.0, 0.0),
        ("gripper_closing", "1", 0.0, 1.0),
        ("gripper_closedness", "1", 0.0, 1.0),
        ("gripper", "-1 open, 1 closed", -1.0, 1.0),
        ("gripper (open 0.08, closed 0)", "m", 0.08, 0.0),
        ("gripper", "m", None, None),
    ],
)
def test_what_opens_a_gripper_is_read(name: str, unit: str, opens: float | None, closes: float | None) -> None:
    one = meaning(Column(name, unit, 0.0, 1.0))
    assert (one.open_at, one.closed_at) == (opens, closes)
