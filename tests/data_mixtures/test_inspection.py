"""The report of a data set, against a set whose every figure is known."""

import json

import numpy as np
import pytest
from made_episodes import MadeReader, one_arm

from data_mixtures.defects import Defect
from data_mixtures.spaces.dimension_names import ACTION_NAMES, STATE_NAMES
from data_mixtures.spaces.unified import (
    ACTION_DIM,
    ACTION_FINGERTIPS,
    ACTION_GRIPPER_DIMS,
    STATE_DIM,
    STATE_FINGERTIPS,
    STATE_GRIPPER_DIMS,
    Numerics,
)
from data_mixtures.summaries.inspection import dataset_name, inspect, spread_out, subtask_spans


def test_names_follow_the_layout_of_the_unified_spaces():
    assert [len(STATE_NAMES), len(ACTION_NAMES)] == [STATE_DIM, ACTION_DIM]
    assert [name.index for name in ACTION_NAMES] == list(range(ACTION_DIM))
    assert [i for i, name in enumerate(STATE_NAMES) if "gripper" in name.group] == list(STATE_GRIPPER_DIMS)
    assert [i for i, name in enumerate(ACTION_NAMES) if "gripper" in name.group] == list(ACTION_GRIPPER_DIMS)
    for names, fingertips in ((STATE_NAMES, STATE_FINGERTIPS), (ACTION_NAMES, ACTION_FINGERTIPS)):
        assert [i for i, name in enumerate(names) if " tip" in name.group] == list(range(*fingertips.indices(99)))
    assert str(STATE_NAMES[14]) == "right arm quaternion w"
    assert str(ACTION_NAMES[12]) == "right arm rotation yaw"
    assert str(ACTION_NAMES[43]) == "right little tip change z"
    assert len({str(name) for name in STATE_NAMES}) == STATE_DIM


def test_every_figure_of_a_known_set():
    reader = MadeReader([20, 30, 40, 50], {"primary": (48, 64), "wrist": (32, 32)})
    found = inspect(reader, "data/made", "made")
    assert (found.episodes, found.episodes_read, found.episodes_usable) == (4, 4, 4)
    assert found.frames == 140
    assert found.hours == pytest.approx(14 / 3600)
    assert found.estimated_hours == pytest.approx(found.hours)
    assert found.lengths == [20, 40, 50]
    assert found.rates_hz == {"10": 4}
    assert found.robot_types == {"arm": 4}
    assert [(c.name, c.sizes, c.episodes) for c in found.cameras] == [
        ("primary", ["48x64"], 4),
        ("wrist", ["32x32"], 4),
    ]
    assert [(t.text, t.count) for t in found.top_tasks] == [("open the <door>", 2), ("press the button & wait", 1)]
    assert (found.tasks, found.without_instruction) == (2, 1)
    assert (found.info, found.info_yes) == ({"scene": 4, "success": 4}, {"success": 2})
    assert found.suspicions[0] == "1 of 4 episodes have no instruction"
    assert not found.defects


def test_ranges_are_named_and_exact():
    lengths = [20, 30]
    found = {(d.space, d.index): d for d in inspect(MadeReader(lengths), "made", "made").dimensions}
    assert sorted(found) == sorted([("state", i) for i in range(8)] + [("action", i) for i in range(7)])
    x = found["state", 0]
    assert (x.name, x.unit, x.share) == ("left arm position x", "m", 1.0)
    assert (x.low, x.high) == (0.0, pytest.approx(0.29))
    values = np.concatenate([one_arm(n, seed).state[:, 0] for seed, n in enumerate(lengths)])
    assert [x.q01, x.q99] == pytest.approx(np.quantile(values, [0.01, 0.99]).tolist(), abs=1e-6)
    change = found["action", 0]
    assert change.name == "left arm translation x"
    assert change.share == pytest.approx(48 / 50)  # an episode's last action is not known
    assert change.q01 == pytest.approx(0.01)


def test_spans_of_sub_tasks():
    found = inspect(MadeReader([20, 30]), "made", "made").subtasks
    assert (found.episodes, found.spans, found.distinct) == (1, 2, 2)
    assert found.mean_seconds == pytest.approx((5 + 12) / 2 / 10)
    assert subtask_spans(MadeReader([20]).episode(0)) == [(0, 5, "reach"), (8, 20, "grasp")]
    assert subtask_spans(MadeReader([20, 20]).episode(1)) == []


def test_a_sample_is_spread_out_and_says_so():
    assert spread_out(100, 3) == [0, 50, 99]
    assert spread_out(3, 10) == [0, 1, 2]
    assert spread_out(5, 1) == [0]
    assert spread_out(0, 4) == []
    seen = []
    found = inspect(MadeReader([10] * 10), "made", "made", 2, on_episode=lambda done, total: seen.append((done, total)))
    assert (found.episodes, found.episodes_read, found.frames) == (10, 2, 20)
    assert found.estimated_hours == pytest.approx(100 / 10 / 3600)
    assert seen == [(1, 2), (2, 2)]


def test_defects_are_listed_once_and_the_rest_is_read():
    late = Defect("episode_000001", "not_finite", "state[3, 1] is nan")
    early = Defect("shard-3", "truncated", "the file ends early")
    blind = Defect("", "video", "it does not decode")
    bad = {1: late}
    found = inspect(MadeReader([10, 10, 10], bad=bad, defects=[early, late], blind={"primary": blind}), "made", "made")
    assert (found.episodes_usable, found.frames) == (2, 20)
    assert found.defects[:2] == [early, late]
    assert {d.key for d in found.defects[2:]} == {"episode_000000", "episode_000002"}
    assert found.cameras[0].sizes == []


def test_nothing_readable_is_still_a_report():
    found = inspect(MadeReader([10], bad={0: Defect("", "unreadable", "not a file")}), "made", "made")
    assert (found.episodes_usable, found.frames, found.lengths, found.dimensions) == (0, 0, [], [])
    assert json.loads(json.dumps(found.as_json()))["defects"][0]["kind"] == "unreadable"


def test_video_only_has_no_dimensions():
    assert inspect(MadeReader([10], video_only=True), "made", "made").dimensions == []


def test_what_metadata_say_and_files_do_not_is_suspected():
    reader = MadeReader([10])
    reader.warnings = ["info.json says fps 30, the files have 10"]
    assert inspect(reader, "made", "made").suspicions[0] == "info.json says fps 30, the files have 10"


def test_units_and_axes_are_suspected(monkeypatch: pytest.MonkeyPatch):
    suspicions = inspect(MadeReader([80]), "made", "made").suspicions
    assert "left arm translation x (m): it is 0.01 in every frame" in "\n".join(suspicions)
    assert not [words for words in suspicions if "millimetres" in words or "do not point" in words]

    def in_millimetres_and_backwards(length: int, seed: int) -> Numerics:
        made = one_arm(length, seed)
        made.state[:, :3] *= 1000
        made.actions[:, :3] *= -1000
        return made

    monkeypatch.setattr("made_episodes.one_arm", in_millimetres_and_backwards)
    suspicions = "\n".join(inspect(MadeReader([80, 80]), "made", "made").suspicions)
    assert "left arm position y (m)" in suspicions
    assert "millimetres?" in suspicions
    assert "left arm translation: actions do not point where the state goes (mean cosine -1.00)" in suspicions


def test_a_set_is_called_after_its_folder():
    assert dataset_name("data/oxe/kuka/") == "kuka"
    assert dataset_name("data/bridge_dataset/1.0.0") == "bridge_dataset"
    assert dataset_name("hf://datasets/lerobot/pusht") == "pusht"
    assert dataset_name(".") == "."
