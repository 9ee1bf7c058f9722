"""The page of an episode: whole, offline, escaped, small enough, and honest about what it cannot show."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_episodes import MadeReader, one_arm, with_numerics
from PIL import Image

from data_mixtures.defects import Defect
from data_mixtures.spaces.dimension_names import ACTION_NAMES, STATE_NAMES
from data_mixtures.summaries.viewing import plots, write_episode_page


def data_of(page: str) -> dict:
    found = re.search(r"const data = (\{.*\});\n", page)
    assert found
    return json.loads(found.group(1))


def pixels_of(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_the_page_holds_every_frame_and_value(tmp_path: Path):
    episode = MadeReader([20], {"primary": (48, 64), "wrist": (32, 32)}).episode(0)
    out = write_episode_page(episode, "made", tmp_path / "pages" / "e.html")
    data = data_of(out.read_text())
    assert (data["length"], data["fps"]) == (20, 10.0)
    assert [len(film["frames"]) for film in data["films"]] == [20, 20]
    shades = [int(pixels_of(frame).mean().round()) for frame in data["films"][0]["frames"]]
    assert shades == list(range(20))
    assert pixels_of(data["films"][1]["frames"][0]).shape == (32, 32, 3)
    assert data["lines"]["state0"] == pytest.approx((np.arange(20) * 0.01).tolist(), rel=1e-3)
    assert data["lines"]["action6"][-1] is None  # masked
    assert data["lines"]["action6"][:3] == [1, 1, 1]
    assert data["spans"] == [[0, 5, "reach", 0], [8, 20, "grasp", 1]]
    assert not list((tmp_path / "pages").glob(".*")), "nothing is left beside the page"


def test_the_page_needs_no_network_and_escapes_what_data_say(tmp_path: Path):
    episode = replace(MadeReader([6]).episode(0), subtasks=[(0, "</script><b>x</b>")])
    page = write_episode_page(episode, "a <set>", tmp_path / "e.html").read_text()
    assert "open the &lt;door&gt;" in page
    assert "a &lt;set&gt;" in page
    assert page.count("</script>") == 1
    assert "<b>x</b>" not in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "http://" not in page
    assert "https://" not in page


def test_a_page_that_is_too_large_gets_smaller_pictures_then_fewer(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 120, 320, 3)).astype(np.uint8)
    episode = replace(MadeReader([40]).episode(0), read_frames=lambda camera, numbers: noise[numbers])
    sizes, counts = [], []
    for largest in (4_000_000, 700_000, 200_000):
        out = write_episode_page(episode, "made", tmp_path / "e.html", largest)
        assert out.stat().st_size <= largest
        film = data_of(out.read_text())["films"][0]
        sizes.append(pixels_of(film["frames"][0]).shape[1])
        counts.append((film["every"], len(film["frames"])))
    assert sizes[0] == 320 > sizes[1] > sizes[2]
    assert counts[0] == (1, 40)
    every, count = counts[-1]
    assert every > 1
    assert count == -(-40 // every)


def test_a_camera_that_does_not_decode_costs_itself_only(tmp_path: Path):
    blind = {"wrist": Defect("", "video", "the <stream> ends at frame 3")}
    reader = MadeReader([10], {"primary": (16, 16), "wrist": (16, 16)}, blind=blind)
    page = write_episode_page(reader.episode(0), "made", tmp_path / "e.html").read_text()
    assert "the &lt;stream&gt; ends at frame 3" in page
    assert [len(film["frames"]) for film in data_of(page)["films"]] == [10, 0]


def test_video_only_and_numbers_only_are_said(tmp_path: Path):
    page = write_episode_page(MadeReader([5], video_only=True).episode(0), "made", tmp_path / "v.html").read_text()
    assert "the recording is video only" in page
    page = write_episode_page(MadeReader([5], cameras={}).episode(0), "made", tmp_path / "n.html").read_text()
    assert "The episode has no camera" in page
    assert data_of(page)["films"] == []


def test_one_frame_is_an_episode(tmp_path: Path):
    page = write_episode_page(MadeReader([1]).episode(0), "made", tmp_path / "e.html").read_text()
    assert data_of(page)["length"] == 1


def test_lines_break_where_nothing_was_tracked():
    numerics = one_arm(10)
    numerics.state_mask[4:6, 0] = False
    position = plots(STATE_NAMES, numerics.state, numerics.state_mask)[0]
    assert (position.title, position.unit) == ("left arm position", "m")
    x = position.lines[0]
    assert [line.count(",") for line in x.polylines] == [4, 4]
    assert x.values[3:7] == [0.03, None, None, 0.06]
    assert x.polylines[1].startswith("666.7,")
    assert [plot.title for plot in plots(ACTION_NAMES, numerics.actions, numerics.action_mask)] == [
        "left arm translation",
        "left arm rotation",
        "left gripper",
    ]


def test_long_lines_are_thinned_and_keep_their_spikes():
    numerics = one_arm(20_000)
    numerics.state[12_345, 1] = 9.0
    y = plots(STATE_NAMES, numerics.state, numerics.state_mask)[0].lines[1].polylines[0]
    points = [tuple(map(float, pair.split(","))) for pair in y.split()]
    assert len(points) < 800
    assert min(points, key=lambda point: point[1])[0] == pytest.approx(1000 * 12_345 / 19_999, abs=0.1)


def test_a_page_of_another_robot_shows_its_own_dimensions(tmp_path: Path):
    numerics = one_arm(8)
    numerics.state_mask[:, 8:16] = True
    episode = with_numerics(MadeReader([8]).episode(0), numerics)
    page = write_episode_page(episode, "made", tmp_path / "e.html").read_text()
    assert "right arm quaternion" in page
    assert 'class="grid pair"' in page
    assert "thumb" not in page.replace("tips", "")
