"""SIMPLER's grids against the counts of its page and single facts of its scripts."""

from collections import Counter

import pytest

from eval.simpler.suite import SimplerSuite

VISUAL_MATCHING = {"coke": 300, "move_near": 240, "drawer": 216, "apple": 108}


def _counts(suite):
    """Episodes by the table's columns: the six drawers are one, the apple's is its own."""

    def column(task):
        return next(word for word in ("coke", "move_near", "apple", "drawer") if word in task)

    return Counter(column(case.task) for case in suite.cases())


def _case(suite, task, setting, init=0):
    return next(c for c in suite.cases() if (c.task, c.setting, c.init) == (task, setting, init))


def test_visual_matching_has_the_pages_counts():
    assert _counts(SimplerSuite("google")) == VISUAL_MATCHING


def test_variant_aggregation_leaves_the_cameras_out():
    aggregated, cameras = (
        _counts(SimplerSuite("google", "variant_aggregation")),
        _counts(SimplerSuite("google", "camera_variants")),
    )
    assert aggregated == {"coke": 75 * 9, "move_near": 60 * 8, "drawer": 54 * 7, "apple": 27 * 7}
    assert aggregated["coke"] + cameras["coke"] == 75 * 11
    assert aggregated["move_near"] + cameras["move_near"] == 60 * 10


def test_widowx_has_24_layouts_a_task():
    cases = SimplerSuite("widowx").cases()
    assert set(Counter(case.task for case in cases).values()) == {24}
    assert [case.options["objects"] for case in cases[:24]] == [{"episode_id": i} for i in range(24)]
    assert {case.setting for case in cases} == {"visual_matching"}


@pytest.mark.parametrize(("robot", "grid"), [("google", "visual_matching"), ("google", "variant_aggregation")])
def test_no_episode_is_there_twice(robot, grid):
    cases = SimplerSuite(robot, grid).cases()
    assert len({case.key for case in cases}) == len(cases)
    played = {repr((c.task, sorted(c.options["build"].items()), c.options["scene"], c.options["robot_xy"],
                    c.options["objects"], c.options["overlay"])) for c in cases}  # fmt: skip
    assert len(played) == len(cases)


def test_limits():
    google = {case.task: case.max_steps for case in SimplerSuite("google").cases()}
    assert (google["pick_coke_can"], google["move_near"], google["place_apple_in_top_drawer"]) == (80, 80, 200)
    assert {steps for task, steps in google.items() if task.endswith("_drawer") and "apple" not in task} == {113}
    widowx = {case.task: case.max_steps for case in SimplerSuite("widowx").cases()}
    assert widowx == {
        "put_spoon_on_towel": 60,
        "put_carrot_on_plate": 60,
        "stack_green_block_on_yellow_block": 60,
        "put_eggplant_in_basket": 120,
    }
    assert {case.max_steps for case in SimplerSuite("widowx", max_steps=120).cases()} == {120}


def test_the_can_stands_on_25_places_in_three_orientations_for_four_looks_of_the_robot():
    cases = [c for c in SimplerSuite("google").cases() if c.task == "pick_coke_can"]
    places = {tuple(c.options["objects"]["init_xy"]) for c in cases}
    assert len(places) == 25
    assert min(places) == (-0.35, -0.02)
    assert max(places) == (-0.12, 0.42)
    assert {c.options["build"]["urdf_version"] for c in cases} == {
        "",
        "recolor_tabletop_visual_matching_1",
        "recolor_tabletop_visual_matching_2",
        "recolor_cabinet_visual_matching_1",
    }
    standing = _case(SimplerSuite("google"), "pick_coke_can", "visual_matching/urdf_default/standing")
    assert standing.options["build"]["upright"] is True
    assert standing.options["robot_xy"] == [0.35, 0.2]
    assert standing.options["overlay"] == "google_coke_can_real_eval_1.png"


def test_the_photograph_of_a_drawer_goes_with_the_place_it_was_taken_from():
    suite = SimplerSuite("google")
    far = _case(suite, "open_middle_drawer", "visual_matching/urdf_default", 2)
    assert far.options["overlay"] == "open_drawer_a2.png"
    assert (far.options["robot_xy"], far.options["robot_yaw"]) == ([0.889, -0.203], -0.06)
    assert far.options["scene"] == "OpenMiddleDrawerCustomInScene-v0"
    assert far.options["ray_traced"]
    apple = [c for c in suite.cases() if c.task == "place_apple_in_top_drawer"]
    assert {c.options["overlay"] for c in apple} == {f"open_drawer_{row}0.png" for row in "abc"}
    assert {c.options["build"]["model_ids"][0] for c in apple} == {"baked_apple_v2"}


def test_variants_have_no_photograph():
    for case in SimplerSuite("google", "variant_aggregation").cases():
        assert case.options["overlay"] is None
        assert "urdf_version" not in case.options["build"]


def test_move_near_turns_the_robot_and_lists_60_layouts():
    case = _case(SimplerSuite("google", "variant_aggregation"), "move_near", "variant_aggregation/no_distractor", 59)
    assert case.options["robot_yaw"] == -0.09
    assert case.options["objects"] == {"episode_id": 59}
    assert case.options["build"]["no_distractor"] is True


def test_the_eggplant_has_its_own_robot_room_and_photograph():
    case = _case(SimplerSuite("widowx"), "put_eggplant_in_basket", "visual_matching", 23)
    assert case.options["robot"] == "widowx_sink_camera_setup"
    assert case.options["robot_xy"] == [0.127, 0.06]
    assert case.options["overlay"] == "bridge_sink.png"
    assert case.options["build"]["scene_name"] == "bridge_table_1_v2"


def test_subsets():
    suite = SimplerSuite("google", tasks=("pick_coke_can",), leave_out=("urdf_default",), starts=2)
    assert Counter(c.setting.split("/")[1] for c in suite.cases()) == {
        f"urdf_recolor_{name}_visual_matching_{i}": 6 for name, i in (("tabletop", 1), ("tabletop", 2), ("cabinet", 1))
    }
    assert suite.protocol["starts"] == 2
    everyone = {case.key: case.seed for case in SimplerSuite("google").cases()}
    assert {
        case.key: case.seed for case in suite.cases()
    }.items() <= everyone.items()  # a subset draws as the whole does
    assert len(set(everyone.values())) == len(everyone)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"robot": "widowx", "grid": "variant_aggregation"}, "WidowX has visual_matching only"),
        ({"robot": "google", "tasks": ("pick_pepsi",)}, "has no \\['pick_pepsi'\\]; choose from"),
        ({"robot": "google", "leave_out": ("urdf_blue",)}, "there is no setting"),
        ({"robot": "widowx", "stop_at_success": True}, "needs the whole episode"),
        ({"robot": "widowx", "starts": 0}, "starts: 0 is too small"),
    ],
)
def test_impossible_wishes_are_refused_in_words(fields, words):
    with pytest.raises(ValueError, match=words):
        SimplerSuite(**fields)


def test_presets():
    octo, openpi = SimplerSuite("google").protocol, SimplerSuite("google", preset="openpi").protocol
    assert (octo["name"], octo["execute"], octo["sticky_steps"]) == ("octo", 1, 15)
    assert (openpi["name"], openpi["execute"], openpi["sticky_steps"]) == ("openpi", 5, 10)
    assert SimplerSuite("google", preset="openpi", sticky_steps=7).protocol["sticky_steps"] == 7
    assert "sticky_steps" not in SimplerSuite("widowx").protocol
    assert (octo["picture_size"], openpi["picture_size"]) == ([256, 256], [256, 320])
    assert SimplerSuite("widowx", preset="openpi").protocol["picture_size"] == [256, 256]
    assert (octo["control_hz"], SimplerSuite("widowx").protocol["control_hz"]) == (3, 5)


def test_the_final_reading_lets_episodes_run_to_the_limit():
    assert SimplerSuite("google").past_success is None
    assert SimplerSuite("google", quoted="any").past_success is None
    assert SimplerSuite("google", quoted="any", stop_at_success=True).past_success == 0
