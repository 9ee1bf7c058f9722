"""LIBERO's recordings: whole or not at all, read back by our readers, the same after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import eval.libero.recording as recording
from data_mixtures.readers.lerobot import LeRobotReader
from data_mixtures.spaces.embodiments import LIBERO_COMMANDS
from eval.libero.install import LIBERO
from eval.libero.recording import LiberoRecordConfig, record_libero

TASKS = ("turn_on_the_stove", "put_the_bowl_on_the_plate")
CONFIG = LiberoRecordConfig(suite="libero_goal", tasks=TASKS, episodes=2, image_size=32, seed=3, workers=2)
STEPS = 12

needs_libero = pytest.mark.skipif(LIBERO.found() is None, reason="LIBERO is not set up; run `vla setup libero`")


def _quiet(task: str, of_task: int, of_all: int) -> None:
    del task, of_task, of_all


def _write_part(folder: Path, episode: int, versions: str = '{"mujoco": "3.3.2"}') -> None:
    rng = np.random.default_rng(episode)
    arrays = {f"frames/{name}": rng.integers(0, 255, (STEPS, 32, 32, 3), dtype=np.uint8) for name in recording.CAMERAS}
    arrays |= {"state": rng.normal(size=(STEPS, 8)).astype(np.float32)}
    arrays |= {name: rng.uniform(-1, 1, (STEPS, 7)).astype(np.float32) for name in ("action", "executed")}
    spans = json.dumps([[0, "reach for the knob"], [7, "turn the knob"]])
    arrays |= {"subtasks": np.array(spans), "versions": np.array(versions)}
    np.savez(folder / f"{episode:05d}.npz", allow_pickle=False, **arrays, seed=3_000_000 + episode, failures=1)


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All episodes but the last of the second task, as workers leave them."""
    assets = tmp_path / "libero_assets"
    assets.mkdir()
    monkeypatch.setattr(recording, "assets_folder", lambda _: assets)
    monkeypatch.setattr(recording, "assets_kind", lambda _: "stand-in")
    folder, _ = recording._open_parts(tmp_path / "demos", CONFIG)
    for task, episode in ((TASKS[0], 0), (TASKS[0], 1), (TASKS[1], 0)):
        _write_part(folder / task, episode)
    return folder


def test_only_what_is_missing_is_made(parts: Path) -> None:
    (job,) = recording._jobs(CONFIG, parts)
    assert (job["task"], job["episodes"], job["seed"]) == (TASKS[1], [1], 3)
    spread = recording._jobs(replace(CONFIG, episodes=7, workers=4), parts)
    assert [(job["task"], job["episodes"]) for job in spread] == [
        (TASKS[0], [2, 4, 6]),
        (TASKS[0], [3, 5]),
        (TASKS[1], [1, 3, 5]),
        (TASKS[1], [2, 4, 6]),
    ]


def test_reads_back_with_spans_raw_columns_and_meta(parts: Path, tmp_path: Path) -> None:
    _write_part(parts / TASKS[1], 1)
    with np.load(parts / TASKS[0] / "00001.npz") as part:
        arrays = dict(part)
    root = record_libero(CONFIG, tmp_path / "demos", _quiet)
    assert not parts.exists()
    reader = LeRobotReader(root)
    assert len(reader) == 4
    assert reader.episode(0).instruction == "turn on the stove"
    assert reader.episode(3).instruction == "put the bowl on the plate"
    assert reader.episode(0).subtasks == [(0, "reach for the knob"), (7, "turn the knob")]
    info = json.loads((root / "meta" / "info.json").read_text())
    assert (info["robot_type"], info["fps"]) == (LIBERO_COMMANDS.robot_type, 20)
    assert reader.info(1)["environment"] == "libero_goal/turn_on_the_stove"
    assert reader.info(1)["seed"] == 3_000_001
    columns = reader.raw_columns(1, ["observation.state", "action", "action_executed"])
    for name, part in (("observation.state", "state"), ("action", "action"), ("action_executed", "executed")):
        np.testing.assert_array_equal(columns[name], arrays[part])
    made = json.loads((root / "meta" / "recording.json").read_text())
    assert made["assets"] == "stand-in"
    assert made["versions"] == {"mujoco": "3.3.2"}
    assert made["config"]["seed"] == 3
    assert record_libero(CONFIG, root, _quiet) == root  # there already


def test_parts_of_other_versions_are_not_mixed(parts: Path, tmp_path: Path) -> None:
    _write_part(parts / TASKS[1], 1, versions='{"mujoco": "3.3.1"}')
    with pytest.raises(ValueError, match=r"3\.3\.1.*3\.3\.2.*delete"):
        record_libero(CONFIG, tmp_path / "demos", _quiet)
    assert not (tmp_path / "demos").exists()


def test_parts_of_another_configuration_are_thrown_away(parts: Path, tmp_path: Path) -> None:
    folder, _ = recording._open_parts(tmp_path / "demos", replace(CONFIG, noise=0.3))
    assert folder == parts
    assert not list(parts.glob("*/*.npz"))


def test_another_data_set_is_not_overwritten(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "demos").mkdir()
    with pytest.raises(ValueError, match="not recorded from this configuration"):
        record_libero(CONFIG, tmp_path / "demos", _quiet)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"suite": "libero_gaol"}, "libero_goal"),
        ({"tasks": ("turn_on_the_stone",)}, "turn_on_the_stove"),
        ({"tasks": ("turn_on_the_stove",) * 2}, "twice"),
        ({"episodes": 0}, "episodes"),
        ({"image_size": 63}, "image_size"),
        ({"image_size": 512}, "image_size"),
        ({"seed": -1}, "seed"),
        ({"noise": -0.1}, "noise"),
        ({"workers": 0}, "workers"),
    ],
)
def test_impossible_configurations_name_the_field(change: dict, field: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=field):
        record_libero(replace(CONFIG, **change), tmp_path / "x", _quiet)
    assert not list(tmp_path.iterdir())


_RECORD_IN_A_PROCESS = """
import sys
from pathlib import Path
from eval.libero.recording import LiberoRecordConfig, record_libero
config = LiberoRecordConfig("libero_goal", ("turn_on_the_stove",), episodes=2, image_size=32, seed=3, workers=1)
record_libero(config, Path(sys.argv[1]), print)
"""


@needs_libero
@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    config = replace(CONFIG, tasks=TASKS[:1], workers=1)
    whole = record_libero(replace(config, workers=2), tmp_path / "whole", _quiet)
    root = tmp_path / "demos"
    first = tmp_path / "demos.parts" / TASKS[0] / "00000.npz"
    process = subprocess.Popen([sys.executable, "-c", _RECORD_IN_A_PROCESS, str(root)])
    deadline = time.monotonic() + 600
    while not first.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists()
    assert not root.exists()
    made_at, seen = os.stat(first).st_mtime_ns, []
    record_libero(config, root, lambda *_: seen.append(os.stat(first).st_mtime_ns))
    assert seen == [made_at]  # one episode was missing, and the first was left alone
    for pattern in ("*.parquet", "*.mp4"):
        files = sorted(path.relative_to(whole) for path in whole.rglob(pattern))
        assert files
        for file in files:
            same = (root / file).read_bytes() == (whole / file).read_bytes()
            assert same or pq.read_table(root / file).equals(pq.read_table(whole / file)), file
    reader = LeRobotReader(root)
    pixels = reader.episode(0).frames("image")
    assert pixels.shape[1:] == (32, 32, 3)
    assert pixels.std() > 15
