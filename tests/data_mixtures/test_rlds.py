"""RLDS folders, real and written: what is read is what was written, and what is wrong is named."""

import io
import os
import pickle
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as PillowImage
from rlds_files import (
    BRIDGE,
    Image,
    Leaf,
    Tensor,
    Text,
    bridge_episode,
    encoded,
    record,
    serialized_episode,
    shard_paths,
    write_bridge,
    write_rlds,
)

from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers import rlds, rlds_images
from data_mixtures.readers.rlds import RldsReader, is_rlds
from data_mixtures.readers.rlds_spec import RldsSpec, read_spec
from data_mixtures.spaces.rotations import matrix_from_euler, matrix_from_xyzw

SHARED = Path(__file__).parents[2].parent / "shared"
SAMPLE = SHARED / "samples" / "octo_bridge_rlds"


@pytest.fixture
def bridge(tmp_path: Path) -> Path:
    return write_bridge(tmp_path / "bridge_orig" / "1.0.0")


def defect_of(reader: RldsReader, index: int) -> str:
    with pytest.raises(BadEpisodeError) as found:
        reader.episode(index)
    assert found.value.defect.key == reader.key(index)
    return found.value.defect.kind


# ------------------------------------------------------------------------------------------------ the real sample


@pytest.mark.skipif(not SAMPLE.exists(), reason="the real Bridge sample is not beside this checkout")
def test_the_real_sample_is_read_whole() -> None:
    reader = RldsReader(SAMPLE)
    assert (len(reader), reader.robot_type, list(reader.defects)) == (50, "widowx_250", [])
    for index in range(len(reader)):
        episode = reader.episode(index)
        assert (len(episode), episode.fps, list(episode.cameras)) == (10, 5, ["primary", "secondary"])
        assert episode.info["flags_disagree"]  # is_last is never set in it
        assert episode.instruction
        numerics = episode.numerics
        reached = numerics.state[0, :3] + numerics.actions[:, :3].sum(axis=0)
        np.testing.assert_allclose(reached, numerics.state[-1, :3], atol=1e-6)
        turned = matrix_from_xyzw(numerics.state[0, 3:7])
        for action in numerics.actions[:-1]:
            turned = matrix_from_euler(action[3:6]) @ turned
        np.testing.assert_allclose(turned, matrix_from_xyzw(numerics.state[-1, 3:7]), atol=1e-5)
        assert np.abs(numerics.actions[:, :3]).max() < 0.1
        assert numerics.action_mask[:-1, :7].all()
    assert reader.key(0) == "train-00000/0"
    assert reader.key(49) == "val-00000/24"
    assert reader.episode(0).instruction == "put cup from counter or drying rack into sink"
    np.testing.assert_allclose(reader.episode(0).numerics.state[0, :3], [0.2338, 0.1124, 0.175], atol=1e-4)
    assert reader.frames(0, "primary", np.array([3, 3, 9])).shape == (3, 64, 64, 3)


@pytest.mark.skipif(not SAMPLE.exists(), reason="the real Bridge sample is not beside this checkout")
def test_real_frames_are_the_jpegs_and_splits_are_apart() -> None:
    reader = RldsReader(SAMPLE / "bridge_dataset" / "1.0.0", split="val")
    assert len(reader) == 25
    data = (SAMPLE / "bridge_dataset/1.0.0/bridge_dataset-val.tfrecord-00000-of-00001").read_bytes()
    first = data.index(b"\xff\xd8\xff", data.index(b"observation/image_0"))
    expected = PillowImage.open(io.BytesIO(data[first:])).convert("RGB")
    np.testing.assert_array_equal(reader.frames(0, "primary", np.array([0]))[0], np.asarray(expected))


# ------------------------------------------------------------------------------------------------ finding a set


def test_folders_are_recognised_at_three_levels(bridge: Path, tmp_path: Path) -> None:
    for root in (bridge, bridge.parent, tmp_path):
        assert is_rlds(root)
        assert len(RldsReader(root)) == 3
    assert not is_rlds(bridge / "nowhere")
    with pytest.raises(ValueError, match=r"no features\.json"):
        RldsReader(bridge / "nowhere")


def test_the_highest_version_is_taken_and_several_sets_are_not_guessed_between(bridge: Path, tmp_path: Path) -> None:
    write_bridge(bridge.parent / "0.9.0", [4])
    assert len(RldsReader(bridge.parent)) == 3
    write_bridge(bridge.parent / "10.0.0", [4])
    assert len(RldsReader(bridge.parent)) == 1
    write_bridge(tmp_path / "other" / "1.0.0", [4])
    with pytest.raises(ValueError, match="several data sets"):
        RldsReader(tmp_path)


def test_shards_may_be_called_after_another_name_and_keys_tell_split_and_shard(tmp_path: Path) -> None:
    episodes = [bridge_episode(3 + n, n, f"task {n}") for n in range(5)]
    splits = {"train": [episodes[:2], episodes[2:3]], "val": [episodes[3:]]}
    folder = write_rlds(tmp_path / "mine" / "1.0.0", "bridge_dataset", BRIDGE, splits, prefix="some-other_name")
    reader = RldsReader(folder)
    keys = ["train-00000/0", "train-00000/1", "train-00001/0", "val-00000/0", "val-00000/1"]
    assert [reader.key(i) for i in range(5)] == keys
    assert [reader.episode(i).instruction for i in range(5)] == [f"task {n}" for n in range(5)]
    assert [reader.episode(i).key for i in range(5)] == keys
    assert [len(RldsReader(folder, split)) for split in ("train", "val")] == [3, 2]
    with pytest.raises(ValueError, match=r"split is 'test', but .* has \['train', 'val'\]"):
        RldsReader(folder, "test")
    with pytest.raises(ValueError, match="episode is 5"):
        reader.key(5)


def test_an_unknown_set_says_what_it_has_and_a_yaml_makes_it_known(tmp_path: Path) -> None:
    leaves: dict[str, Leaf] = {
        "steps/observation/camera": Image(form="png"),
        "steps/observation/open": Tensor((), "bool"),
        "steps/move": Tensor((7,), "float64"),
        "steps/text": Tensor((), "string"),
        "steps/observation/level": Tensor((2,), "int32"),
    }
    turn = matrix_from_xyzw([0, 0, np.sin(0.1), np.cos(0.1)])
    moves = np.tile(np.concatenate([[10, 20, -30], [0, 0, np.sin(0.1), np.cos(0.1)]]), (4, 1))
    episode = {
        "steps/observation/camera": np.random.default_rng(0).integers(0, 255, (4, 16, 24, 3), dtype=np.uint8),
        "steps/observation/open": np.array([True, True, False, False]),
        "steps/move": moves,
        "steps/text": ["", "", "wipe", "wipe"],
        "steps/observation/level": np.arange(8).reshape(4, 2) - 4,
    }
    folder = write_rlds(tmp_path / "my_robot" / "1.0.0", "my_robot", leaves, {"train": [[episode]]})
    with pytest.raises(
        ValueError, match=r"(?s)my_robot.*rlds_spec.*steps/move: float64\(7\).*steps/observation/camera: image"
    ):
        RldsReader(folder)
    spec = {
        "names": ["my_robot"],
        "robot_type": "mine",
        "fps": 12.5,
        "cameras": {"front": "steps/observation/camera"},
        "instruction": ["steps/text"],
        "gripper": {"field": "steps/observation/open"},
        "command": {
            "translation": {"field": "steps/move", "dims": [0, 2], "unit_m": 0.001, "axes": [0, 2]},
            "rotation": {"field": "steps/move", "dims": [3, 7]},
        },
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(spec))
    read = RldsReader(folder, spec=path).episode(0)
    assert (read.fps, read.robot_type, read.instruction, list(read.cameras)) == (12.5, "mine", "wipe", ["front"])
    np.testing.assert_array_equal(read.frames("front"), episode["steps/observation/camera"])  # png loses nothing
    actions, mask = read.numerics.actions, read.numerics.action_mask
    np.testing.assert_allclose(actions[:, [0, 2]], [[0.01, 0.02]] * 4, atol=1e-7)
    assert mask[:, :7].tolist() == [[True, False, True, True, True, True, True]] * 3 + [
        [True, False, True, True, True, True, False]  # the gripper is the next frame's, the commands are each frame's
    ]
    np.testing.assert_allclose(matrix_from_euler(actions[0, 3:6]), turn, atol=1e-6)
    assert actions[:, 6].tolist() == [1, 0, 0, 0]
    assert read.numerics.state[:, 7].tolist() == [1, 1, 0, 0]
    assert read.numerics.state_mask[:, :8].tolist() == [[False] * 7 + [True]] * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fsp": 3}, "no field 'fsp'. Did you mean 'fps'"),
        ({"fps": "fast"}, "fps is 'fast': it must be float"),
        ({"fps": 0}, "fps is 0.0: give the steps"),
        ({"robot_type": None}, "robot_type is None: it must be str"),
        ({"gripper": {"field": "steps/action", "reading": "loud"}}, "reading is 'loud': it must be one of"),
        ({"gripper": {"dims": [0, 1]}}, r"gripper lacks \['field'\]"),
        ({"position": {"field": "steps/action", "dims": [0, 1, 2]}}, "dims is"),
        ({"position": "steps/action"}, "position is 'steps/action': give"),
        ({"gripper": {"field": "steps/action", "closed_at": 1}}, "closed_at and open_at are both 1.0"),
        ({"rotation": {"field": "steps/action", "form": "euler", "order": "abc"}}, "order is 'abc'"),
        ({"position": {"field": "steps/action", "axes": [2, 3]}}, r"axes is \[2, 3\]"),
        ({"bgr": ["wrist"]}, r"bgr names \['wrist'\]"),
    ],
)
def test_a_wrong_spec_says_what_to_write(tmp_path: Path, change: dict, message: str) -> None:
    spec = {"names": ["a"], "robot_type": "b", "fps": 3, "cameras": {"primary": "steps/observation/image_0"}} | change
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    with pytest.raises(ValueError, match=message):
        read_spec(tmp_path / "spec.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position": {"field": "steps/nothing"}}, "has no field 'steps/nothing'"),
        ({"position": {"field": "steps/action", "dims": [5, 8]}}, r"dims \[5, 8\] of steps/action, which has 7"),
        ({"rotation": {"field": "steps/action", "dims": [0, 3]}}, r"3 numbers of steps/action, but it takes \[4\]"),
        ({"gripper": {"field": "steps/action"}}, r"7 numbers of steps/action, but it takes \[1\]"),
        ({"cameras": {"primary": "steps/action"}}, "no encoded image"),
    ],
)
def test_a_spec_that_does_not_fit_the_set_is_refused_at_opening(
    bridge: Path, tmp_path: Path, change: dict, message: str
) -> None:
    spec = {"names": ["a"], "robot_type": "b", "fps": 3, "cameras": {"primary": "steps/observation/image_0"}} | change
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    with pytest.raises(ValueError, match=message):
        RldsReader(bridge, spec=tmp_path / "spec.yaml")


def test_a_set_may_be_read_as_another_known_one(tmp_path: Path) -> None:
    folder = write_bridge(tmp_path / "tuesday" / "1.0.0")
    (folder / "dataset_info.json").unlink()
    for path in shard_paths(folder):
        path.rename(folder / path.name.replace("bridge_dataset", "tuesday"))
    with pytest.raises(ValueError, match="no data set whose fields are known"):
        RldsReader(folder)
    reader = RldsReader(folder, spec="bridge_orig")
    assert (len(reader), reader.defects[0].kind) == (3, "unreadable")  # without dataset_info.json
    with pytest.raises(ValueError, match="Did you mean 'bridge_orig'"):
        RldsReader(folder, spec="bridge_org")


# ------------------------------------------------------------------------------------------------------ episodes


def test_frames_are_decoded_as_asked_and_only_then(bridge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = RldsReader(bridge)
    episode = reader.episode(1)
    asked = []
    monkeypatch.setattr(rlds, "decode", lambda data: asked.append(1) or rlds_images.decode(data))
    frames = episode.frames("secondary", np.array([4, 0, 4]))
    assert len(asked) == 2
    expected = bridge_episode(6, 1)["steps/observation/image_1"]
    through_jpeg = [np.asarray(PillowImage.open(io.BytesIO(encoded(f, "jpeg")))) for f in expected]
    np.testing.assert_array_equal(frames, np.stack(through_jpeg)[[4, 0, 4]])
    assert episode.frames("primary").shape == (6, 16, 24, 3)
    with pytest.raises(BadEpisodeError, match="has 6 frames"):
        episode.frames("primary", np.array([6]))
    with pytest.raises(ValueError, match="'wrist' does not exist"):
        episode.frames("wrist")


def test_a_reader_crosses_process_borders(bridge: Path) -> None:
    reader = RldsReader(bridge)
    expected = reader.frames(2, "primary", np.arange(3))
    again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(again.frames(2, "primary", np.arange(3)), expected)
    assert again.fingerprint == reader.fingerprint


def test_the_fingerprint_tells_content_and_reading_apart(bridge: Path, tmp_path: Path) -> None:
    reader = RldsReader(bridge)
    assert len(reader.fingerprint) == 16
    shutil.copytree(bridge, tmp_path / "copy" / "1.0.0")
    assert RldsReader(tmp_path / "copy").fingerprint == reader.fingerprint
    slower = RldsSpec(names=(), robot_type="widowx", fps=4, cameras={})
    assert RldsReader(bridge, spec=slower).fingerprint != reader.fingerprint
    assert RldsReader(write_bridge(tmp_path / "b" / "1.0.0", [5, 6, 8])).fingerprint != reader.fingerprint


def test_a_blank_camera_is_missing_and_a_still_one_is_not(tmp_path: Path) -> None:
    blank, still = bridge_episode(4), bridge_episode(4)
    blank["steps/observation/image_1"] = np.zeros((4, 16, 24, 3), np.uint8)
    still["steps/observation/image_1"] = np.tile(still["steps/observation/image_1"][:1], (4, 1, 1, 1))
    folder = write_rlds(tmp_path / "1.0.0", "bridge_orig", BRIDGE, {"train": [[blank, still]]})
    reader = RldsReader(folder)
    assert reader.cameras == ("primary", "secondary")
    assert [list(reader.episode(i).cameras) for i in range(2)] == [["primary"], ["primary", "secondary"]]


def test_wrong_flags_are_told_and_the_columns_believed(tmp_path: Path) -> None:
    right, wrong, short = (bridge_episode(5) for _ in range(3))
    wrong["steps/is_last"] = np.zeros(5, bool)
    short["steps/is_first"] = np.array([True])
    reader = RldsReader(write_rlds(tmp_path / "1.0.0", "bridge_orig", BRIDGE, {"train": [[right, wrong, short]]}))
    episodes = [reader.episode(i) for i in range(3)]
    assert [len(e) for e in episodes] == [5, 5, 5]
    assert ["flags_disagree" in e.info for e in episodes] == [False, True, True]
    assert episodes[0].info == {"file_path": "data/out.npy"}


def test_numbers_stored_as_bytes_are_read(tmp_path: Path) -> None:
    state = bridge_episode(4)["steps/observation/state"]
    for number, leaf in enumerate((Tensor((7,), "float32", "zlib"), Tensor((7,), "float64", "bytes"), Text())):
        episode = bridge_episode(4)
        if isinstance(leaf, Text):  # compressed by hand, and features.json does not say so
            episode["steps/observation/state"] = [zlib.compress(row.tobytes()) for row in state]
        leaves = BRIDGE | {"steps/observation/state": leaf}
        folder = write_rlds(tmp_path / str(number) / "1.0.0", "bridge_orig", leaves, {"train": [[episode]]})
        np.testing.assert_array_equal(RldsReader(folder).episode(0).numerics.state[:, :3], state[:, :3])


# ------------------------------------------------------------------------------------------------------- bad data


def changed(tmp_path: Path, **fields: object) -> RldsReader:
    """A set of one episode of 4 steps, some fields of it replaced or, with None, left out."""
    episode = bridge_episode(4)
    for name, value in fields.items():
        path = next(path for path in BRIDGE if path.endswith(name))
        episode[path] = value
    episode = {path: values for path, values in episode.items() if values is not None}
    return RldsReader(write_rlds(tmp_path / "1.0.0", "bridge_orig", BRIDGE, {"train": [[episode]]}))


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"state": np.zeros((3, 7))}, "length"),
        ({"state": np.zeros(29)}, "length"),
        ({"state": None}, "column"),
        ({"state": [b"seven", b"more", b"words", b"here"]}, "column"),
        ({"state": np.full((4, 7), np.nan)}, "not_finite"),
        ({"state": np.full((4, 7), np.inf)}, "not_finite"),
        ({"action": np.full((4, 7), np.nan)}, "not_finite"),
        ({"image_0": None}, "column"),
        ({"image_0": [b"\xff\xd8\xff\xe0 no image"] * 4}, "video"),
        ({"image_0": [b"GIF89a"] * 4}, "video"),
        ({"image_0": np.zeros((3, 16, 24, 3), np.uint8)}, "length"),
        ({"language_instruction": ["one"]}, "length"),
    ],
)
def test_a_wrong_episode_is_named_by_what_is_wrong(tmp_path: Path, fields: dict, kind: str) -> None:
    leaves = dict(BRIDGE)
    if isinstance(fields.get("state"), list):
        leaves["steps/observation/state"] = Text()
        episode = bridge_episode(4) | {"steps/observation/state": fields["state"]}
        folder = write_rlds(tmp_path / "1.0.0", "bridge_orig", leaves, {"train": [[episode]]})
        shutil.copy(write_bridge(tmp_path / "declared" / "1.0.0", [4]) / "features.json", folder)
        reader = RldsReader(folder)
    else:
        reader = changed(tmp_path, **fields)
    assert defect_of(reader, 0) == kind


def test_an_episode_without_steps_is_empty(tmp_path: Path) -> None:
    nothing = bridge_episode(4)
    for path in nothing:
        if path.startswith("steps/"):
            nothing[path] = nothing[path][:0]
    folder = write_rlds(tmp_path / "1.0.0", "bridge_orig", BRIDGE, {"train": [[nothing]]})
    assert defect_of(RldsReader(folder), 0) == "empty"


def test_a_frame_that_does_not_decode_is_a_bad_video(tmp_path: Path) -> None:
    frames = [encoded(frame, "jpeg") for frame in bridge_episode(4)["steps/observation/image_0"]]
    frames[2] = frames[2][:40]
    reader = changed(tmp_path, image_0=frames)
    episode = reader.episode(0)
    assert episode.frames("primary", np.array([0, 1, 3])).shape == (3, 16, 24, 3)
    with pytest.raises(BadEpisodeError, match="frame 2 of primary does not decode"):
        episode.frames("primary")


def test_a_shard_cut_short_is_told_and_the_rest_of_it_is_read(bridge: Path) -> None:
    (path,) = shard_paths(bridge)
    path.write_bytes(path.read_bytes()[:-10])
    reader = RldsReader(bridge)
    (defect,) = reader.defects
    assert (defect.key, defect.kind) == (path.name, "truncated")
    assert "2 of 3 episodes can be read" in defect.detail
    assert [len(reader.episode(i)) for i in range(len(reader))] == [5, 6]


def test_a_shard_cut_between_records_is_told(bridge: Path) -> None:
    (path,) = shard_paths(bridge)
    path.write_bytes(record(serialized_episode(BRIDGE, bridge_episode(5))))
    reader = RldsReader(bridge)
    assert [d.kind for d in reader.defects] == ["truncated"]
    assert "has 1 of 3 episodes" in reader.defects[0].detail


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    shards = [[bridge_episode(4)], [bridge_episode(4), bridge_episode(5)]]
    folder = write_rlds(tmp_path / "1.0.0", "bridge_orig", BRIDGE, {"train": shards})
    shard_paths(folder)[1].unlink()  # type: ignore[index]
    (defect,) = RldsReader(folder).defects
    assert (defect.key, defect.kind) == ("train", "truncated")
    assert "1 of 2 shards are not there (the first is number 1): 2 episodes" in defect.detail


def test_a_flipped_bit_costs_one_episode(bridge: Path) -> None:
    (path,) = shard_paths(bridge)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    reader = RldsReader(bridge)
    assert not reader.defects
    assert defect_of(reader, 0) == "checksum"
    assert [len(reader.episode(i)) for i in (1, 2)] == [6, 7]
    with pytest.raises(BadEpisodeError, match="not what was written"):
        reader.frames(0, "primary", np.array([0]))


def test_a_file_replaced_in_mid_run_is_not_read(bridge: Path) -> None:
    reader = RldsReader(bridge)
    (path,) = shard_paths(bridge)
    reader.episode(0)
    aside = path.with_suffix(".new")
    shutil.copy(path, aside)
    os.replace(aside, path)
    assert defect_of(reader, 0) == "changed"
    path.unlink()
    assert defect_of(reader, 1) == "unreadable"


def test_what_is_no_quaternion_or_matrix_is_refused(tmp_path: Path) -> None:
    for number, (name, state) in enumerate({"jaco_play": np.full((4, 7), 0.4), "viola": np.ones((4, 16))}.items()):
        field = {"jaco_play": "end_effector_cartesian_pos", "viola": "ee_states"}[name]
        leaves: dict[str, Leaf] = {
            f"steps/observation/{field}": Tensor(state.shape[1:]),
            "steps/observation/gripper_states": Tensor((1,)),
            "steps/action/gripper_closedness_action": Tensor((1,)),
        }
        episode = {path: np.zeros((4, 1)) for path in leaves} | {f"steps/observation/{field}": state}
        folder = write_rlds(tmp_path / str(number) / "1.0.0", name, leaves, {"train": [[episode]]})
        with pytest.raises(BadEpisodeError, match="holds no"):
            RldsReader(folder).episode(0)


def read_all(root: Path) -> list[object]:
    """Everything a reader gives of three episodes; a BadEpisodeError's kind where it gives that."""
    reader, found = RldsReader(root, spec="bridge_orig"), []
    for index in range(len(reader)):
        try:
            episode = reader.episode(index)
            frames = {camera: episode.frames(camera).tobytes() for camera in episode.cameras}
            numerics = episode.numerics
            found.append(
                (len(episode), numerics.state.tobytes(), numerics.actions.tobytes(), episode.instruction, frames)
            )
        except BadEpisodeError as error:
            found.append(error.defect.kind)
    return found


def test_random_damage_is_noticed_or_does_no_harm(tmp_path: Path) -> None:
    clean = write_bridge(tmp_path / "clean", [2, 3])
    whole = read_all(clean)
    random = np.random.default_rng(0)
    for trial in range(150):
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(clean, folder)
        victim = sorted(folder.iterdir())[trial % 3]
        data = bytearray(victim.read_bytes())
        place = int(random.integers(len(data)))
        match random.integers(3):
            case 0:
                data[place] ^= 1 << int(random.integers(8))
            case 1:
                del data[place : place + int(random.integers(1, 200))]
            case _:
                data[place:place] = random.bytes(int(random.integers(1, 50)))
        victim.write_bytes(data)
        try:
            found = read_all(folder)
        except BadEpisodeError:
            raise
        except ValueError:
            continue
        if victim.name.endswith(".json"):
            continue  # not checksummed: a changed shape or name may lead to other readings, never to a crash
        assert all(isinstance(item, str) or item in whole for item in found)
