"""Whatever is read, written as LeRobot v3.0 and read back."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import lerobot_v2_files as v2
import numpy as np
import pytest
from recorded import moving_frames

from data_mixtures.defects import BadEpisodeError, Defect
from data_mixtures.episode import Episode
from data_mixtures.lerobot.conversion import convert_to_lerobot
from data_mixtures.lerobot.table import LeRobotDataset
from data_mixtures.readers.lerobot import LeRobotReader
from data_mixtures.readers.video_folder import VideoFolderReader
from data_mixtures.spaces.dimension_names import STATE_NAMES
from data_mixtures.spaces.unified import Numerics, no_numerics


@dataclass
class Recordings:
    """A Reader of made episodes: both arms in some, gaps in the masks, a moving camera, two picture sizes."""

    root: str = "made"
    robot_type: str = "made_up"
    cameras: tuple[str, ...] = ("head", "wrist")
    defects: list[Defect] = field(default_factory=list)
    undecodable: int = -1
    fps: dict[int, float] = field(default_factory=dict)
    fingerprint: str = "0" * 16

    def __len__(self) -> int:
        return 4

    def key(self, index: int) -> str:
        return f"take/{index}"

    def episode(self, index: int) -> Episode:
        length, rng = 70 + index, np.random.default_rng(index)
        numerics = no_numerics(length)
        state_mask, action_mask = numerics.state_mask.copy(), numerics.action_mask.copy()
        state_mask[:, :8], action_mask[:-1, :7] = True, True
        if index == 2:
            state_mask[10:20, 8:11], action_mask[10:19, 7:10] = True, True
        state = rng.normal(size=state_mask.shape).astype(np.float32) * state_mask
        actions = rng.normal(size=action_mask.shape).astype(np.float32) * action_mask
        if index == 3:
            raise BadEpisodeError(self.key(3), "not_finite", "state[0, 0] is nan")
        return Episode(
            key=self.key(index),
            instruction=f"task {index % 2}",
            subtasks=[(0, "reach"), (5, ""), (9, "pull")] if index == 1 else [],
            fps=self.fps.get(index, 12.5),
            robot_type=self.robot_type,
            numerics=Numerics(state, state_mask, actions, action_mask),
            cameras=self.cameras,
            read_frames=lambda camera, numbers: self.frames(index, camera, numbers),
            info={"success": True, "score": np.float32(0.5), "camera_rotation": self.rotation(length, index)},
        )

    def frames(self, index: int, camera: str, numbers: np.ndarray) -> np.ndarray:
        if index == self.undecodable and numbers.max() > 65:
            raise BadEpisodeError(self.key(index), "video", "frame 66 does not decode")
        frames = moving_frames(70 + index, 32, 10 * index + len(camera))[numbers]
        return frames[:, :31, :29] if camera == "wrist" else frames

    def rotation(self, length: int, index: int) -> np.ndarray:
        return np.random.default_rng(index + 50).normal(size=(length, 3, 3)).astype(np.float32)


def same_numerics(got: Episode, expected: Episode) -> None:
    for name in ("state", "state_mask", "actions", "action_mask"):
        np.testing.assert_array_equal(getattr(got.numerics, name), getattr(expected.numerics, name))


def test_everything_comes_back(tmp_path: Path) -> None:
    source, steps = Recordings(), []
    done = convert_to_lerobot(source, tmp_path / "set", None, "yuv444p", lambda *step: steps.append(step))
    assert (done.num_episodes, done.num_frames) == (3, 70 + 71 + 72)
    assert [defect.key for defect in done.quarantined] == ["take/3"]
    assert steps == [(1, 8), (2, 8), (3, 8), (4, 8), (5, 7), (6, 7), (7, 7)]
    reader = LeRobotReader(tmp_path / "set")
    assert (reader.robot_type, reader.fps, len(reader), reader.warnings) == ("made_up", 12.5, 3, [])
    for index in range(3):
        got, expected = reader.episode(index), source.episode(index)
        same_numerics(got, expected)
        assert (got.instruction, got.subtasks, got.fps) == (expected.instruction, list(expected.subtasks), 12.5)
        rotation = got.info.pop("camera_rotation")
        np.testing.assert_array_equal(np.asarray(rotation), source.rotation(70 + index, index))
        assert got.info == {"source_key": f"take/{index}", "success": True, "score": 0.5}
        for camera, size in (("head", (32, 32)), ("wrist", (31, 29))):
            pixels, truth = got.frames(camera)[:, : size[0], : size[1]], expected.frames(camera)
            assert np.abs(pixels.astype(int) - truth).mean() < 4
            assert np.abs(pixels[1:].astype(int) - truth[:-1]).mean() > np.abs(pixels.astype(int) - truth).mean()


def test_the_folder_is_lerobots_own(tmp_path: Path) -> None:
    convert_to_lerobot(Recordings(), tmp_path / "set", episodes=[2, 0])
    dataset = LeRobotDataset(tmp_path / "set")
    features = dataset.features
    assert features["observation.state"]["names"] == [str(name) for name in STATE_NAMES[:11]]
    assert features["action"]["shape"] == [10]
    assert features["observation.images.wrist"]["shape"] == [32, 30, 3]
    assert dataset.episodes.lengths.tolist() == [72, 70]
    assert dataset.column("action").shape == (142, 10)
    assert not (tmp_path / "set/quarantine.jsonl").exists()


def test_what_only_decoding_finds_is_left_out_whole(tmp_path: Path) -> None:
    done = convert_to_lerobot(Recordings(undecodable=0, fps={2: 30}), tmp_path / "set", None, "yuv444p")
    kinds = [(defect.key, defect.kind) for defect in done.quarantined]
    assert kinds == [("take/2", "length"), ("take/3", "not_finite"), ("take/0", "video")]
    lines = (tmp_path / "set/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["take/2", "take/3", "take/0"]
    reader = LeRobotReader(tmp_path / "set")
    assert len(reader) == 1
    episode, expected = reader.episode(0), Recordings().episode(1)
    same_numerics(episode, expected)
    assert episode.instruction == "task 1"
    assert np.abs(episode.frames("head").astype(int) - expected.frames("head")).mean() < 4


def _existing(target: Path) -> None:
    target.mkdir()


@pytest.mark.parametrize(
    ("prepare", "episodes", "message"),
    [
        (_existing, [0], "target .* exists already"),
        (lambda target: None, [3], r"none of the 1 episodes of made can be used, the first because state\[0, 0\]"),
        (lambda target: None, [], "none of the 0 episodes"),
    ],
)
def test_bad_wishes_write_nothing(
    tmp_path: Path, prepare: Callable[[Path], None], episodes: list[int], message: str
) -> None:
    prepare(tmp_path / "set")
    with pytest.raises(ValueError, match=message):
        convert_to_lerobot(Recordings(), tmp_path / "set", episodes)
    assert {path.name for path in tmp_path.iterdir()} <= {"set"}


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_to_lerobot(Recordings(), tmp_path / "set", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_action_free_video_stays_action_free(tmp_path: Path) -> None:
    v2.write_video(tmp_path / "clips/a.mp4", moving_frames(8, 32, 0), fps=10)
    v2.write_video(tmp_path / "clips/b.mp4", moving_frames(6, 64, 1)[:, :48], fps=10)
    (tmp_path / "clips/captions.json").write_text(json.dumps({"a": "open it", "b": "shut it"}))
    source = VideoFolderReader(tmp_path / "clips")
    convert_to_lerobot(source, tmp_path / "set")
    reader = LeRobotReader(tmp_path / "set")
    assert [reader.episode(index).instruction for index in range(2)] == ["open it", "shut it"]
    second = reader.episode(1)
    assert not second.numerics.state_mask.any()
    pixels = second.frames("primary")
    assert pixels.shape == (6, 32, 32, 3)
    assert pixels[:, :3].max() < 30  # 48 x 64 in a square: black above and below
    assert pixels[:, 8:24].mean() > 60


def test_a_lerobot_v2_set_is_brought_up_to_v3(tmp_path: Path) -> None:
    source = LeRobotReader(v2.write_v2(tmp_path / "old", [9, 7], "v2.0"))
    convert_to_lerobot(source, tmp_path / "new", pixel_format="yuv444p")
    reader = LeRobotReader(tmp_path / "new")
    assert (reader.version, reader.robot_type) == ("v3.0", "libero")
    for index in range(2):
        same_numerics(reader.episode(index), source.episode(index))
