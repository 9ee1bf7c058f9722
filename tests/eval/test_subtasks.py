import numpy as np

from eval.subtasks import subtask_spans

REACH_OPEN, REACH_CLOSED = "move the open gripper to the knob", "move the closed gripper to the knob"
TURN_OPEN, TURN_CLOSED = "turn it with the open gripper", "turn it with the closed gripper"


def spans(opening: list[float], touched: list[int]) -> list[tuple[int, str]]:
    return subtask_spans(np.array(opening, np.float32), np.array(touched, bool), "knob", "turn it")


def test_cut_at_gripper_and_contact() -> None:
    opening = [1.0] * 5 + [0.3] * 10
    touched = [0] * 9 + [1] * 6
    assert spans(opening, touched) == [(0, REACH_OPEN), (5, REACH_CLOSED), (9, TURN_CLOSED)]


def test_taps_are_one_contact() -> None:
    assert spans([1.0] * 14, [0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 1, 1]) == [(0, REACH_OPEN), (4, TURN_OPEN)]


def test_contact_that_ends() -> None:
    assert spans([1.0] * 16, [1] * 4 + [0] * 12) == [(0, TURN_OPEN), (4, REACH_OPEN)]


def test_flicker_is_no_subtask() -> None:
    opening = [1.0] * 6 + [0.3] * 2 + [1.0] * 6
    assert spans(opening, [0] * 14) == [(0, REACH_OPEN)]


def test_flicker_at_the_start_joins_what_follows() -> None:
    assert spans([0.3] * 2 + [1.0] * 6, [0] * 8) == [(0, REACH_OPEN)]


def test_one_frame() -> None:
    assert spans([0.2], [1]) == [(0, TURN_CLOSED)]
