"""LIBERO's hdf5 files: frames the right way up, which action belongs to which frame, and damaged files."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from libero_files import robot, scene, write_task

from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers.libero_hdf5 import LiberoHdf5Reader, is_libero_hdf5
from data_mixtures.spaces.rotations import matrix_from_axis_angle, matrix_from_xyzw, rotation_change

STOVE = "KITCHEN_SCENE3_turn_on_the_stove"
BOWL = "put_the_black_bowl_on_the_plate"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("libero")
    write_task(root / f"{STOVE}_demo.hdf5", {0: 12, 1: 9, 2: 10, 10: 11}, "turn on the stove")
    write_task(root / f"{BOWL}_demo.hdf5", {3: 8}, published=False, size=24)
    return root


def test_keys_texts_and_order(root: Path) -> None:
    reader = LiberoHdf5Reader(root)
    assert [reader.key(i) for i in range(len(reader))] == [
        *(f"{STOVE}/demo_{i}" for i in (0, 1, 2, 10)),
        f"{BOWL}/demo_3",
    ]
    assert [len(reader.episode(i)) for i in range(len(reader))] == [12, 9, 10, 11, 8]
    assert reader.episode(0).instruction == "turn on the stove"
    assert reader.episode(4).instruction == "put the black bowl on the plate"
    assert reader.episode(0).fps == 20
    assert not reader.defects


def test_the_scene_is_no_part_of_an_instruction_taken_from_the_name(tmp_path: Path) -> None:
    write_task(tmp_path / "LIVING_ROOM_SCENE10_pick_up_the_book_demo.hdf5", {0: 3}, published=False)
    assert LiberoHdf5Reader(tmp_path).episode(0).instruction == "pick up the book"


@pytest.mark.parametrize(("index", "seed", "length", "published"), [(1, 1, 9, True), (4, 3, 8, False)])
def test_numbers(root: Path, index: int, seed: int, length: int, published: bool) -> None:
    numerics = LiberoHdf5Reader(root).episode(index).numerics
    pose, fingers, actions = robot(length, seed)
    rotation = matrix_from_axis_angle(pose[:, 3:])
    np.testing.assert_allclose(numerics.state[:, :3], pose[:, :3], atol=1e-6)
    np.testing.assert_allclose(matrix_from_xyzw(numerics.state[:, 3:7]), rotation, atol=1e-6)
    np.testing.assert_allclose(numerics.state[:, 7], fingers[:, 0] / 0.04, atol=1e-6)  # 1 is open
    np.testing.assert_allclose(numerics.actions[:-1, :3], np.diff(pose[:, :3], axis=0), atol=1e-6)
    np.testing.assert_allclose(numerics.actions[:-1, 3:6], rotation_change(rotation[:-1], rotation[1:]), atol=1e-6)
    assert not numerics.action_mask[-1, :6].any()
    # Told to close at action 4: seen first in frame 4 as published, between frames 4 and 5 in replayed copies.
    closes = np.flatnonzero(numerics.actions[:, 6] == 0)[0]
    assert closes == (3 if published else 4)
    assert (actions[4:, 6] == 1).all()
    assert numerics.action_mask[-1, 6] == (not published)
    assert numerics.action_mask[:-1, :7].all()
    assert not numerics.action_mask[:, 7:].any()
    assert numerics.state_mask[:, :8].all()
    assert not numerics.state_mask[:, 8:].any()


def test_frames_are_the_right_way_up(root: Path) -> None:
    reader = LiberoHdf5Reader(root)
    numbers = np.array([7, 0, 3, 3])
    np.testing.assert_array_equal(reader.frames(1, "primary", numbers), scene(9, 1)[numbers])
    np.testing.assert_array_equal(reader.episode(1).frames("wrist", numbers), scene(9, 101)[numbers])
    np.testing.assert_array_equal(reader.frames(4, "primary", np.arange(8)), scene(8, 3, 24))


def test_pictures_that_are_stored_the_right_way_up(tmp_path: Path) -> None:
    write_task(tmp_path / "a_demo.hdf5", {0: 5}, convention="opencv")
    np.testing.assert_array_equal(LiberoHdf5Reader(tmp_path).frames(0, "primary", np.arange(5)), scene(5, 0))


@pytest.mark.parametrize(
    ("path", "table", "kind"),
    [
        ("obs/ee_states", None, "column"),
        ("obs/ee_states", np.zeros((4, 6)), "length"),
        ("obs/ee_states", np.full((5, 6), np.nan), "not_finite"),
        ("obs/gripper_states", np.full((5, 2), np.inf), "not_finite"),
        ("actions", np.zeros((5, 8)), "column"),
        ("actions", np.full((5, 7), np.nan), "not_finite"),
        ("actions", np.zeros((0, 7)), "column"),
        ("obs/agentview_rgb", np.zeros((4, 8, 8, 3), dtype=np.uint8), "length"),
        ("obs/agentview_rgb", np.zeros((5, 8, 8, 3), dtype=np.float32), "column"),
        ("obs/eye_in_hand_rgb", np.zeros((5, 8, 8), dtype=np.uint8), "column"),
    ],
)
def test_bad_tables(tmp_path: Path, path: str, table: np.ndarray | None, kind: str) -> None:
    write_task(tmp_path / "a_demo.hdf5", {0: 5, 1: 5})
    with h5py.File(tmp_path / "a_demo.hdf5", "a") as file:
        del file[f"data/demo_0/{path}"]
        if table is not None:
            file[f"data/demo_0/{path}"] = table
    reader = LiberoHdf5Reader(tmp_path)
    assert len(reader.episode(1)) == 5
    with pytest.raises(BadEpisodeError) as error:
        reader.episode(0)
    assert (error.value.defect.key, error.value.defect.kind) == ("a/demo_0", kind)


def test_a_table_that_claims_to_be_huge_or_was_never_written(tmp_path: Path) -> None:
    write_task(tmp_path / "a_demo.hdf5", {0: 5})
    for shape in ((1 << 40, 6), (5, 6)):
        with h5py.File(tmp_path / "a_demo.hdf5", "a") as file:
            del file["data/demo_0/obs/ee_states"]
            file.create_dataset("data/demo_0/obs/ee_states", shape, dtype="f8", chunks=(5, 6))
        with pytest.raises(BadEpisodeError, match=r"MiB|holds no values"):
            LiberoHdf5Reader(tmp_path).episode(0)


def test_bad_files(tmp_path: Path) -> None:
    for name in "abc":
        write_task(tmp_path / f"{name}_demo.hdf5", {0: 5})
    whole = (tmp_path / "b_demo.hdf5").read_bytes()
    (tmp_path / "b_demo.hdf5").write_bytes(whole[: len(whole) // 2])
    with h5py.File(tmp_path / "c_demo.hdf5", "w") as file:
        file.create_group("data")
    reader = LiberoHdf5Reader(tmp_path)
    assert len(reader) == 1
    assert [(d.key, d.kind) for d in reader.defects] == [("b_demo.hdf5", "truncated"), ("c_demo.hdf5", "empty")]
    write_task(tmp_path / "a_demo.hdf5", {0: 6})
    with pytest.raises(BadEpisodeError) as error:
        reader.frames(0, "primary", np.arange(2))
    assert error.value.defect.kind == "changed"


def test_what_is_no_libero(tmp_path: Path) -> None:
    assert not is_libero_hdf5(tmp_path)
    with pytest.raises(ValueError, match="_demo.hdf5"):
        LiberoHdf5Reader(tmp_path)


def test_fingerprint(root: Path, tmp_path: Path) -> None:
    one = LiberoHdf5Reader(root).fingerprint
    assert one == LiberoHdf5Reader(root).fingerprint
    write_task(tmp_path / f"{STOVE}_demo.hdf5", {0: 12, 1: 9, 2: 10, 11: 11}, "turn on the stove")
    write_task(tmp_path / f"{BOWL}_demo.hdf5", {3: 8}, published=False, size=24)
    assert LiberoHdf5Reader(tmp_path).fingerprint != one
