"""Every form of a rotation against scipy's, round trips, and the places where angles jump."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data_mixtures.spaces.rotations import (
    antipodal_axis_angle,
    axis_angle_from_matrix,
    euler_from_matrix,
    matrix_from_6d_columns,
    matrix_from_axis_angle,
    matrix_from_column_major,
    matrix_from_euler,
    matrix_from_xyzw,
    robosuite_axis_angle_from_xyzw,
    rotation_change,
    xyzw_from_matrix,
    xyzw_from_wxyz,
)

few = settings(max_examples=60, deadline=None, derandomize=True)
angle = st.floats(-10, 10)
angles3 = st.tuples(angle, angle, angle).map(np.array)
# Exactly at, and within float noise of, the places where the formulas divide by nothing.
edge = st.sampled_from([0.0, np.pi / 2, -np.pi / 2, np.pi, -np.pi])
near_edge = st.tuples(edge, st.sampled_from([0.0, 1e-12, -1e-9, 1e-7, -1e-6, 1e-4])).map(sum)
angles_at_edges = st.tuples(near_edge, near_edge, near_edge).map(np.array)
orders = st.sampled_from(["xyz", "zxy", "zyx", "yxz", "zyz", "XYZ", "ZYX", "ZXY"])


@few
@given(angles3 | angles_at_edges, orders)
def test_euler_angles_of_every_order_are_scipys(angles: np.ndarray, order: str) -> None:
    np.testing.assert_allclose(
        matrix_from_euler(angles, order), Rotation.from_euler(order, angles).as_matrix(), atol=1e-12
    )


@few
@given(angles3 | angles_at_edges)
def test_matrix_to_euler_and_back_is_the_same_matrix(angles: np.ndarray) -> None:
    m = matrix_from_euler(angles)
    euler = euler_from_matrix(m)
    assert abs(euler[1]) <= np.pi / 2 + 1e-12
    np.testing.assert_allclose(matrix_from_euler(euler), m, atol=2e-7)


@few
@given(st.tuples(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1)).map(np.array))
def test_euler_to_matrix_and_back_is_the_same_angles(angles: np.ndarray) -> None:
    np.testing.assert_allclose(euler_from_matrix(matrix_from_euler(angles)), angles, atol=1e-9)


@few
@given(angles3 | angles_at_edges)
def test_quaternions_are_scipys_with_w_not_negative(angles: np.ndarray) -> None:
    m = Rotation.from_euler("xyz", angles).as_matrix()
    q = xyzw_from_matrix(m)
    assert q[3] >= 0
    assert np.linalg.norm(q) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(Rotation.from_quat(q).as_matrix(), m, atol=1e-10)
    np.testing.assert_allclose(matrix_from_xyzw(-3 * q), m, atol=1e-10)
    wxyz = np.roll(q, 1)
    np.testing.assert_allclose(xyzw_from_wxyz(-wxyz), q, atol=1e-15)


def test_half_turns_keep_their_axis() -> None:
    for axis in np.eye(3):
        q = xyzw_from_matrix(Rotation.from_rotvec(np.pi * axis).as_matrix())
        np.testing.assert_allclose(np.abs(q), [*axis, 0], atol=1e-12)


@few
@given(angles3 | st.just(np.zeros(3)) | st.just(np.array([1e-200, 0, 0])) | angles_at_edges)
def test_axis_angles_are_scipys(v: np.ndarray) -> None:
    np.testing.assert_allclose(matrix_from_axis_angle(v), Rotation.from_rotvec(v).as_matrix(), atol=1e-12)


@few
@given(angles3, st.floats(0.1, 10), st.floats(-3, 3))
def test_six_d_is_the_first_two_columns_made_orthonormal(angles: np.ndarray, length: float, lean: float) -> None:
    m = Rotation.from_euler("xyz", angles).as_matrix()
    first, second = m[:, 0], m[:, 1]
    leaning = np.concatenate([length * first, length * (second + lean * first)])
    np.testing.assert_allclose(matrix_from_6d_columns(leaning), m, atol=1e-9)


# What robosuite 1.4.0's transform_utils.quat2axisangle gives for these quaternions xyzw: of q and -q, two vectors.
ROBOSUITE = [
    ([-0.493977875, -0.815785517, -0.152987079, 0.258988036], [-1.33873514, -2.21086974, -0.41461205]),
    ([0.493977875, 0.815785517, 0.152987079, -0.258988036], [1.87465869, 3.09592693, 0.58058988]),
    ([0.761789409, 0.073564921, -0.370584183, -0.526243729], [3.80740429, 0.36767562, -1.85217042]),
    ([-0.761789409, -0.073564921, 0.370584183, 0.526243729], [-1.82151947, -0.17590155, 0.88610618]),
    ([0.34073916, 0.743956924, 0.124131591, -0.561263101], [1.78407127, 3.89527337, 0.64993881]),
    ([1.0, 0.0, 0.0, 0.0], [3.14159265, 0.0, 0.0]),
    ([0.9999, 0.0, 0.0, -0.014141782], [3.16987716, 0.0, 0.0]),
    ([0.001, 0.0, 0.0, 0.9999995], [0.002, 0.0, 0.0]),
    ([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0]),
    ([0.0, 0.0, 0.0, -1.0], [0.0, 0.0, 0.0]),
]


def test_robosuites_axis_angles_keep_the_quaternions_sign() -> None:
    given_, wanted = (np.array(column) for column in zip(*ROBOSUITE, strict=True))
    np.testing.assert_allclose(robosuite_axis_angle_from_xyzw(given_), wanted, atol=1e-6)
    # The short way round is another vector of the same rotation, up to 2 pi away.
    short = axis_angle_from_matrix(matrix_from_xyzw(given_))
    assert np.linalg.norm(short, axis=1).max() <= np.pi + 1e-6
    long = np.linalg.norm(wanted, axis=1) > np.pi + 1e-6
    assert long.sum() == 4
    np.testing.assert_allclose(short[~long], wanted[~long], atol=1e-6)
    np.testing.assert_allclose(antipodal_axis_angle(wanted[long]), short[long], atol=1e-6)


@few
@given(angles3 | angles_at_edges)
def test_axis_angles_come_back_at_any_size_and_are_not_euler_angles(v: np.ndarray) -> None:
    m = Rotation.from_rotvec(v).as_matrix()
    short = axis_angle_from_matrix(m)
    assert np.linalg.norm(short) <= np.pi + 1e-9
    np.testing.assert_allclose(matrix_from_axis_angle(short), m, atol=1e-7)
    np.testing.assert_allclose(matrix_from_axis_angle(antipodal_axis_angle(short)), m, atol=1e-7)


def test_euler_angles_taken_for_axis_angle_are_invisible_when_small_only() -> None:
    small, large = np.array([0.01, -0.02, 0.015]), np.array([0.9, -1.1, 0.8])
    assert np.abs(matrix_from_euler(small) - matrix_from_axis_angle(small)).max() < 5e-4
    assert np.abs(matrix_from_euler(large) - matrix_from_axis_angle(large)).max() > 0.3


def test_column_major_matrices_hold_the_position_in_their_last_four_numbers() -> None:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_euler("xyz", [0.1, 0.2, 0.3]).as_matrix(), [7, 8, 9]
    flat = pose.T.ravel()
    assert flat[12:15].tolist() == [7, 8, 9]
    np.testing.assert_array_equal(matrix_from_column_major(np.stack([flat, flat]))[1], pose)


@few
@given(angles3, st.tuples(*[st.floats(-0.3, 0.3)] * 3).map(np.array))
def test_a_change_is_seen_from_the_base_and_leads_to_the_next_rotation(before: np.ndarray, turn: np.ndarray) -> None:
    first = matrix_from_euler(before)
    second = matrix_from_euler(turn) @ first
    np.testing.assert_allclose(rotation_change(first, second), turn, atol=1e-9)


def test_a_change_across_pi_is_small() -> None:
    change = rotation_change(matrix_from_euler([0, 0, np.pi - 0.01]), matrix_from_euler([0, 0, -np.pi + 0.01]))
    np.testing.assert_allclose(change, [0, 0, 0.02], atol=1e-12)


def test_what_is_no_rotation_is_nan_without_a_warning() -> None:
    assert np.isnan(matrix_from_xyzw(np.zeros(4))).all()
    assert np.isnan(matrix_from_xyzw([np.nan, 0, 0, 1])).all()
    assert np.isnan(matrix_from_6d_columns(np.zeros(6))).all()
    assert np.isnan(matrix_from_euler([np.inf, 0, 0])).any()
    assert np.isnan(xyzw_from_matrix(matrix_from_xyzw(np.zeros(4)))).all()
    assert np.isnan(rotation_change(np.eye(3), np.full((3, 3), np.nan))).any()


def test_wrong_widths_and_orders_are_named() -> None:
    with pytest.raises(ValueError, match=r"xyzw has shape \(3,\)"):
        matrix_from_xyzw([1, 2, 3])
    with pytest.raises(ValueError, match="order is 'xYz'"):
        matrix_from_euler([1, 2, 3], "xYz")


def test_leading_dimensions_are_kept() -> None:
    m = Rotation.from_rotvec(np.random.default_rng(3).normal(0, 2, (6, 3))).as_matrix().reshape(2, 3, 3, 3)
    assert xyzw_from_matrix(m).shape == (2, 3, 4)
    np.testing.assert_allclose(matrix_from_euler(euler_from_matrix(m)), m, atol=1e-12)
    np.testing.assert_allclose(matrix_from_6d_columns(np.concatenate([m[..., 0], m[..., 1]], axis=-1)), m, atol=1e-12)
