"""Every known RLDS set, written in its own raw structure from a known motion and read back as that motion.

The raw structures below are the published ones (TFDS catalogue), written down apart from the table they test.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rlds_files import Image, Leaf, Tensor, Text, write_rlds
from scipy.spatial.transform import Rotation

from data_mixtures.episode import Episode
from data_mixtures.readers.oxe import oxe_spec_for, oxe_specs
from data_mixtures.readers.rlds import RldsReader
from data_mixtures.spaces.rotations import matrix_from_euler

T = 6
INSTRUCTION = "put the blåbär away"
OPENING = np.array([1.0, 1, 0, 0, 1, 1])
COMMANDED = np.array([1.0, 0, 0, 1, 1, 1])
RELATIVE = np.array([0.0, 1, 0, -1, 0, 0])  # holds, closes, holds, opens, holds: COMMANDED
COLOURS = {"primary": (200, 40, 90), "secondary": (30, 180, 60), "wrist": (60, 90, 210)}


def motion() -> tuple[np.ndarray, Rotation]:
    """A path of 5 cm steps that turns up to half a radian a step, yaw crossing pi."""
    random = np.random.default_rng(7)
    position = np.array([0.4, -0.1, 0.3]) + np.cumsum(random.normal(0, 0.05, (T, 3)), axis=0)
    rotations = [Rotation.from_euler("xyz", [2.9, -0.4, 3.1])]
    for turn in random.normal(0, 0.3, (T - 1, 3)):
        rotations.append(Rotation.from_rotvec(turn) * rotations[-1])
    return position, Rotation.concatenate(rotations)


POSITION, ROTATION = motion()
QUATERNION = ROTATION.as_quat() * np.array([1, -1, 1, -1, 1, -1])[:, None]  # either sign is the same rotation
EULER = ROTATION.as_euler("xyz")
NOISE = np.random.default_rng(3).uniform(-1, 1, (T, 64))  # what must not be read


def junk(width: int) -> np.ndarray:
    return NOISE[:, :width]


def column(values: np.ndarray) -> np.ndarray:
    return values[:, None]


def rows(*parts: np.ndarray | list[float]) -> np.ndarray:
    return np.column_stack([np.asarray(part) for part in parts])


def column_major() -> np.ndarray:
    matrices = np.tile(np.eye(4), (T, 1, 1))
    matrices[:, :3, :3], matrices[:, :3, 3] = ROTATION.as_matrix(), POSITION
    return matrices.swapaxes(1, 2).reshape(T, 16)


def code_points() -> np.ndarray:
    points = np.zeros((T, 512), np.int64)
    points[:, : len(INSTRUCTION)] = [ord(letter) for letter in INSTRUCTION]
    points[:, len(INSTRUCTION) + 1 :] = ord("x")  # what follows the first NUL is not text
    return points


def frames(colour: tuple[int, int, int], stored: str) -> np.ndarray:
    """One colour above black; `stored` may be bgr or mirrored."""
    image = np.zeros((T, 16, 24, 3), np.uint8)
    image[:, :8] = colour
    image[np.arange(T), 8:, np.arange(T)] = 255  # differs from step to step, and is on the left
    if stored == "bgr":
        return image[..., ::-1]
    return image[:, :, ::-1] if stored == "mirrored" else image


@dataclass(frozen=True)
class Case:
    """One published set.

    Attributes:
        builder: its TFDS name, and `fps` its rate.
        cameras: image field of each camera; `stored` says how the frames lie in it ("rgb" unless named).
        text: the instruction's field, or "" where it is another than a string.
        fields: raw fields; a tensor's shape and type are its values'.
        position: measured axes; `rotation` whether it is known.
        opening: the gripper state that must be read, None without one; `action` likewise the action's gripper.
    """

    builder: str
    fps: float
    cameras: dict[str, str]
    text: str
    fields: dict[str, np.ndarray]
    position: tuple[int, ...] = (0, 1, 2)
    rotation: bool = True
    opening: np.ndarray | None = field(default_factory=OPENING.copy)
    action: np.ndarray | None = field(default_factory=COMMANDED.copy)
    stored: dict[str, str] = field(default_factory=dict)


NATURAL, PLAIN = "steps/observation/natural_language_instruction", "steps/language_instruction"
TWO = {"primary": "image", "wrist": "wrist_image"}
SUFFIX = "_dataset_converted_externally_to_rlds"
MINUS_PLUS = 1 - 2 * COMMANDED  # -1 open, +1 closed
NEXT = np.append(OPENING[1:], np.nan)  # the action's gripper where only the state has one


def google(pose: str) -> dict[str, np.ndarray]:
    return {
        f"steps/observation/{pose}": rows(POSITION, QUATERNION),
        "steps/observation/gripper_closed": column(1 - OPENING),
        "steps/action/world_vector": junk(3),
        "steps/action/rotation_delta": junk(3),
        "steps/action/gripper_closedness_action": column(RELATIVE),
    }


CASES = [
    Case("fractal20220817_data", 3, {"primary": "image"}, NATURAL, google("base_pose_tool_reached")),
    Case("kuka", 10, {"primary": "image"}, NATURAL, google("clip_function_input/base_pose_tool_reached")),
    Case(
        "bridge_dataset", 5, {"primary": "image_0", "secondary": "image_1"}, PLAIN,
        {
            "steps/observation/state": rows(POSITION, EULER, OPENING * 1.0008),
            "steps/action": rows(junk(6), [1, 0.6, 0, 0.3, 1, 1]),
        },
        action=np.array([1.0, 0, 0, 1, 1, 1]),
    ),
    Case(
        "taco_play", 15, {"primary": "rgb_static", "wrist": "rgb_gripper"}, NATURAL,
        {
            "steps/observation/robot_obs": rows(POSITION, EULER, OPENING * 0.0807, junk(7), 2 * OPENING - 1),
            "steps/action/rel_actions_world": rows(junk(6), MINUS_PLUS),
        },
        action=NEXT,
    ),
    Case(
        "jaco_play", 10, {"primary": "image", "wrist": "image_wrist"}, NATURAL,
        {
            "steps/observation/end_effector_cartesian_pos": rows(POSITION, QUATERNION),
            "steps/action/world_vector": junk(3),
            "steps/action/gripper_closedness_action": column(RELATIVE),
        },
        opening=None,
    ),
    Case(
        "berkeley_cable_routing", 10,
        {"primary": "image", "secondary": "top_image", "wrist": "wrist45_image"}, NATURAL,
        {
            "steps/observation/robot_state": rows(POSITION, QUATERNION),
            "steps/action/world_vector": junk(3),
            "steps/action/rotation_delta": junk(3),
        },
        opening=None, action=None,
    ),
    Case(
        "roboturk", 10, {"primary": "front_rgb"}, NATURAL,
        {
            "steps/action/world_vector": junk(3),
            "steps/action/rotation_delta": junk(3),
            "steps/action/gripper_closedness_action": column(MINUS_PLUS),
        },
        position=(), rotation=False, opening=None,
    ),
    Case(
        "viola", 20, {"primary": "agentview_rgb", "wrist": "eye_in_hand_rgb"}, NATURAL,
        {
            "steps/observation/ee_states": column_major(),
            "steps/observation/gripper_states": column(OPENING * 0.0775),
            "steps/observation/joint_states": junk(7),
            "steps/action/world_vector": junk(3),
            "steps/action/gripper_closedness_action": MINUS_PLUS,
        },
    ),
    Case(
        "berkeley_autolab_ur5", 5, {"primary": "image", "wrist": "hand_image"}, NATURAL,
        {
            "steps/observation/robot_state": rows(junk(6), POSITION, QUATERNION, 1 - OPENING, junk(1)),
            "steps/action/world_vector": junk(3),
            "steps/action/gripper_closedness_action": RELATIVE,
        },
        stored={"wrist": "bgr"},
    ),
    Case(
        "toto", 30, {"primary": "image"}, NATURAL,
        {
            "steps/observation/state": junk(7),
            "steps/action/world_vector": POSITION,
            "steps/action/rotation_delta": EULER,
            "steps/action/open_gripper": COMMANDED.astype(bool),
        },
        opening=None,
    ),
    Case(
        "language_table", 10, {"primary": "rgb"}, "",
        {
            "steps/observation/effector_translation": POSITION[:, :2],
            "steps/observation/effector_target_translation": junk(2),
            "steps/observation/instruction": code_points().astype(np.int32),
            "steps/action": junk(2),
        },
        position=(0, 1), rotation=False, opening=None, action=None,
    ),
    Case(
        f"stanford_hydra{SUFFIX}", 10, TWO, PLAIN,
        {
            "steps/observation/state": rows(POSITION, QUATERNION, EULER, junk(14), OPENING * 0.0811, junk(2)),
            "steps/action": rows(junk(6), 1 - COMMANDED),
        },
        stored={"primary": "bgr", "wrist": "bgr"},
    ),
    Case(
        f"austin_buds{SUFFIX}", 20, TWO, PLAIN,
        {
            "steps/observation/state": rows(junk(7), OPENING * 0.08, column_major()),
            "steps/action": rows(junk(6), MINUS_PLUS),
        },
    ),
    Case(
        f"nyu_franka_play{SUFFIX}", 3, {"primary": "image", "secondary": "image_additional_view"}, PLAIN,
        {
            "steps/observation/state": rows(junk(7), POSITION, EULER),
            "steps/observation/depth": np.zeros((T, 2, 2, 1), np.int32),
            "steps/action": rows(junk(13), 2 * COMMANDED - 1, junk(1)),
        },
        opening=None,
    ),
    Case(
        f"furniture_bench{SUFFIX}", 10, TWO, PLAIN,
        {
            "steps/observation/state": rows(POSITION, QUATERNION, junk(27), OPENING * 0.08),
            "steps/action": rows(junk(7), MINUS_PLUS),
        },
    ),
    Case(
        f"ucsd_kitchen{SUFFIX}", 2, {"primary": "image"}, PLAIN,
        {
            "steps/observation/state": junk(21),
            "steps/action": rows(POSITION * 1000, np.rad2deg(EULER), COMMANDED, junk(1)),
        },
        opening=None,
    ),
    Case(
        f"austin_sailor{SUFFIX}", 20, TWO, PLAIN,
        {
            "steps/observation/state": rows(POSITION, QUATERNION, junk(1)),
            "steps/observation/state_ee": column_major(),
            "steps/observation/state_gripper": column(OPENING * 0.077),
            "steps/action": rows(junk(6), MINUS_PLUS),
        },
    ),
    Case(
        f"austin_sirius{SUFFIX}", 20, TWO, PLAIN,
        {
            "steps/observation/state": junk(8),
            "steps/observation/state_ee": column_major(),
            "steps/observation/state_gripper": column(OPENING * 0.077),
            "steps/action": rows(junk(6), MINUS_PLUS),
        },
    ),
    Case(
        "dlr_edan_shared_control_converted_externally_to_rlds", 5, {"primary": "image"}, PLAIN,
        {
            "steps/observation/state": rows(POSITION, ROTATION.as_euler("zxy"), 1 - OPENING),
            "steps/action": rows(junk(6), 1 - COMMANDED),
        },
    ),
    Case(
        "iamlab_cmu_pickup_insert_converted_externally_to_rlds", 20, TWO, PLAIN,
        {
            "steps/observation/state": rows(junk(7), OPENING, junk(12)),
            "steps/action": rows(POSITION, np.roll(QUATERNION, 1, axis=1), COMMANDED),
        },
    ),
    Case(
        "utaustin_mutex", 20, TWO, PLAIN,
        {
            "steps/observation/state": rows(junk(7), OPENING * 0.0757, column_major()),
            "steps/action": rows(junk(6), MINUS_PLUS),
        },
        stored={"primary": "bgr", "wrist": "bgr"},
    ),
    Case(
        "berkeley_fanuc_manipulation", 10, TWO, PLAIN,
        {
            "steps/observation/state": rows(junk(6), 1 - OPENING, np.zeros((T, 6))),
            "steps/observation/end_effector_state": rows(POSITION, QUATERNION),
            "steps/action": junk(6),
        },
        action=NEXT, stored={"primary": "bgr", "wrist": "bgr"},
    ),
    Case(
        "cmu_stretch", 10, {"primary": "image"}, PLAIN,
        {
            "steps/observation/state": rows(POSITION * [1, 0, 1], OPENING),
            "steps/action": rows(junk(3), np.zeros((T, 3)), COMMANDED, junk(1)),
        },
        position=(0, 2), rotation=False,
    ),
    Case(
        "bc_z", 10, {"primary": "image"}, NATURAL,
        {
            "steps/observation/present/xyz": POSITION,
            "steps/observation/present/axis_angle": ROTATION.as_rotvec(),
            "steps/observation/present/sensed_close": column(1 - 0.8 * OPENING),
            "steps/observation/episode_success": np.ones(T),
            "steps/action/future/xyz_residual": junk(30),
            "steps/action/future/axis_angle_residual": junk(30),
            "steps/action/future/target_close": rows(1 - COMMANDED, np.zeros((T, 9))).astype(np.int64),
        },
    ),
    Case(
        "fmb_dataset", 10,
        {"primary": "image_side_1", "secondary": "image_side_2", "wrist": "image_wrist_1"}, PLAIN,
        {
            "steps/observation/eef_pose": rows(POSITION, QUATERNION),
            "steps/observation/state_gripper_pose": 1 - OPENING,
            "steps/action": rows(junk(6), COMMANDED),
        },
        stored={"primary": "bgr", "secondary": "bgr", "wrist": "bgr"},
    ),
    Case(
        "dobbe", 3.75, {"primary": "wrist_image"}, PLAIN,
        {
            "steps/observation/xyz": POSITION,
            "steps/observation/rot": junk(3),
            "steps/observation/quat": QUATERNION,
            "steps/observation/gripper": column(0.25 + 0.5 * OPENING),
            "steps/action": rows(junk(6), COMMANDED),
        },
        opening=0.25 + 0.5 * OPENING,
    ),
    Case(
        "droid", 15,
        {
            "primary": "exterior_image_1_left",
            "secondary": "exterior_image_2_left",
            "wrist": "wrist_image_left",
        },
        "steps/language_instruction_2",
        {
            "steps/observation/cartesian_position": rows(POSITION, EULER),
            "steps/observation/gripper_position": column(1 - OPENING),
            "steps/action_dict/cartesian_velocity": junk(6),
            "steps/action_dict/gripper_position": column(1 - COMMANDED),
        },
    ),
    Case(
        "libero_spatial_no_noops", 20, TWO, PLAIN,
        {
            "steps/observation/state": rows(POSITION, ROTATION.as_rotvec(), 0.04 * OPENING, -0.04 * OPENING),
            "steps/action": rows(junk(6), MINUS_PLUS),
        },
        stored={"primary": "mirrored", "wrist": "mirrored"},
    ),
]  # fmt: skip
IDS = [case.builder.removesuffix(SUFFIX) for case in CASES]


def raw(case: Case) -> tuple[dict[str, Leaf], dict[str, Any]]:
    """The set's features and one episode's values."""
    leaves: dict[str, Leaf] = {"steps/is_first": Tensor(dtype="bool"), "steps/is_last": Tensor(dtype="bool")}
    values: dict[str, Any] = {"steps/is_first": np.arange(T) == 0, "steps/is_last": np.arange(T) == T - 1}
    for name, array in case.fields.items():
        dtype = str(array.dtype) if array.dtype.kind != "f" or case.builder == "droid" else "float32"
        leaves[name], values[name] = Tensor(array.shape[1:], dtype), array
    for camera, name in case.cameras.items():
        path = f"steps/observation/{name}"
        leaves[path], values[path] = Image(), frames(COLOURS[camera], case.stored.get(camera, "rgb"))
    if case.text:
        leaves[case.text], values[case.text] = Text(), [INSTRUCTION] * T
    return leaves, values


def write(tmp_path: Path, case: Case, **replaced: Any) -> RldsReader:
    leaves, values = raw(case)
    for name, value in replaced.items():
        path = name.replace("__", "/")
        leaves.setdefault(path, Text() if isinstance(value[0], str) else Tensor())
        values[path] = value
    return RldsReader(write_rlds(tmp_path / "set" / "0.1.0", case.builder, leaves, {"train": [[values]]}))


def case_of(builder: str) -> Case:
    return CASES[IDS.index(builder)]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_set_gives_the_motion_it_was_written_from(tmp_path: Path, case: Case) -> None:
    reader = write(tmp_path, case)
    episode = reader.episode(0)
    assert (len(episode), episode.fps, episode.instruction) == (T, case.fps, INSTRUCTION)
    assert not reader.defects
    assert "flags_disagree" not in episode.info
    check_state(case, episode)
    check_actions(case, episode)
    assert list(episode.cameras) == list(reader.cameras)
    assert set(reader.cameras) == set(case.cameras) | ({"wrist"} if case.builder == "dobbe" else set())
    for camera in case.cameras:
        image = episode.frames(camera, np.array([2]))[0].astype(int)
        np.testing.assert_allclose(image[1:6].mean(axis=(0, 1)), COLOURS[camera], atol=6)
        assert image[10:, 2].mean() > 150  # frame 2, and its left is on the left


def check_state(case: Case, episode: Episode) -> None:
    state, mask = episode.numerics.state, episode.numerics.state_mask
    expected = np.zeros(46, dtype=bool)
    expected[list(case.position)] = True
    expected[3:7] = case.rotation
    expected[7] = case.opening is not None
    assert (mask == expected).all()
    axes = list(case.position)
    np.testing.assert_allclose(state[:, axes], POSITION[:, axes], atol=1e-6)
    if case.rotation:
        turned = Rotation.from_quat(state[:, 3:7]).inv() * ROTATION
        np.testing.assert_allclose(turned.magnitude(), 0, atol=3e-6)
        assert (state[:, 6] >= 0).all()
    if case.opening is not None:
        np.testing.assert_allclose(state[:, 7], case.opening, atol=1e-6)


def check_actions(case: Case, episode: Episode) -> None:
    actions, mask = episode.numerics.actions, episode.numerics.action_mask
    axes = list(case.position)
    assert (mask[:-1, :3] == np.isin(range(3), axes)).all()
    assert (mask[:-1, 3:6] == case.rotation).all()
    assert not mask[-1, :6].any()
    assert not mask[:, 7:].any()
    np.testing.assert_allclose(actions[:-1][:, axes], np.diff(POSITION, axis=0)[:, axes], atol=2e-6)
    if case.rotation:
        changes = (ROTATION[1:] * ROTATION[:-1].inv()).as_matrix()
        np.testing.assert_allclose(matrix_from_euler(actions[:-1, 3:6]), changes, atol=5e-6)
    if case.action is None:
        assert not mask[:, 6].any()
    else:
        assert mask[:, 6].tolist() == np.isfinite(case.action).tolist()
        known = mask[:, 6]
        np.testing.assert_allclose(actions[known, 6], case.action[known], atol=1e-6)


def test_every_row_of_the_table_is_tested_and_says_what_it_needs() -> None:
    tested = {oxe_spec_for(case.builder).names for case in CASES}
    assert {spec.names for spec in oxe_specs().values()} == tested
    assert len(oxe_specs()) == 28  # the 27 of the mixture, and LIBERO
    names = [name for spec in oxe_specs().values() for name in spec.names]
    assert len(names) == len(set(names))


def test_folder_names_are_recognised_too() -> None:
    assert oxe_spec_for("bridge_orig") is oxe_spec_for("bridge_dataset")
    assert oxe_spec_for("fmb") is oxe_spec_for("fmb_dataset")
    with pytest.raises(ValueError, match="Did you mean 'kuka'"):
        oxe_spec_for("kukka")


# ------------------------------------------------------------------------------------------- what is special of some


@pytest.mark.parametrize(("success", "expected"), [(True, True), (False, False)])
def test_kuka_says_whether_it_succeeded(tmp_path: Path, success: bool, expected: bool) -> None:
    leaves, values = raw(case_of("kuka"))
    leaves["success"], values["success"] = Tensor(dtype="bool"), np.array([success])
    reader = RldsReader(write_rlds(tmp_path / "kuka" / "0.1.0", "kuka", leaves, {"train": [[values]]}))
    assert reader.episode(0).info["success"] is expected


def test_kuka_is_read_from_compressed_bytes_as_well(tmp_path: Path) -> None:
    case = case_of("kuka")
    leaves, values = raw(case)
    for name in ("clip_function_input/base_pose_tool_reached", "gripper_closed"):
        path = f"steps/observation/{name}"
        width = values[path].shape[1:]
        leaves[path] = Tensor(width, "float32", "zlib")
    folder = write_rlds(tmp_path / "kuka" / "0.1.0", "kuka", leaves, {"train": [[values]]})
    # OpenVLA's build declares them as strings
    text = (folder / "features.json").read_text()
    (folder / "features.json").write_text(text.replace('"dtype": "float32", "encoding": "zlib"', '"dtype": "string"'))
    episode = RldsReader(folder).episode(0)
    check_state(case, episode)
    check_actions(case, episode)


@pytest.mark.parametrize("succeeded", [0.0, 1.0])
def test_bc_z_says_whether_it_succeeded(tmp_path: Path, succeeded: float) -> None:
    reader = write(tmp_path, case_of("bc_z"), steps__observation__episode_success=np.full(T, succeeded))
    assert reader.episode(0).info["success"] is bool(succeeded)


@pytest.mark.parametrize(("path", "expected"), [("r2d2/success/2023", True), ("r2d2/failure/2023", False)])
def test_droid_says_by_its_path_whether_it_succeeded(tmp_path: Path, path: str, expected: bool) -> None:
    reader = write(tmp_path, case_of("droid"), episode_metadata__file_path=[path])
    assert reader.episode(0).info == {"success": expected, "file_path": path}


def test_droid_takes_the_first_instruction_that_is_not_empty(tmp_path: Path) -> None:
    empty, third = [""] * T, ["third"] * T
    case = case_of("droid")
    reader = write(tmp_path / "a", case, steps__language_instruction=empty, steps__language_instruction_3=third)
    assert reader.episode(0).instruction == INSTRUCTION
    nothing = {f"steps__language_instruction{suffix}": empty for suffix in ("", "_2", "_3")}
    assert write(tmp_path / "b", case, **nothing).episode(0).instruction == ""


def test_dobbes_outliers_are_not_tracked(tmp_path: Path) -> None:
    wild = POSITION.copy()
    wild[3] = [4000, 0, 0]
    numerics = write(tmp_path, case_of("dobbe"), steps__observation__xyz=wild).episode(0).numerics
    assert numerics.state_mask[:, 0].tolist() == [True, True, True, False, True, True]
    assert numerics.action_mask[:, 0].tolist() == [True, True, False, False, True, False]
    assert np.abs(numerics.actions).max() < 2


def test_language_table_text_ends_at_the_first_nul(tmp_path: Path) -> None:
    points = np.zeros((T, 512), np.int32)
    reader = write(tmp_path, case_of("language_table"), steps__observation__instruction=points)
    assert reader.episode(0).instruction == ""


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        ([0, 0, 1, 0, -1, 0], [1, 1, 0, 0, 1, 1]),
        ([0, -1, 0, 0, 1, 1], [0, 1, 1, 1, 0, 0]),  # the first command opens, so it was closed
        ([0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]),
        ([0.05, 0.3, -0.02, -0.4, 0, 0], [1, 0, 0, 1, 1, 1]),
    ],
)
def test_relative_gripper_commands_hold(tmp_path: Path, relative: list[float], expected: list[float]) -> None:
    reader = write(tmp_path, case_of("jaco_play"), steps__action__gripper_closedness_action=column(np.array(relative)))
    assert reader.episode(0).numerics.actions[:, 6].tolist() == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ([1, 0.6, 0.3, 0, 0.2, 0.99], [1, 0, 0, 0, 1, 1]),
        ([0, 0.5, 1, 1, 0.7, 0.7], [0, 1, 1, 1, 0.7, 0.7]),  # nothing is reached any more: it stays
    ],
)
def test_bridges_gripper_is_decided_by_what_it_reaches(
    tmp_path: Path, command: list[float], expected: list[float]
) -> None:
    reader = write(tmp_path, case_of("bridge_dataset"), steps__action=rows(junk(6), command))
    np.testing.assert_allclose(reader.episode(0).numerics.actions[:, 6], expected, atol=1e-6)
