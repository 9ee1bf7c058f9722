"""Robots' own names and formats -> the policy's observation, and what is said where they do not fit."""

import numpy as np
import pytest

from tests.vla.serve.live_server import SIZES, request
from vla.serve.frames import rgb_frame
from vla.serve.messages import BadRequestError, pack, unpack
from vla.serve.observations import Keys, RequestReader

FRAME = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def reader(**keys: object) -> RequestReader:
    return RequestReader(SIZES, Keys(**keys))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "images",
    [
        {"base": FRAME, "wrist": FRAME + 1},
        {"observation/base": FRAME, "observation/wrist": FRAME + 1},
        {"images": {"base": FRAME, "wrist": FRAME + 1}},
        {"images/base": FRAME, "observation": {"wrist": FRAME + 1}},
        {"observation.images.base": FRAME, "observation.images.wrist": FRAME + 1},
    ],
)
@pytest.mark.parametrize("state", ["state", "observation/state", "observation.state"])
def test_cameras_are_found_by_name(images: dict[str, object], state: str):
    got = reader().read({**images, state: [1, 2, 3], "prompt": "go"})
    np.testing.assert_array_equal(got.observation.images["base"], FRAME)
    np.testing.assert_array_equal(got.observation.images["wrist"], FRAME + 1)
    np.testing.assert_array_equal(got.observation.state, [1, 2, 3])
    assert got.observation.state.dtype == np.float32
    assert (got.observation.instruction, got.seed, got.committed) == ("go", None, None)


def test_the_table_of_cameras_comes_first():
    swapped = reader(cameras={"observation/wrist": "base", "eye": "wrist"})
    got = swapped.read({"observation/wrist": FRAME, "eye": FRAME + 1, "state": [0, 0, 0], "prompt": "go"})
    np.testing.assert_array_equal(got.observation.images["base"], FRAME)
    with pytest.raises(
        BadRequestError, match=r"unknown keys \['base'\].*'base' as 'observation/wrist'; 'wrist' as 'eye'"
    ):
        swapped.read({"base": FRAME, "eye": FRAME, "state": [0, 0, 0], "prompt": "go"})


def test_a_camera_may_be_left_out_only_where_that_was_said():
    with pytest.raises(BadRequestError, match="the camera 'wrist' is missing; this server reads the cameras 'base'"):
        reader().read(request(**{"observation/wrist": None}))
    got = reader(optional=["wrist"]).read(request(**{"observation/wrist": None}))
    assert list(got.observation.images) == ["base"]
    with pytest.raises(BadRequestError, match="no image"):
        reader(optional=["wrist", "base"]).read({"state": [0, 0, 0], "prompt": "go"})


def test_a_state_in_parts():
    parts = reader(state=["joints", "gripper"])
    message = request(joints=np.array([0.5, 0.25]), gripper=np.float64(1), **{"observation/state": None})
    np.testing.assert_array_equal(parts.read(unpack(pack(message))).observation.state, [0.5, 0.25, 1.0])
    with pytest.raises(BadRequestError, match="the part 'gripper' of the state is missing"):
        parts.read(request(joints=[0.5, 0.25], **{"observation/state": None}))


def test_a_prompt_of_the_server():
    assert reader(prompt="fold").read(request(prompt=None)).observation.instruction == "fold"
    assert reader(prompt="fold").read(request()).observation.instruction == "open the drawer"
    with pytest.raises(BadRequestError, match="the instruction is missing"):
        reader().read(request(prompt=None))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": 3}, "'prompt' is 3; send a text"),
        ({"prompt": " "}, "'prompt' is ' '"),
        ({"prompt": "a" * 2_001}, "1 to 2000 characters"),
        ({"task": "go"}, r"the instruction is there twice, as \['prompt', 'task'\]"),
        ({"base": FRAME}, r"the camera 'base' is there twice, as \['base', 'observation/base'\]"),
        ({"observation": {"base": FRAME}}, "'observation/base' is there twice: nested"),
        ({"observation/state": [1, 2]}, "the state has 2 numbers; this policy's robot has 3"),
        ({"observation/state": [[1, 2, 3]]}, r"shape \[1, 3\]; send one row"),
        ({"observation/state": [1, [2], 3]}, "no array of numbers"),
        ({"observation/state": "123"}, "send numbers"),
        ({"observation/state": [True, False, True]}, "send numbers"),
        ({"observation/state": []}, r"shape \[0\]"),
        ({"observation/state": [float("nan"), 0, 0]}, "not finite"),
        ({"seed": -1}, "'seed' is -1"),
        ({"seed": 2**63}, "'seed' is 9223372036854775808"),
        ({"seed": True}, "'seed' is True"),
        ({"committed": [[1, 2]]}, "'committed' and 'frozen' go together"),
        ({"frozen": 1}, "'committed' and 'frozen' go together"),
        ({"committed": [[1, 2, 3]], "frozen": 1}, r"shape \[1, 3\]; send 1 to 5 rows.*of 2 numbers"),
        ({"committed": [[1, 2]] * 6, "frozen": 1}, r"shape \[6, 2\]"),
        ({"committed": [[1, 2]] * 3, "frozen": 4}, "'frozen' is 4; send a whole number from 0 to the 3"),
        ({"committed": [[1, 2]] * 3, "frozen": 1.0}, "'frozen' is 1.0"),
        ({"committed": [[1, float("inf")]], "frozen": 0}, "not finite"),
        ({"observation/base": [[[1, 2, 3]]]}, "is a list; send an image as a numpy array"),
    ],
)
def test_words_for_what_does_not_fit(changes: dict[str, object], words: str):
    with pytest.raises(BadRequestError, match=words):
        reader().read(request(**changes))


def test_a_committed_chunk():
    got = reader().read(request(committed=np.array([[1, 2], [3, 4]]), frozen=1)).committed
    assert got is not None
    assert got.frozen == 1
    np.testing.assert_array_equal(got.actions, np.array([[1, 2], [3, 4]], np.float32))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"cameras": {"x": "side"}}, r"no camera 'side'; it looks through \['base', 'wrist'\]"),
        ({"cameras": {"x": "base", "y": "base"}}, r"\['base'\] are given two keys each"),
        ({"optional": ["side"]}, "no camera 'side'"),
    ],
)
def test_a_wrong_table_stops_the_server_before_it_starts(keys: dict[str, object], words: str):
    with pytest.raises(ValueError, match=words):
        reader(**keys)


def test_ignored_keys():
    assert reader(ignored=["observation/depth"]).read(request(**{"observation/depth": FRAME})).seed == 7


def test_frames_of_every_accepted_kind():
    np.testing.assert_array_equal(rgb_frame("x", FRAME), FRAME)
    np.testing.assert_array_equal(rgb_frame("x", FRAME.transpose(2, 0, 1)), FRAME)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(rgb_frame("x", (FRAME / 255).astype(dtype)), FRAME)
        np.testing.assert_array_equal(rgb_frame("x", (FRAME / 255).astype(dtype).transpose(2, 0, 1)), FRAME)
    flat = np.zeros((3, 9, 3), np.uint8)
    assert rgb_frame("x", flat).shape == (3, 9, 3)  # [H, W, 3] where both could be meant
    read_only = np.frombuffer(FRAME.tobytes(), np.uint8).reshape(FRAME.shape)
    assert rgb_frame("x", read_only).flags.writeable  # torch wants it so


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (FRAME[None], r"shape \[1, 4, 6, 3\]; send one RGB image .* without a batch"),
        (FRAME[..., :2], r"shape \[4, 6, 2\]"),
        (np.zeros((4, 6, 4), np.uint8), r"shape \[4, 6, 4\]"),
        (FRAME[..., 0], r"shape \[4, 6\]"),
        (FRAME.astype(np.int32), "dtype int32"),
        (FRAME.astype(np.float32), "floats from 0 to 71; floats must be in 0..1"),
        (FRAME / 255 * 2 - 1, "floats from -1 to"),
        (np.full((4, 6, 3), np.nan), "floats from nan to nan"),
        (b"png", "is a bytes"),
    ],
)
def test_words_for_other_images(image: object, words: str):
    with pytest.raises(BadRequestError, match=f"'x' .*{words}"):
        rgb_frame("x", image)


def test_messages_come_back_as_they_went():
    message = {"a": np.arange(6, dtype=np.float64).reshape(2, 3), "b": np.float32(1.5), "c": "é", "d": {"e": [1, None]}}
    back = unpack(pack(message))
    np.testing.assert_array_equal(back["a"], message["a"])
    assert back["a"].dtype == np.float64
    assert (back["b"], back["c"], back["d"]) == (1.5, "é", {"e": [1, None]})
    with pytest.raises(TypeError, match="cannot hold ndarray"):
        pack({"a": np.array([object()])})


def test_messages_are_openpis_own():
    theirs = pytest.importorskip("openpi_client.msgpack_numpy", reason="openpi-client: `make setup` installs it")
    message = {"x": np.linspace(0, 1, 4, dtype=np.float32), "n": np.int64(3), "t": "go"}
    assert pack(message) == theirs.packb(message)
    np.testing.assert_array_equal(theirs.unpackb(pack(message))["x"], message["x"])
    np.testing.assert_array_equal(unpack(theirs.packb(message))["x"], message["x"])
