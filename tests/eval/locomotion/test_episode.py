"""Episodes are gymnasium's, step for step, but for their end."""

import numpy as np
import pytest

from eval.locomotion.episode import LocomotionEpisode
from eval.locomotion.tasks import ROBOTS, References, locomotion_task


def _gymnasium(robot: str):
    if robot == "hopper":
        from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

        return HopperEnv()
    from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

    return HalfCheetahEnv()


@pytest.mark.parametrize("robot", ROBOTS)
def test_positions_and_rewards_are_gymnasiums(robot: str) -> None:
    theirs, ours = _gymnasium(robot), LocomotionEpisode(robot, seed=0)
    for seed in (3, 4):
        observation, _ = theirs.reset(seed=seed)
        ours.reset(seed)
        draws, total = np.random.default_rng(seed), 0.0
        np.testing.assert_array_equal(ours.observation, observation.astype(np.float32))
        for _ in range(40):
            action = draws.uniform(-1.0, 1.0, ours.model.nu).astype(np.float32)
            for _ in range(2):
                observation, reward, fallen, _, _ = theirs.step(action)
                total += float(reward)
                if fallen:
                    break
            ours.step(action)
            np.testing.assert_array_equal(ours.observation, observation.astype(np.float32))
            assert ours.total == pytest.approx(total, abs=1e-4)  # their cost of control is summed in float32
            assert ours.fallen == fallen
            if fallen:
                break
        assert ours.fallen == (robot == "hopper")


def test_a_fallen_hopper_lies_still_and_earns_nothing() -> None:
    episode = LocomotionEpisode("hopper", seed=0)
    while not episode.fallen:
        episode.step(np.ones(3))
    total, seen = episode.total, episode.observation
    assert [episode.step(np.ones(3)) for _ in range(5)] == [0.0] * 5
    assert episode.total == total
    np.testing.assert_array_equal(episode.observation, seen)


@pytest.mark.parametrize("robot", ROBOTS)
def test_columns_are_those_observed(robot: str) -> None:
    task, episode = locomotion_task(robot), LocomotionEpisode(robot, seed=0)
    assert len(task.state_columns) == len(task.state_names) == len(episode.observation)
    assert len(set(task.state_names)) == len(task.state_names)
    assert len(task.action_columns) == episode.model.nu
    joints = [episode.model.joint(episode.model.actuator(i).trnid[0]).name for i in range(episode.model.nu)]
    short = {"bthigh": "back_thigh", "bshin": "back_shin", "bfoot": "back_foot"}
    short |= {name.replace("b", "f", 1): place.replace("back", "front") for name, place in short.items()}
    assert tuple(short.get(name, name.removesuffix("_joint")) for name in joints) == task.actuators


def test_one_step_a_decision_covers_half_the_way_of_two() -> None:
    once, twice = LocomotionEpisode("halfcheetah", 5, action_repeat=1), LocomotionEpisode("halfcheetah", 5)
    action = np.linspace(-1, 1, 6)
    rewards = once.step(action) + once.step(action)
    assert twice.step(action) == pytest.approx(rewards)
    np.testing.assert_array_equal(once.observation, twice.observation)


def test_actions_beyond_their_range_are_cut() -> None:
    one, other = LocomotionEpisode("halfcheetah", 5), LocomotionEpisode("halfcheetah", 5)
    assert one.step(np.full(6, 7.0)) == other.step(np.ones(6))


def test_normalised_returns() -> None:
    references = References(random=-100.0, expert=300.0)
    assert [references.normalised(value) for value in (-100.0, 300.0, 100.0, 500.0)] == [0.0, 1.0, 0.5, 1.5]


def test_d4rls_references() -> None:
    hopper, cheetah = locomotion_task("hopper").d4rl, locomotion_task("halfcheetah").d4rl
    assert (hopper.random, hopper.expert) == (-20.272305, 3234.3)
    assert (cheetah.random, cheetah.expert) == (-280.178953, 12135.0)


def test_an_unknown_robot() -> None:
    with pytest.raises(ValueError, match="'ant' is none of hopper, halfcheetah"):
        locomotion_task("ant")
