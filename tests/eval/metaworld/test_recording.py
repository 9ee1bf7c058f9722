import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_mixtures.lerobot.layout import EXECUTED_COLUMN
from data_mixtures.lerobot.table import LeRobotDataset
from data_mixtures.readers.lerobot import LeRobotReader
from eval.metaworld.behaviours import KINDS
from eval.metaworld.episode import CompiledTask
from eval.metaworld.parts import GROUPS, RECORDED_SEEDS_FROM, environment_seed
from eval.metaworld.recording import KindCounts, RecordConfig, record

TASKS = ("coffee-button-v3", "plate-slide-v3")
CONFIG = RecordConfig(
    tasks=TASKS, episodes=KindCounts(2, 1, 1, 1), image_size=32, seed=3, max_mixed_decisions=24, workers=1
)

_RECORD_IN_A_PROCESS = """
import sys
from pathlib import Path
from eval.metaworld.recording import KindCounts, RecordConfig, record
config = RecordConfig(("coffee-button-v3", "plate-slide-v3"), KindCounts(2, 1, 1, 1), image_size=32, seed=3,
                      max_mixed_decisions=24, workers=1)
record(config, Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def recorded(simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(CONFIG, tmp_path_factory.mktemp("recorded") / "demos")


def test_reads_back_as_a_lerobot_data_set(recorded: Path) -> None:
    dataset = LeRobotDataset(recorded)
    assert len(dataset.episodes) == 10
    assert dataset.episodes.tasks[0] == ["press the button of the coffee machine"]
    assert dataset.episodes.tasks[9] == ["slide the plate into the goal"]
    assert [info["kind"] for info in dataset.episodes.info[:5]] == ["expert", "expert", "medium", "random", "switch"]
    assert all(info["success"] for info in dataset.episodes.info if info["kind"] == "expert")
    assert dataset.episodes.lengths.min() >= CONFIG.min_decisions
    reader = LeRobotReader(recorded)
    for row in range(10):
        episode = reader.episode(row)
        pixels = episode.frames("corner")
        assert pixels.shape == (len(episode), 32, 32, 3)
        assert pixels.std() > 15


def test_columns_are_in_their_ranges(recorded: Path) -> None:
    dataset = LeRobotDataset(recorded)
    state, action = dataset.column("observation.state"), dataset.column("action")
    assert state.shape[1] == action.shape[1] == 4
    assert np.abs(action).max() <= 1
    assert ((state[:, 3] >= 0) & (state[:, 3] <= 1)).all()
    # The hand's working range in metres: x left-right, y away from the base, z above the table.
    assert (state[:, :3].min(0) > [-0.6, 0.2, -0.1]).all()
    assert (state[:, :3].max(0) < [0.6, 1.1, 0.8]).all()


@pytest.mark.usefixtures("simulator")
def test_what_was_carried_out_replays_to_the_same_states_and_to_success(recorded: Path) -> None:
    reader = LeRobotReader(recorded)
    columns = reader.raw_columns(0, ["observation.state", "action", EXECUTED_COLUMN])
    states, executed = columns["observation.state"], columns[EXECUTED_COLUMN]
    assert 0.02 < np.abs(executed - columns["action"]).mean() < 0.3, "noise lies on top of the labels"
    with CompiledTask("coffee-button-v3") as compiled:
        episode = compiled.episode(int(reader.info(0)["seed"]))
        for state, action in zip(states, executed, strict=True):
            np.testing.assert_allclose(episode.state, state, atol=1e-6)
            episode.step(action)
        assert episode.success_any


def test_expert_subtasks_start_with_the_approach_and_end_with_the_act(recorded: Path) -> None:
    texts = [text for _, text in LeRobotReader(recorded).episode(0).subtasks]
    assert texts[0] == "move the open gripper to the coffee button"
    assert texts[-1].startswith("press the coffee button with the ")


def test_pictures_and_states_are_of_the_same_moment(recorded: Path) -> None:
    """The recorded frame of the last state equals what the simulator draws there, up to the video's loss."""
    dataset = LeRobotDataset(recorded)
    frames = LeRobotReader(recorded).episode(9).frames("corner").astype(int)
    moved = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    speed = np.linalg.norm(
        np.diff(dataset.column("observation.state")[slice(*dataset.episodes.span(9)), :3], axis=0), axis=1
    )
    assert np.corrcoef(moved, speed)[0, 1] > 0.3


def test_recorded_actions_replay_to_success(simulator: str, tmp_path: Path) -> None:
    config = replace(CONFIG, episodes=KindCounts(2), expert_noise=0.0)
    dataset = LeRobotDataset(record(config, tmp_path / "clean"))
    for row in range(len(dataset.episodes)):
        info, rows = dataset.episodes.info[row], slice(*dataset.episodes.span(row))
        with CompiledTask(info["environment"]) as compiled:
            episode, states = compiled.episode(info["seed"]), []
            for command in dataset.column("action")[rows]:
                states.append(episode.state)
                episode.step(command)
        assert episode.success_any
        np.testing.assert_array_equal(np.array(states), dataset.column("observation.state")[rows])


def test_noise_is_executed_and_not_stored(recorded: Path) -> None:
    """Replaying what is stored does not lead through the states that were visited."""
    dataset = LeRobotDataset(recorded)
    rows, info = slice(*dataset.episodes.span(5)), dataset.episodes.info[5]
    assert info["kind"] == "expert"
    with CompiledTask(info["environment"]) as compiled:
        episode, states = compiled.episode(info["seed"]), []
        for command in dataset.column("action")[rows][:10]:
            states.append(episode.state)
            episode.step(command)
    apart = np.abs(np.array(states) - dataset.column("observation.state")[rows][:10])
    assert apart[0].max() == 0
    assert 1e-4 < apart[-1, :3].max() < 0.05


def test_again_returns_at_once_and_another_configuration_is_refused(recorded: Path) -> None:
    before = (recorded / "meta" / "info.json").stat().st_mtime_ns
    assert record(replace(CONFIG, workers=2), recorded) == recorded
    assert (recorded / "meta" / "info.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="root"):
        record(replace(CONFIG, seed=4), recorded)


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(recorded: Path, tmp_path: Path) -> None:
    root = tmp_path / "demos"
    first_part = tmp_path / "demos.parts" / f"{TASKS[0]}.npz"
    process = subprocess.Popen([sys.executable, "-c", _RECORD_IN_A_PROCESS, str(root)])
    deadline = time.monotonic() + 120
    while not first_part.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first_part.exists()
    assert not root.exists()
    (tmp_path / "demos.parts" / f"{TASKS[1]}.partial").write_bytes(b"half a file")
    record(CONFIG, root)
    assert not first_part.parent.exists()
    for file in sorted(path.relative_to(recorded) for path in recorded.rglob("*.parquet")):
        assert pq.read_table(root / file).equals(pq.read_table(recorded / file)), file
    for file in sorted(path.relative_to(recorded) for path in recorded.rglob("*.mp4")):
        assert (root / file).read_bytes() == (recorded / file).read_bytes()
    assert json.loads((root / "meta" / "recording.json").read_text())["seed"] == 3


@pytest.mark.slow
def test_two_processes_record_the_same(recorded: Path, tmp_path: Path) -> None:
    root = record(replace(CONFIG, workers=2), tmp_path / "two")
    for file in sorted(path.relative_to(recorded) for path in recorded.rglob("data/**/*.parquet")):
        assert pq.read_table(root / file).equals(pq.read_table(recorded / file)), file


def test_seeds_of_episodes_and_data_sets_never_meet() -> None:
    episodes = (0, 1, 56, 9_999)
    seeds = {
        environment_seed(seed, episode, attempt, group)
        for seed in range(3)
        for episode in episodes
        for attempt in range(20)
        for group in range(GROUPS)
    }
    assert len(seeds) == 3 * len(episodes) * 20 * GROUPS
    assert min(seeds) >= RECORDED_SEEDS_FROM


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tasks": ()}, "tasks"),
        ({"tasks": ("push-v3", "push-v3")}, "tasks"),
        ({"tasks": ("push-v2",)}, "push-v3"),
        ({"cameras": ("side",)}, "cameras"),
        ({"image_size": 63}, "image_size"),
        ({"episodes": KindCounts(0)}, "episodes"),
        ({"max_mixed_decisions": 5}, "max_mixed_decisions"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_configurations_name_the_field(change: dict, field: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=field):
        record(replace(CONFIG, **change), tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_every_kind_has_a_count() -> None:
    assert set(KindCounts.__dataclass_fields__) == set(KINDS)
