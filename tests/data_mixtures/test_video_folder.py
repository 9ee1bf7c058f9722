"""Folders of videos with captions: containers, rates, texts, and what can be wrong."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from lerobot_v2_files import decoded, write_video
from recorded import moving_frames

from data_mixtures.defects import BadEpisodeError
from data_mixtures.readers.video_folder import VideoFolderReader, is_video_folder

SHARED = Path(__file__).parents[2].parent / "shared"
MOTO = SHARED / "samples/moto_oxe_calvin_mp4/moto_gpt/evaluation/motion_prior_analysis/sample_data"


def clip(seed: int = 0, length: int = 12) -> np.ndarray:
    return moving_frames(length, 32, seed)


@pytest.mark.parametrize(
    ("name", "codec", "b_frames"),
    [("a.mp4", "libx264", 2), ("a.mkv", "libx264", 2), ("a.webm", "libvpx-vp9", 0), ("a.avi", "mpeg4", 0)],
)
def test_any_container_gives_its_frames_by_number(tmp_path: Path, name: str, codec: str, b_frames: int) -> None:
    path = tmp_path / "clips" / name
    write_video(path, clip(), fps=15, gop=5, b_frames=b_frames, codec=codec)
    reader, every = VideoFolderReader(tmp_path), decoded(path)
    episode = reader.episode(0)
    assert (episode.key, len(episode), list(episode.cameras)) == (f"clips/{name}", 12, ["primary"])
    assert episode.fps == pytest.approx(15, abs=0.01)
    assert not episode.numerics.state_mask.any()
    assert not episode.numerics.action_mask.any()
    numbers = np.array([7, 0, 11, 3, 7])
    np.testing.assert_array_equal(episode.frames("primary", numbers), every[numbers])
    np.testing.assert_array_equal(episode.frames("primary"), every)


def write_at_times(path: Path, frames: np.ndarray, milliseconds: list[int]) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.max_b_frames, stream.codec_context.thread_count = 2, 1
        for pixels, time in zip(frames, milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = time
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_rates_are_resampled_by_what_is_on_screen(tmp_path: Path, name: str) -> None:
    times = [0, 100, 200, 500, 510, 520, 900]
    write_at_times(tmp_path / name, clip(length=7), times)
    every = decoded(tmp_path / name)
    reader = VideoFolderReader(tmp_path, fps=10)
    episode = reader.episode(0)
    assert episode.fps == 10
    on_screen = [max(n for n, time in enumerate(times) if time <= 100 * tick + 38) for tick in range(len(episode))]
    assert on_screen[:10] == [0, 1, 2, 2, 2, 5, 5, 5, 5, 6]
    np.testing.assert_array_equal(episode.frames("primary"), every[on_screen])


@pytest.mark.parametrize(
    ("fps", "expected"), [(10, [0, 2, 4, 6, 8, 10]), (40, sorted([*range(12)] * 2)), (20, range(12))]
)
def test_a_stated_rate_drops_or_repeats_frames(tmp_path: Path, fps: float, expected: list[int]) -> None:
    write_video(tmp_path / "a.mp4", clip(), fps=20)
    np.testing.assert_array_equal(
        VideoFolderReader(tmp_path, fps=fps).episode(0).frames("primary"), decoded(tmp_path / "a.mp4")[list(expected)]
    )


SPANS = [{"start_s": 0, "text": "reach"}, {"start_s": 0.3, "end_s": 0.5, "text": "pull"}]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("captions.json", json.dumps({"a.mp4": "open it", "b": "shut it"})),
        ("captions.json", json.dumps([{"file": "a.mp4", "text": "open it"}, {"file": "sub/b.mp4", "text": "shut it"}])),
        ("captions.jsonl", '{"file_name": "a.mp4", "caption": "open it"}\n\n{"video": "b.mp4", "text": "shut it"}\n'),
        ("captions.csv", "file,text\na.mp4,open it\nsub/b.mp4,shut it\n"),
        ("metadata.csv", "file_name,text\na.mp4,open it\nsub/b.mp4,shut it\n"),
        ("lang_annotations.json", json.dumps({"a.mp4": "open it", "b.mp4": "shut it"})),
    ],
)
def test_captions_in_every_form(tmp_path: Path, file: str, content: str) -> None:
    for name in ("a.mp4", "sub/b.mp4"):
        write_video(tmp_path / name, clip(length=4))
    (tmp_path / file).write_text(content)
    reader = VideoFolderReader(tmp_path)
    assert [reader.episode(index).instruction for index in range(2)] == ["open it", "shut it"]
    assert list(reader.defects) == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("captions.json", json.dumps({"a.mp4": {"text": "open it", "subtasks": SPANS}})),
        ("captions.csv", "file,text,start_s,end_s\na.mp4,open it,,\na.mp4,pull,0.3,0.5\na.mp4,reach,0,\n"),
    ],
)
def test_subtasks_are_spans_in_seconds(tmp_path: Path, file: str, content: str) -> None:
    write_video(tmp_path / "a.mp4", clip(), fps=20)
    (tmp_path / file).write_text(content)
    episode = VideoFolderReader(tmp_path).episode(0)
    assert episode.instruction == "open it"
    assert episode.subtasks == [(0, "reach"), (6, "pull"), (10, "")]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("captions.json", "{", "captions.json: .*: correct the captions file"),
        ("captions.csv", "clip,words\na.mp4,x\n", "entry 1 names no file: give it one of"),
        ("captions.json", '{"a.mp4": {"text": "x", "subtasks": [{"text": "y"}]}}', "needs start_s in seconds"),
        (
            "captions.json",
            '{"a.mp4": {"subtasks": [{"start_s": 2, "end_s": 1, "text": "y"}]}}',
            "starts at 2.0 and ends",
        ),
        ("captions.json", '{"a.mp4": 3}', "its text is 3"),
    ],
)
def test_captions_that_cannot_be_read_are_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    write_video(tmp_path / "a.mp4", clip(length=3))
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        VideoFolderReader(tmp_path)


def test_damage_is_found(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_video(tmp_path / name, clip(length=5))
    (tmp_path / "captions.json").write_text(json.dumps({"a.mp4": "x", "lost.mp4": "y"}))
    (tmp_path / "b.mp4").write_bytes((tmp_path / "b.mp4").read_bytes()[:-200])
    reader = VideoFolderReader(tmp_path)
    assert [(defect.key, defect.kind) for defect in reader.defects] == [("lost.mp4", "unreadable")]
    assert len(reader.episode(0)) == 5
    with pytest.raises(BadEpisodeError, match="b.mp4 does not open"):
        reader.episode(1)
    assert len(reader.episode(2)) == 5
    write_video(tmp_path / "c.mp4", clip(length=9))
    with pytest.raises(BadEpisodeError, match=r"\(changed\)"):
        reader.frames(2, "primary", np.array([0]))


def test_a_folder_without_videos(tmp_path: Path) -> None:
    assert not is_video_folder(tmp_path / "nothing")
    assert not is_video_folder(tmp_path)
    with pytest.raises(ValueError, match=r"no video below .*looked for .mp4"):
        VideoFolderReader(tmp_path)
    write_video(tmp_path / "videos/a.mp4", clip(length=3))
    assert is_video_folder(tmp_path)
    with pytest.raises(ValueError, match="fps is 0: give frames a second"):
        VideoFolderReader(tmp_path, fps=0)


@pytest.mark.skipif(not MOTO.exists(), reason=f"{MOTO} is not on this machine")
def test_the_moto_sample() -> None:
    for part, fps in (("oxe", 30), ("calvin", 20)):
        assert is_video_folder(MOTO / part)
        reader = VideoFolderReader(MOTO / part)
        assert (len(reader), list(reader.defects)) == (10, [])
        episodes = [reader.episode(index) for index in range(10)]
        assert all(episode.instruction and episode.fps == fps for episode in episodes)
        every = decoded(MOTO / part / episodes[3].key)
        assert len(episodes[3]) == len(every)
        np.testing.assert_array_equal(episodes[3].frames("primary", np.array([9, 2])), every[[9, 2]])
