from dataclasses import replace

import pytest

from eval.libero.protocols import PROTOCOLS
from eval.libero.suite import LiberoSuite
from eval.libero.tasks import TASKS, instruction_of
from eval.preflight.columns import action_columns, meaning, state_columns


def test_every_suite_has_its_tasks() -> None:
    assert {name: len(tasks) for name, tasks in TASKS.items()} == {
        "libero_spatial": 10,
        "libero_object": 10,
        "libero_goal": 10,
        "libero_10": 10,
        "libero_90": 90,
    }
    assert len({task for tasks in TASKS.values() for task in tasks}) == 130


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("turn_on_the_stove", "turn on the stove"),
        ("KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it", "turn on the stove and put the moka pot on it"),
        ("KITCHEN_SCENE10_close_the_top_drawer_of_the_cabinet", "close the top drawer of the cabinet"),
        ("LIVING_ROOM_SCENE2_put_both_the_alphabet_soup_and_the_tomato_sauce_in_the_basket", None),
    ],
)
def test_instructions_leave_the_scene_out(task: str, words: str | None) -> None:
    words = words or "put both the alphabet soup and the tomato sauce in the basket"
    assert instruction_of(task) == words


def test_openpi_plays_fifty_trials_of_ten_tasks_in_order() -> None:
    suite = LiberoSuite("libero_10")
    cases = suite.cases()
    assert len(cases) == 500
    assert [case.init for case in cases[:50]] == list(range(50))
    assert cases[0].task == TASKS["libero_10"][0]
    assert cases[50].task == TASKS["libero_10"][1]
    assert len({case.key for case in cases}) == 500
    # One stream of draws a task: its seed once, and as many resets as trials came before.
    assert {case.seed for case in cases} == {7}
    assert cases[73].options == {"resets": 23}
    assert {case.max_steps for case in cases} == {520}


def test_lerobot_seeds_every_episode() -> None:
    cases = LiberoSuite("libero_spatial", preset="lerobot").cases()
    assert len(cases) == 100
    assert [(case.seed, case.options["resets"]) for case in cases[:3]] == [(1000, 0), (1001, 0), (1002, 0)]
    assert cases[0].max_steps == 280


def test_parts_of_a_suite() -> None:
    suite = LiberoSuite("libero_object", tasks=(2, 9), trials=2, first_trial=4, max_steps=30, execute=8)
    assert [(case.task, case.init, case.max_steps) for case in suite.cases()] == [
        (TASKS["libero_object"][number], init, 30) for number in (2, 9) for init in (4, 5)
    ]
    assert suite.execute == 8
    assert suite.protocol["execute"] == 8
    assert suite.protocol["max_steps"]["libero_object"] == 30


def test_the_protocol_is_one_for_all_suites_and_differs_between_presets() -> None:
    protocols = {name: LiberoSuite("libero_spatial", preset=name).protocol for name in PROTOCOLS}
    assert protocols["openpi"] == LiberoSuite("libero_10", tasks=(1,), trials=3).protocol
    assert len({str(protocol) for protocol in protocols.values()}) == 3
    assert protocols["openpi"]["execute"] == 5
    assert protocols["openvla"]["seed"] == 0
    assert protocols["lerobot"]["image_size"] == 360


def test_columns_are_what_the_data_sets_hold() -> None:
    from data_mixtures.spaces.embodiments import LIBERO_COMMANDS

    suite = LiberoSuite("libero_goal")
    for ours, robots in (
        (suite.action, action_columns(LIBERO_COMMANDS)),
        (suite.state, state_columns(LIBERO_COMMANDS)),
    ):
        assert set(robots) <= set(range(len(ours)))
        for place, column in robots.items():
            mine, robots_own = meaning(ours[place]), meaning(column)
            if mine.quantity == "gripper":  # a gripper's description has no unit
                mine = replace(mine, metres_or_rad=None)
            assert mine == robots_own
    # OpenVLA's gripper is another one, and says so.
    assert meaning(LiberoSuite("libero_goal", preset="openvla").action[6]).open_at == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"suite": "libero_100"}, "suite: LIBERO has no 'libero_100'"),
        ({"suite": "libero_10", "preset": "pi"}, "preset: there is no 'pi'"),
        ({"suite": "libero_10", "tasks": (10,)}, r"tasks: libero_10 has no task \[10\]"),
        ({"suite": "libero_10", "tasks": (1, 1)}, "names one twice"),
        ({"suite": "libero_10", "trials": -1}, "trials: -1 is too small"),
        ({"suite": "libero_10", "first_trial": -1}, "first_trial: -1"),
        ({"suite": "libero_10", "first_trial": 45}, "trials: 50 from initial state 45 on are more than the 50"),
        ({"suite": "libero_10", "image_size": 8}, "image_size: 8 is out of range"),
    ],
)
def test_wrong_fields_are_named(fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LiberoSuite(**fields)
