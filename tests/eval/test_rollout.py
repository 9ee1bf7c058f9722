import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from data_mixtures.spaces.embodiments import METAWORLD_SAWYER
from eval.drivers import PolicyDriver
from eval.metaworld import CompiledTask
from eval.metaworld_tasks import metaworld_task
from eval.record import RECORDED_SEEDS_FROM
from eval.rollout import RolloutConfig, rollout, rollout_expert, rollout_random

CONFIG = RolloutConfig(tasks=("plate-slide-v3", "coffee-button-v3"), episodes=3, image_size=32, videos=0)


class Recorded:
    """A policy that plays one command for ever and remembers what it was shown."""

    def __init__(self, command: tuple[float, float, float, float], chunk: int = 16) -> None:
        self.command, self.chunk = np.array(command, np.float32), chunk
        self.observations: list[list[Any]] = []
        self.seeds: list[list[int]] = []

    def unified_chunks(self, observations: list[Any], seeds: list[int]) -> np.ndarray:
        self.observations.append(observations)
        self.seeds.append(seeds)
        return np.tile(METAWORLD_SAWYER.to_unified_action(self.command), (len(observations), self.chunk, 1))


class Looking:
    """A policy whose actions depend on the pixels and on its seed, so that any difference in either shows."""

    def unified_chunks(self, observations: list[Any], seeds: list[int]) -> np.ndarray:
        chunks = []
        for observation, seed in zip(observations, seeds, strict=True):
            pixels = sum(int(picture.astype(np.int64).sum()) for picture in observation.images.values())
            command = np.random.default_rng([seed, pixels]).uniform(-1, 1, (16, 4)).astype(np.float32)
            chunks.append(METAWORLD_SAWYER.to_unified_action(command))
        return np.stack(chunks)


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "latency_ms"} for row in rows]


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("simulator")
def test_expert_rows(tmp_path: Path) -> None:
    rows = rollout_expert(replace(CONFIG, videos=1), tmp_path)
    assert rows == read(tmp_path)
    assert [(row["task"], row["seed"]) for row in rows] == [(task, seed) for task in CONFIG.tasks for seed in range(3)]
    assert all(row["success_any"] for row in rows)
    assert all(row["policy"] == "expert" and row["suite"] == "metaworld" and row["execute"] == 1 for row in rows)
    for row in rows[:3]:
        # Success, then past_success decisions more; far from the limit.
        assert CONFIG.past_success is not None
        assert CONFIG.past_success < row["steps"] < row["max_steps"]
    # It keeps pushing the plate but lets go of the coffee button: the two readings differ.
    assert all(row["success_final"] for row in rows[:3])
    assert not any(row["success_final"] for row in rows[3:])
    videos = [row["video"] for row in rows if row["video"]]
    assert videos == [f"videos/{task}-seed0-success.mp4" for task in CONFIG.tasks]


@pytest.mark.usefixtures("simulator")
def test_failures_run_to_the_limit_and_are_filmed_for_browsers(tmp_path: Path) -> None:
    config = replace(CONFIG, tasks=("plate-slide-v3",), episodes=2, videos=1)
    rows = rollout(Recorded((0, 0, 0, -1)), config, tmp_path, "still", {"train_seed": 4})
    assert [row["success_any"] for row in rows] == [False, False]
    assert [row["steps"] for row in rows] == [metaworld_task("plate-slide-v3").max_decisions] * 2
    assert all(row["policy"] == "still" and row["train_seed"] == 4 for row in rows)
    assert rows[0]["latency_ms"] >= 0
    assert rows[0]["video"] == "videos/plate-slide-v3-seed0-failure.mp4"
    assert rows[1]["video"] is None
    with av.open(str(tmp_path / rows[0]["video"])) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.codec_context.width, stream.codec_context.height) == (128, 128)
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(pictures) == rows[0]["steps"] // 2
    assert pictures[0].std() > 15


@pytest.mark.usefixtures("simulator")
def test_policy_is_shown_the_unified_state_and_asked_once_a_chunk(tmp_path: Path) -> None:
    policy = Recorded((0, 0, 0, -1))
    config = replace(CONFIG, tasks=("plate-slide-v3",), execute=10)
    rollout(policy, config, tmp_path, "still")
    limit = metaworld_task("plate-slide-v3").max_decisions
    assert [len(call) for call in policy.observations] == [3] * (limit // 10)
    first = policy.observations[0][0]
    assert set(first.images) == {"corner", "wrist"}
    assert first.images["corner"].shape == (32, 32, 3)
    assert first.images["corner"].dtype == np.uint8
    assert first.state.shape == (46,)
    assert first.state_mask.tolist() == METAWORLD_SAWYER.state_mask.tolist()
    assert first.instruction == "slide the plate into the goal"
    # Where the hand starts, in metres in the world frame.
    np.testing.assert_allclose(first.state[:3], [0, 0.6, 0.2], atol=0.02)
    draws = [seed for call in policy.seeds for seed in call]
    assert len(set(draws)) == len(draws)


@pytest.mark.usefixtures("simulator")
def test_commands_reach_the_simulator(tmp_path: Path) -> None:
    policy = Recorded((1, 0, 0, 1))
    rollout(policy, replace(CONFIG, tasks=("plate-slide-v3",), episodes=1, execute=4), tmp_path, "right")
    before, after = (policy.observations[call][0].state for call in (0, 1))
    assert 0.05 < after[0] - before[0] < 0.13  # 4 decisions of 0.03 m, less the weld's lag
    assert before[7] > 0.9
    assert after[7] < 0.7


@pytest.mark.usefixtures("simulator")
def test_the_same_rollout_twice(tmp_path: Path) -> None:
    config = replace(CONFIG, tasks=("plate-slide-v3",), episodes=2)
    policies = [Looking(), Looking()]
    rows = [rollout(policy, config, tmp_path / str(i), "looking") for i, policy in enumerate(policies)]
    assert comparable(rows[0]) == comparable(rows[1])


@pytest.mark.usefixtures("simulator")
def test_an_episode_does_not_depend_on_its_neighbours() -> None:
    driver = PolicyDriver(Looking(), ("corner",), 32, 8)
    with CompiledTask("plate-slide-v3") as compiled:
        together = driver.plan(compiled, [compiled.episode(seed) for seed in (0, 1, 2)])
        alone = driver.plan(compiled, [compiled.episode(1)])
    np.testing.assert_array_equal(together[1], alone[0])


_ROLL_OUT_IN_A_PROCESS = """
import sys
from pathlib import Path
from eval.rollout import RolloutConfig, rollout_random
config = RolloutConfig(("plate-slide-v3", "coffee-button-v3", "handle-press-v3"), episodes=3, image_size=32, videos=1)
rollout_random(config, Path(sys.argv[1]))
"""


@pytest.mark.usefixtures("simulator")
def test_killed_in_the_middle_it_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    config = replace(CONFIG, tasks=("plate-slide-v3", "coffee-button-v3", "handle-press-v3"), videos=1)
    whole = rollout_random(config, tmp_path / "whole")
    results = tmp_path / "killed" / "results.jsonl"
    process = subprocess.Popen([sys.executable, "-c", _ROLL_OUT_IN_A_PROCESS, str(results.parent)])
    deadline = time.monotonic() + 120
    while not results.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(read(results.parent))
    assert done in (3, 6)  # whole groups, and not all of them
    rows = rollout_random(config, results.parent)
    assert comparable(rows) == comparable(whole) == comparable(read(results.parent))
    for row in rows:
        if row["video"]:
            assert (results.parent / row["video"]).read_bytes() == (tmp_path / "whole" / row["video"]).read_bytes()


@pytest.mark.usefixtures("simulator")
def test_finished_groups_are_not_played_again(tmp_path: Path) -> None:
    policy = Recorded((0, 0, 0, -1))
    config = replace(CONFIG, tasks=("plate-slide-v3",), episodes=1)
    rollout(policy, config, tmp_path, "still")
    calls = len(policy.observations)
    rollout(policy, config, tmp_path, "still")
    assert len(policy.observations) == calls
    with pytest.raises(ValueError, match="out_dir"):
        rollout(policy, replace(config, execute=4), tmp_path, "still")


@pytest.mark.slow
@pytest.mark.usefixtures("simulator")
def test_two_processes_give_the_same_rows(tmp_path: Path) -> None:
    one = rollout_random(replace(CONFIG, videos=1), tmp_path / "one")
    two = rollout_random(replace(CONFIG, videos=1, workers=2), tmp_path / "two")
    assert one == two == read(tmp_path / "two")
    for row in one:
        if row["video"]:
            assert (tmp_path / "one" / row["video"]).read_bytes() == (tmp_path / "two" / row["video"]).read_bytes()


@pytest.mark.usefixtures("simulator")
def test_progress_reports_rows_so_far(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="eval.rollout"):
        rollout_expert(replace(CONFIG, episodes=2), tmp_path)
    assert [record.args[0] for record in caplog.records if record.args] == [1, 2]  # type: ignore[index]
    assert "success 1.00" in caplog.messages[-1]


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Recorded((0, 0, 0, 0), chunk=4), "execute"),
        (Recorded((float("nan"), 0, 0, 0)), "finite"),
    ],
)
def test_bad_chunks_are_refused(policy: Recorded, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        rollout(policy, replace(CONFIG, tasks=("plate-slide-v3",), episodes=1), tmp_path, "bad")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tasks": ()}, "tasks"),
        ({"tasks": ("drawer-open",)}, "drawer-open-v3"),
        ({"episodes": 0}, "episodes"),
        ({"execute": 0}, "execute"),
        ({"cameras": ("corner3",)}, "cameras"),
        ({"past_success": -1}, "past_success"),
        ({"videos": 1, "video_size": 101}, "video_size"),
        ({"seed0": RECORDED_SEEDS_FROM - 1}, "seed0"),
    ],
)
def test_impossible_protocols_name_the_field(change: dict[str, Any], field: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=field):
        rollout_random(replace(CONFIG, **change), tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_labels_cannot_overwrite_columns(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels"):
        rollout(Looking(), CONFIG, tmp_path / "x", "looking", {"seed": 1})
