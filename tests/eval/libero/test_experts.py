"""Scripted experts in LIBERO: they succeed, and demonstrations made of them repeat, replay and start elsewhere."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.environments import own_packages
from eval.gl_backend import select_gl_backend
from eval.libero.install import LIBERO

_WORKER = Path(__file__).with_name("experts_in_libero.py")

needs_libero = pytest.mark.skipif(LIBERO.found() is None, reason="LIBERO is not set up; run `vla setup libero`")

# One of each suite that has no trouble; the wide test holds the others.
_FAST = [("libero_object", 9), ("libero_spatial", 2), ("libero_goal", 8), ("libero_10", 7)]


def in_libero(name: str, *arguments: Any) -> Any:
    select_gl_backend()
    with own_packages() as packages:
        done = subprocess.run(
            [str(LIBERO.python), str(_WORKER), name, json.dumps(arguments)],
            env={**os.environ, **LIBERO.variables(), "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@needs_libero
def test_an_expert_of_each_suite_replays_to_success() -> None:
    assert in_libero("solves", _FAST, 1, 520) == {f"{suite}/{number}": 1 for suite, number in _FAST}


@needs_libero
@pytest.mark.slow
@pytest.mark.parametrize("suite", ["libero_object", "libero_spatial", "libero_goal"])
def test_experts_solve_their_suites(suite: str) -> None:
    solved = in_libero("solves", [(suite, number) for number in range(10)], 2, 300)
    assert sum(solved.values()) >= 17, solved
    assert sum(count > 0 for count in solved.values()) >= 9, solved


@needs_libero
def test_demonstrations_repeat_replay_and_start_where_no_evaluation_does() -> None:
    made = in_libero("generation", "libero_goal", 8)
    assert made["equal"]
    assert made["subtasks"][0] == made["subtasks"][1]
    assert made["differs"]
    assert 0.05 < made["noise"] < 1
    assert made["replayed"]
    assert made["seed"][0] == made["seed"][1]
    assert made["nearest"] > 1e-4  # of qpos and qvel: no fixed initial state is this one
    assert made["largest"] <= 1
    assert made["subtasks"][0][0] == [0, "reach for the black bowl"]
    starts = [start for start, _ in made["subtasks"][0]]
    assert starts == sorted(set(starts))
    assert starts[-1] < made["steps"]


def test_a_turn_is_the_shortest_that_leads_there() -> None:
    pytest.importorskip("mujoco")
    from eval.libero.experts.moves import about, downward, turn_between

    axis = np.array([0.3, -0.5, 0.8])
    start = about(np.array([1.0, 0.0, 0.0]), 0.4)
    for angle in (0.0, 1e-4, 1.0, 3.0):
        turn = turn_between(start, about(axis, angle) @ start)
        np.testing.assert_allclose(turn, angle * axis / np.linalg.norm(axis), atol=1e-6)
    hand = downward(np.array([0.0, 2.0]))
    np.testing.assert_allclose(hand @ hand.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(hand) == pytest.approx(1.0)
    np.testing.assert_allclose(hand[:, 0], [0, 1, 0])
    np.testing.assert_allclose(hand[:, 2], [0, 0, -1])


class _StandIn:
    """A hand that goes where it is sent, as fast as LIBERO's does."""

    def __init__(self) -> None:
        self.hand_position, self.hand_rotation = np.array([-0.2, 0.0, 1.17]), np.eye(3)


def test_moves_end_where_they_are_sent_and_give_up_where_they_are_stopped() -> None:
    pytest.importorskip("mujoco")
    from eval.libero.experts.moves import Move, Progress, command

    def play(blocked: bool) -> tuple[int, float]:
        scene = _StandIn()
        move = Move("go", np.array([0.1, 0.1, 0.95]), np.eye(3), "close", near=0.01)
        progress = Progress(move)
        while not progress.is_over(scene):  # pyright: ignore[reportArgumentType]
            action = command(scene, move)  # pyright: ignore[reportArgumentType]
            assert np.abs(action).max() <= 1
            assert action[6] == 1
            scene.hand_position = scene.hand_position + (0.0 if blocked else 0.015) * action[:3]
        return progress.steps, float(np.linalg.norm(move.position - scene.hand_position))

    steps, left = play(blocked=False)
    assert left < 0.01
    assert 20 < steps < 40  # 0.3 m along x at 1.5 cm a step
    steps, left = play(blocked=True)
    assert left > 0.3
    assert steps < 12
