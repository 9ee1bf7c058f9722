"""The WidowX's grids: four tasks of 24 layouts, visual matching only (SimplerEnv 4ab7178, octo_bridge.sh)."""

from collections.abc import Iterator

from eval.simpler.settings import Setting, Start, layouts

MAX_STEPS = {
    "put_spoon_on_towel": 60,
    "put_carrot_on_plate": 60,
    "stack_green_block_on_yellow_block": 60,
    "put_eggplant_in_basket": 120,
}
TASKS = tuple(MAX_STEPS)
LONGEST = 120
"""Many reports give all four tasks as many steps as the eggplant has."""

_SCENES = {
    "put_spoon_on_towel": (
        "PutSpoonOnTableClothInScene-v0",
        ("bridge_spoon_generated_modified", "table_cloth_generated_shorter"),
    ),
    "put_carrot_on_plate": (
        "PutCarrotOnPlateInScene-v0",
        ("bridge_carrot_generated_modified", "bridge_plate_objaverse_larger"),
    ),
    "stack_green_block_on_yellow_block": (
        "StackGreenCubeOnYellowCubeBakedTexInScene-v0",
        ("baked_green_cube_3cm", "baked_yellow_cube_3cm"),
    ),
    "put_eggplant_in_basket": ("PutEggplantInBasketScene-v0", ("eggplant", "dummy_sink_target_plane")),
}


def max_steps(task: str) -> int:
    """Actions an episode has at most in SIMPLER's own script, at 5 Hz."""
    return MAX_STEPS[task]


def robot_of(task: str) -> str:
    """The simulator's name of the robot with the camera where it stood for the task's photograph."""
    return "widowx_sink_camera_setup" if task == "put_eggplant_in_basket" else "widowx"


def visual_matching() -> Iterator[Setting]:
    """Every setting; each scene lists its own 24 layouts."""
    for task, (scene, models) in _SCENES.items():
        sink = task == "put_eggplant_in_basket"
        build = {"scene_name": "bridge_table_1_v2" if sink else "bridge_table_1_v1", "model_ids": list(models)}
        xy, photograph = ((0.127, 0.06), "bridge_sink.png") if sink else ((0.147, 0.028), "bridge_real_eval_1.png")
        starts = tuple(Start(xy, objects=layout, overlay=photograph) for layout in layouts(24))
        yield Setting(task, "", scene, build, starts)
