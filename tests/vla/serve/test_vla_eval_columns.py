"""Each benchmark's numbers against the other places that know them: scipy, our own suites, the harness's classes."""

import importlib
import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation as Turn

from data_mixtures.spaces.arm_columns import Gripper, Position, Rotation
from data_mixtures.spaces.embodiments import LIBERO_COMMANDS, SIMPLER_WIDOWX, Arm, ArmAction, Embodiment
from data_mixtures.spaces.recorded_columns import RecordedColumns
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from eval.simpler.states import bridge_state as suite_bridge_state
from eval.simpler.states import fractal_state as suite_fractal_state
from vla.serve.conversation import HangUpError
from vla.serve.observations import Sizes
from vla.serve.vla_eval_benchmarks import BENCHMARKS, KINDS, folder_of
from vla.serve.vla_eval_columns import Columns

RNG = np.random.default_rng(0)
RECORDED = Embodiment("recorded", recorded=RecordedColumns())


def sizes(state_dim: int, action_dim: int) -> Sizes:
    return Sizes(("image",), state_dim, action_dim, 8)


def libero_like(**action: object) -> Embodiment:
    arm = LIBERO_COMMANDS.left
    assert arm is not None
    return replace(LIBERO_COMMANDS, robot_type="mine", left=replace(arm, action=replace(arm.action, **action)))


def test_a_policy_of_the_benchmarks_own_columns_is_passed_through():
    chunk = RNG.normal(size=(5, 7)).astype(np.float32)
    for robot in (LIBERO_COMMANDS, RECORDED):
        columns = Columns(BENCHMARKS["libero"], sizes(8, 7), robot)
        columns.check_commands()
        assert columns.commands(chunk) is chunk


def test_libero_from_commands_written_down_in_another_way():
    """Metres, Euler angles in degrees and a gripper that opens at 1, as LIBERO's shares, axis-angle and -1."""
    robot = libero_like(
        position=Position([0, 1, 2], unit="cm"),
        rotation=Rotation("euler_xyz", [3, 4, 5], unit="deg"),
        gripper=Gripper(index=6, open=1.0, closed=0.0),
    )
    columns = Columns(BENCHMARKS["libero"], sizes(8, 7), robot)
    columns.check_state()
    columns.check_commands()
    angles = np.array([10.0, -12.0, 6.0])
    given = np.array([[1.0, -2.0, 0.5, *angles, 1.0], [0, 0, 0, 0, 0, 0, 0.0]], np.float32)
    turn = Turn.from_euler("xyz", angles, degrees=True).as_rotvec() / 0.5
    expected = [[0.2, -0.4, 0.1, *turn, -1.0], [0, 0, 0, 0, 0, 0, 1.0]]
    np.testing.assert_allclose(columns.commands(given), expected, atol=1e-6)


def test_libero_from_a_policy_of_the_unified_space():
    columns = Columns(BENCHMARKS["libero"], sizes(STATE_DIM, ACTION_DIM), None)
    columns.check_state()
    columns.check_commands()
    turn = Turn.from_rotvec([2.5, 0.5, -1.0])
    sent = np.array([0.1, 0.2, 0.3, *turn.as_rotvec(), 0.03, -0.03])
    state = columns.state(sent)
    assert state.shape == (STATE_DIM,)
    np.testing.assert_allclose(state[:3], sent[:3], atol=1e-6)
    np.testing.assert_allclose(Turn.from_quat(state[3:7]).as_matrix(), turn.as_matrix(), atol=1e-6)
    assert state[7] == pytest.approx(0.75)
    chunk = np.zeros((1, ACTION_DIM), np.float32)
    chunk[0, :7] = [0.05, 0, -0.025, 0.5, 0, 0, 1]
    np.testing.assert_allclose(columns.commands(chunk), [[1, 0, -0.5, 1, 0, 0, -1]], atol=1e-6)


@pytest.mark.parametrize("robot", [RECORDED, SIMPLER_WIDOWX, None])
def test_simpler_turns_angles_into_an_axis(robot: Embodiment | None):
    columns = Columns(BENCHMARKS["simpler-widowx"], sizes(7, 7) if robot else sizes(STATE_DIM, ACTION_DIM), robot)
    columns.check_state()
    columns.check_commands()
    given = np.zeros((1, 7 if robot else ACTION_DIM), np.float32)
    given[0, :7] = [0.01, -0.02, 0.03, 0.9, -0.5, 1.2, 0.7]
    turn = Turn.from_euler("xyz", [0.9, -0.5, 1.2]).as_rotvec()
    np.testing.assert_allclose(columns.commands(given), [[0.01, -0.02, 0.03, *turn, 0.7]], atol=1e-6)


def test_simplers_states_are_those_of_our_own_suite():
    """Both start from a base and a hand somewhere in the world; the harness sends the hand seen from the base."""
    for _ in range(20):
        base, hand, opening = Turn.random(rng=RNG), Turn.random(rng=RNG), RNG.uniform()
        at, of = RNG.normal(size=3), RNG.normal(size=3)
        relative = base.inv() * hand
        sent = np.array([*base.inv().apply(of - at), *np.roll(relative.as_quat(), 1), opening])
        poses = [np.array([*p, *np.roll(turn.as_quat(), 1)]) for p, turn in ((at, base), (of, hand))]
        fingers, limits = ["left_finger", "right_finger"], np.array([[0.015, 0.037]] * 2)
        joints = np.full(2, 0.015 + opening * 0.022)
        ours = suite_bridge_state(poses[0], poses[1], joints, fingers, limits)
        columns = Columns(BENCHMARKS["simpler-widowx"], sizes(7, 7), RECORDED)
        np.testing.assert_allclose(columns.state(sent), ours, atol=1e-5)
        fingers, limits = ["joint_finger_right", "joint_finger_left"], np.array([[0.0, 1.3]] * 2)
        ours = suite_fractal_state(poses[0], poses[1], np.full(2, 1.3 * (1 - opening)), fingers, limits)
        columns = Columns(BENCHMARKS["simpler-google"], sizes(8, 7), RECORDED)
        np.testing.assert_allclose(columns.state(sent), ours, atol=1e-5)


def test_calvins_shares_become_metres():
    columns = Columns(BENCHMARKS["calvin"], sizes(8, 7), RECORDED)
    columns.check_state()
    columns.check_commands()
    given = np.array([[1, -1, 0.5, 1, 0, -1, -1], [0, 0, 0, 0, 0, 0, 1]], np.float32)
    expected = [[0.02, -0.02, 0.01, 0.05, 0, -0.05, -1], [0, 0, 0, 0, 0, 0, 1]]
    np.testing.assert_allclose(columns.commands(given), expected, atol=1e-7)


def test_commands_that_cannot_become_the_benchmarks():
    arm = Arm(action=ArmAction("delta", Position([0, 1, 2]), gripper=Gripper(1.0, 0.0, 3)))
    with pytest.raises(HangUpError, match="LIBERO takes more than 'slider' commands"):
        Columns(BENCHMARKS["libero"], sizes(8, 4), Embodiment("slider", left=arm)).check_commands()
    with pytest.raises(HangUpError, match="RLBench sends no state; this policy reads one of 7"):
        Columns(BENCHMARKS["rlbench"], sizes(7, 8), RECORDED).check_state()
    with pytest.raises(HangUpError, match="RoboTwin has an action of 14 numbers, this policy 44"):
        Columns(BENCHMARKS["robotwin"], sizes(STATE_DIM, ACTION_DIM), None).check_commands()
    other = libero_like()
    assert other.left is not None
    turned = replace(other, left=replace(other.left, position=Position([2, 1, 0])))
    with pytest.raises(HangUpError, match="in other columns than 'mine'"):
        Columns(BENCHMARKS["libero"], sizes(8, 7), turned).check_state()


def test_the_harness_has_every_benchmark_and_what_is_asked_of_it():
    vla_eval = pytest.importorskip("vla_eval", reason="vla-eval: `make setup` installs it")
    folder = Path(vla_eval.__file__).parent / "benchmarks"
    known = {name for name in BENCHMARKS if name not in {kind for kinds in KINDS.values() for kind in kinds}}
    for name in {*known, *KINDS}:
        source = (folder / name / "benchmark.py").read_text()
        assert folder_of(f"vla_eval.benchmarks.{name}.benchmark:Any") == name
        for kind in KINDS.get(name, (name,)):
            for asked in BENCHMARKS[kind].asks:
                assert f"{asked}:" in source or name == "libero_plus"  # hands what it does not know to LIBERO's
            for camera in BENCHMARKS[kind].cameras:
                assert f'"{camera}"' in source or "LIBEROBenchmark" in source
    libero = importlib.import_module("vla_eval.benchmarks.libero.benchmark").LIBEROBenchmark
    assert {"quat_no_antipodal", "send_state", "send_wrist_image"} <= set(inspect.signature(libero).parameters)
    assert folder_of("my.own:Benchmark") is None
    assert folder_of(None) is None
