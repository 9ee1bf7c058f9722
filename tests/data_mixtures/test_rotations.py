"""Every form of a rotation against scipy's, round trips, and the places where angles jump."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data_mixtures.spaces.rotations import (
    euler_from_matrix,
    matrix_from_6d,
    matrix_from_axis_angle,
    matrix_from_column_major,
    matrix_from_euler,
    matrix_from_quaternion,
    quaternion_from_matrix,
    rotation_change,
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
    q = quaternion_from_matrix(m)
    assert q[3] >= 0
    assert np.linalg.norm(q) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(Rotation.from_quat(q).as_matrix(), m, atol=1e-10)
    np.testing.assert_allclose(matrix_from_quaternion(-3 * q), m, atol=1e-10)
    wxyz = np.roll(q, 1)
    np.testing.assert_allclose(xyzw_from_wxyz(-wxyz), q, atol=1e-15)


def test_half_turns_keep_their_axis() -> None:
    for axis in np.eye(3):
        q = quaternion_from_matrix(Rotation.from_rotvec(np.pi * axis).as_matrix())
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
    np.testing.assert_allclose(matrix_from_6d(leaning), m, atol=1e-9)


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
    assert np.isnan(matrix_from_quaternion(np.zeros(4))).all()
    assert np.isnan(matrix_from_quaternion([np.nan, 0, 0, 1])).all()
    assert np.isnan(matrix_from_6d(np.zeros(6))).all()
    assert np.isnan(matrix_from_euler([np.inf, 0, 0])).any()
    assert np.isnan(quaternion_from_matrix(matrix_from_quaternion(np.zeros(4)))).all()
    assert np.isnan(rotation_change(np.eye(3), np.full((3, 3), np.nan))).any()


def test_wrong_widths_and_orders_are_named() -> None:
    with pytest.raises(ValueError, match=r"xyzw has shape \(3,\)"):
        matrix_from_quaternion([1, 2, 3])
    with pytest.raises(ValueError, match="order is 'xYz'"):
        matrix_from_euler([1, 2, 3], "xYz")


def test_leading_dimensions_are_kept() -> None:
    m = Rotation.from_rotvec(np.random.default_rng(3).normal(0, 2, (6, 3))).as_matrix().reshape(2, 3, 3, 3)
    assert quaternion_from_matrix(m).shape == (2, 3, 4)
    np.testing.assert_allclose(matrix_from_euler(euler_from_matrix(m)), m, atol=1e-12)
    np.testing.assert_allclose(matrix_from_6d(np.concatenate([m[..., 0], m[..., 1]], axis=-1)), m, atol=1e-12)
