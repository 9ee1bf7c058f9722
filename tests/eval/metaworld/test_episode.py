import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from data_mixtures.spaces.embodiments import METAWORLD_SAWYER
from eval import gl_backend
from eval.metaworld.episode import CompiledTask
from eval.metaworld.renderer import CAMERAS
from eval.metaworld.tasks import METAWORLD_TASKS, metaworld_task


@pytest.fixture(scope="module")
def plate(simulator: str) -> Iterator[CompiledTask]:
    with CompiledTask("plate-slide-v3") as compiled:
        yield compiled


def _play_expert(compiled: CompiledTask, seed: int) -> tuple[np.ndarray, bool]:
    episode, states = compiled.episode(seed), []
    while episode.decisions < compiled.task.max_decisions and not episode.success_any:
        states.append(episode.state)
        episode.step(episode.expert_command())
    return np.array(states), episode.success_any


@pytest.mark.parametrize("name", ["drawer-open-v3", "plate-slide-v3"])
def test_a_seed_repeats_its_initial_state_and_others_differ(simulator: str, name: str) -> None:
    with CompiledTask(name) as compiled:
        first, again, other = (compiled.episode(seed)._privileged for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01  # metres: the drawer, or where the plate has to go


def test_the_first_observation_and_picture_are_not_those_of_the_draw_before(simulator: str) -> None:
    with CompiledTask("drawer-open-v3") as compiled:
        episode = compiled.episode(0)
        first, picture, moment = episode._privileged, compiled.render(episode, "corner", 64), episode.snapshot()
        episode.step(np.zeros(4, np.float32))
        np.testing.assert_allclose(episode._privileged[4:7], first[4:7], atol=2e-3)
        episode.show(moment)
        np.testing.assert_array_equal(compiled.render(episode, "corner", 64), picture)


def test_a_seed_repeats_the_whole_episode_whatever_ran_before(plate: CompiledTask) -> None:
    alone, _ = _play_expert(plate, 5)
    _play_expert(plate, 6)
    after_another, _ = _play_expert(plate, 5)
    np.testing.assert_array_equal(alone, after_another)


@pytest.mark.parametrize("name", ["drawer-open-v3", "plate-slide-v3"])
def test_scripted_expert_succeeds(simulator: str, name: str) -> None:
    with CompiledTask(name) as compiled:
        outcomes = [_play_expert(compiled, seed)[1] for seed in range(5)]
    assert np.mean(outcomes) >= 0.8


@pytest.mark.usefixtures("simulator")
def test_the_full_observation_is_settled_and_looks_one_simulator_step_back() -> None:
    command = np.array([0.3, -0.5, -1, 1], np.float32)
    with CompiledTask("assembly-v3", 2, "full") as compiled, CompiledTask("assembly-v3", 1, "full") as single:
        twice, once = compiled.episode(4), single.episode(4)
        assert (twice.state.shape, twice.state.dtype) == ((39,), np.float32)
        np.testing.assert_array_equal(twice.state[:18], twice.state[18:36])
        np.testing.assert_array_equal(twice.state[36:], once._environment._target_pos.astype(np.float32))
        for _ in range(3):
            once.step(command)
            between = once.state
            once.step(command)
            twice.step(command)
            np.testing.assert_array_equal(twice.state, once.state)
            np.testing.assert_array_equal(twice.state[18:36], between[:18])
            assert twice.rewards == once.rewards > 0
    with CompiledTask("assembly-v3") as compiled:
        np.testing.assert_array_equal(compiled.episode(4).state, single.episode(4).state[:4])


@pytest.mark.usefixtures("simulator")
def test_contacts_are_watched_where_asked() -> None:
    with CompiledTask("coffee-button-v3") as compiled:
        touched = {}
        for watch in (False, True):
            episode, seen = compiled.episode(0), []
            while not episode.success_any:
                episode.step(episode.expert_command(), watch)
                seen.append(episode.touched)
            touched[watch] = seen
    assert not any(touched[False])
    assert touched[True][-1]
    assert not touched[True][0]


def test_without_a_backend_an_episode_is_played_and_only_drawing_it_is_refused(
    simulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_backend() -> str:
        raise RuntimeError("MuJoCo cannot render")

    monkeypatch.setattr("eval.metaworld.episode.select_gl_backend", no_backend)
    with CompiledTask("plate-slide-v3") as compiled:
        episode = compiled.episode(0)
        episode.step(episode.expert_command())
        with pytest.raises(RuntimeError, match="cannot render"):
            compiled.render(episode, "corner", 32)


def test_success_at_any_step_outlives_success_now(simulator: str) -> None:
    # The expert lets go of the coffee button after pressing it.
    with CompiledTask("coffee-button-v3") as compiled:
        episode = compiled.episode(0)
        while episode.decisions < 30:
            episode.step(episode.expert_command())
    assert episode.success_any
    assert not episode.success_now


def test_state_and_command_have_the_units_they_claim(plate: CompiledTask) -> None:
    episode = plate.episode(0)
    for _ in range(4):  # the mocap weld lags by a few steps
        episode.step(np.array([0, 0, 1, -1], np.float32))
    before = episode.state
    episode.step(np.array([0, 0, 1, -1], np.float32))
    moved = episode.state - before
    expected = METAWORLD_SAWYER.to_unified_action(np.array([0, 0, 1, -1], np.float32))[:3]
    assert expected.tolist() == pytest.approx([0, 0, 0.03])
    np.testing.assert_allclose(moved[:3], expected, atol=0.01)
    assert before[3] > 0.9
    for _ in range(8):
        episode.step(np.array([0, 0, 0, 1], np.float32))
    assert episode.state[3] < 0.5


def test_commands_round_trip_through_the_unified_space() -> None:
    commands = np.random.default_rng(0).uniform(-1, 1, (7, 4)).astype(np.float32)
    unified = METAWORLD_SAWYER.to_unified_action(commands)
    np.testing.assert_allclose(METAWORLD_SAWYER.action_from_unified(unified), commands, atol=1e-6)
    assert np.abs(unified[:, :3]).max() <= 0.03 + 1e-6
    assert unified[:, 6].min() >= 0
    assert unified[:, 6].max() <= 1


@pytest.mark.parametrize("camera", CAMERAS)
def test_pictures_show_the_scene_and_repeat(plate: CompiledTask, camera: str) -> None:
    episode = plate.episode(0)
    picture = plate.render(episode, camera, 64)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 15  # a dead context draws one colour
    np.testing.assert_array_equal(picture, plate.render(plate.episode(0), camera, 64))
    assert np.abs(picture.astype(int) - plate.render(plate.episode(1), camera, 64)).max() > 30


@pytest.mark.parametrize("camera", CAMERAS)
def test_hiding_what_is_out_of_view_changes_no_pixel(plate: CompiledTask, camera: str) -> None:
    episode = plate.episode(2)
    for _ in range(15):
        episode.step(episode.expert_command())
    culled = plate.render(episode, camera, 64)
    renderer = plate._renderer
    assert renderer is not None
    renderer.cull = False
    try:
        np.testing.assert_array_equal(culled, plate.render(episode, camera, 64))
    finally:
        renderer.cull = True


def test_a_snapshot_draws_the_moment_it_was_taken(plate: CompiledTask) -> None:
    episode, live, snapshots = plate.episode(7), [], []
    for _ in range(6):
        episode.step(episode.expert_command())
        live.append(plate.render(episode, "corner", 64))
        snapshots.append(episode.snapshot())
    for picture, snapshot in zip(live, snapshots, strict=True):
        episode.show(snapshot)
        np.testing.assert_array_equal(plate.render(episode, "corner", 64), picture)


def test_two_renderers_do_not_disturb_each_other(plate: CompiledTask) -> None:
    episode = plate.episode(0)
    before = plate.render(episode, "corner", 64)
    with CompiledTask("push-v3") as other:
        assert other.render(other.episode(0), "corner", 64).std() > 15
    np.testing.assert_array_equal(plate.render(episode, "corner", 64), before)


def test_unknown_names_teach(plate: CompiledTask) -> None:
    with pytest.raises(ValueError, match="drawer-open-v3"):
        metaworld_task("drawer-open")
    with pytest.raises(ValueError, match="corner"):
        plate.render(plate.episode(0), "corner2", 64)
    with pytest.raises(ValueError, match="image_size"):
        plate.render(plate.episode(0), "corner", 4096)


def test_texts_of_the_table_tell_tasks_apart() -> None:
    rows = METAWORLD_TASKS.values()
    assert len({row.instruction for row in rows}) == len({row.act for row in rows}) == len(METAWORLD_TASKS)


def test_gl_backend_falls_back_and_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(gl_backend.sys, "platform", "linux")
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    monkeypatch.setattr(gl_backend, "_works", lambda backend: backend == "osmesa")
    assert gl_backend.select_gl_backend() == "osmesa"
    assert os.environ["MUJOCO_GL"] == "osmesa"
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(gl_backend, "_works", lambda backend: False)
    with pytest.raises(RuntimeError, match="libegl1"):
        gl_backend.select_gl_backend()


def test_importing_the_engine_imports_no_simulator() -> None:
    modules = "eval.metaworld.suite, eval.metaworld.recording, eval.engine.engine, recipes.rollouts"
    code = f"import sys, {modules}; sys.exit(bool({{'mujoco', 'metaworld', 'gymnasium'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
