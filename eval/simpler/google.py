"""The Google robot's grids, as SIMPLER's scripts have them (simpler-env/SimplerEnv 4ab7178, scripts/rt1_*.sh).

Counts of episodes, visual matching / variant aggregation with its camera variants:
pick_coke_can 300 / 825, move_near 240 / 600, drawers 216 / 378, place_apple_in_top_drawer 108 / 189.
"""

from collections.abc import Iterator
from typing import Any

from eval.simpler.settings import URDFS, Setting, Start, layouts, linspace, object_grid

MAX_STEPS = {"pick_coke_can": 80, "move_near": 80, "drawer": 113, "place_apple_in_top_drawer": 200}
DRAWERS = tuple(f"{verb}_{which}_drawer" for verb in ("open", "close") for which in ("top", "middle", "bottom"))
TASKS = ("pick_coke_can", "move_near", *DRAWERS, "place_apple_in_top_drawer")

_TABLE = "google_pick_coke_can_1_v4"
_TABLES = ("Baked_sc1_staging_objaverse_cabinet1_h870", "Baked_sc1_staging_objaverse_cabinet2_h870")
_BACKGROUNDS = (f"{_TABLE}_alt_background", f"{_TABLE}_alt_background_2")
_LIGHTS = ("slightly_darker_lighting", "slightly_brighter_lighting")

_ORIENTATIONS = {"horizontal": "lr_switch", "vertical": "laid_vertically", "standing": "upright"}
_CAN = "GraspSingleOpenedCokeCan{}InScene-v0"
_CAN_XY = object_grid(linspace(-0.35, -0.12, 5), linspace(-0.02, 0.42, 5))

_NEAR_YAW = -0.09
_NEAR_MODELS = (
    *("blue_plastic_bottle", "opened_pepsi_can", "orange", "opened_7up_can", "apple", "sponge", "opened_coke_can"),
    "opened_redbull_can",
)
_NEAR_UNBAKED = {"blue_plastic_bottle", "orange"}  # these two keep their own textures in visual matching

# Robot's x, y (m) and yaw (rad) where the photographs were taken: rows a, b, c from the robot's right to its left,
# 0, 1, 2 from near the cabinet to far.
_DRAWER_PLACES = {
    "a0": (0.644, -0.179, -0.03),
    "a1": (0.765, -0.182, -0.02),
    "a2": (0.889, -0.203, -0.06),
    "b0": (0.652, 0.009, 0.0),
    "b1": (0.752, 0.009, 0.0),
    "b2": (0.851, 0.035, 0.0),
    "c0": (0.665, 0.224, 0.0),
    "c1": (0.765, 0.222, -0.025),
    "c2": (0.865, 0.222, -0.025),
}
_APPLE_XY = object_grid(linspace(-0.08, -0.02, 3), linspace(-0.02, 0.08, 3))
_APPLE_SCENE = "PlaceIntoClosedTopDrawerCustomInScene-v0"
_MATCHED_CABINET = {"station_name": "mk_station_recolor", "light_mode": "simple", "disable_bad_material": True}
_CABINETS: dict[str, dict[str, Any]] = {
    "base": {},
    "background_bedroom": {"scene_name": "modern_bedroom_no_roof"},
    "background_office": {"scene_name": "modern_office_no_roof"},
    "lighting_brighter": {"light_mode": "brighter"},
    "lighting_darker": {"light_mode": "darker"},
    "cabinet_2": {"station_name": "mk_station2"},
    "cabinet_3": {"station_name": "mk_station3"},
}


def max_steps(task: str) -> int:
    """Actions an episode has at most, at 3 Hz."""
    return MAX_STEPS["drawer" if task in DRAWERS else task]


def visual_matching() -> Iterator[Setting]:
    """Every setting in which photographs of the real room stand behind the robot."""
    for urdf in URDFS:
        build = {"scene_name": _TABLE, "urdf_version": "" if urdf == "default" else urdf}
        starts = _can_starts("google_coke_can_real_eval_1.png")
        for name, flag in _ORIENTATIONS.items():
            yield Setting("pick_coke_can", f"urdf_{urdf}/{name}", _CAN.format(""), build | {flag: True}, starts)
    for urdf in URDFS:
        build = {"scene_name": _TABLE, "urdf_version": "" if urdf == "default" else urdf}
        models = [name if name in _NEAR_UNBAKED else f"baked_{name}" for name in _NEAR_MODELS]
        starts = _near_starts("google_move_near_real_eval_1.png")
        yield Setting(
            "move_near", f"urdf_{urdf}", "MoveNearGoogleBakedTexInScene-v0", build | {"model_ids": models}, starts
        )
    for task in DRAWERS:
        for urdf in URDFS:
            yield _matched_cabinet(task, urdf, list(_DRAWER_PLACES), ({},), "apple")
    for urdf in URDFS:
        yield _matched_cabinet("place_apple_in_top_drawer", urdf, ["a0", "b0", "c0"], _APPLE_XY, "baked_apple_v2")


def variant_aggregation() -> Iterator[Setting]:
    """Every setting of other tables, rooms, lights, cabinets and distractors; no photographs."""
    for variant, scene, build in _can_variants():
        for name, flag in _ORIENTATIONS.items():
            yield Setting("pick_coke_can", f"{variant}/{name}", scene, build | {flag: True}, _can_starts())
    for variant, build in _near_variants():
        yield _near_variant(variant, "MoveNearGoogleInScene-v0", build)
    robots = [(x, y) for x in linspace(0.65, 0.85, 3) for y in linspace(-0.2, 0.2, 3)]
    for task in DRAWERS:
        for variant, build in _CABINETS.items():
            yield _varied_cabinet(task, variant, build, tuple(Start(xy) for xy in robots))
    starts = tuple(Start((0.65, y), objects=place) for y in linspace(-0.2, 0.2, 3) for place in _APPLE_XY)
    for variant, build in _CABINETS.items():
        yield _varied_cabinet("place_apple_in_top_drawer", variant, build, starts)


def camera_variants() -> Iterator[Setting]:
    """Two other directions the head looks in; SIMPLER plays them, its means leave them out."""
    for index, head in enumerate(("AltGoogleCamera", "AltGoogleCamera2"), start=1):
        for name, flag in _ORIENTATIONS.items():
            build = {"scene_name": _TABLE, flag: True}
            yield Setting("pick_coke_can", f"camera_{index}/{name}", _CAN.format(head), build, _can_starts())
    for index, head in enumerate(("AltGoogleCamera", "AltGoogleCamera2"), start=1):
        yield _near_variant(f"camera_{index}", f"MoveNear{head}InScene-v0", {"scene_name": _TABLE})


def _can_variants() -> Iterator[tuple[str, str, dict[str, Any]]]:
    plain, distracted = _CAN.format(""), _CAN.format("Distractor")
    yield "base", plain, {"scene_name": _TABLE}
    yield from ((f"table_{i}", plain, {"scene_name": scene}) for i, scene in enumerate(_TABLES, start=1))
    yield "distractors_less", distracted, {"scene_name": _TABLE}
    yield "distractors_more", distracted, {"scene_name": _TABLE, "distractor_config": "more"}
    yield from ((f"background_{i}", plain, {"scene_name": scene}) for i, scene in enumerate(_BACKGROUNDS, start=1))
    yield from ((light, plain, {"scene_name": _TABLE, light: True}) for light in _LIGHTS)


def _near_variants() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "base", {"scene_name": _TABLE}
    yield "no_distractor", {"scene_name": _TABLE, "no_distractor": True}
    yield from ((f"background_{i}", {"scene_name": scene}) for i, scene in enumerate(_BACKGROUNDS, start=1))
    yield from ((light, {"scene_name": _TABLE, light: True}) for light in _LIGHTS)
    yield from ((f"table_{i}", {"scene_name": scene}) for i, scene in enumerate(_TABLES, start=1))


def _can_starts(overlay: str | None = None) -> tuple[Start, ...]:
    return tuple(Start((0.35, 0.20), objects=place, overlay=overlay) for place in _CAN_XY)


def _near_starts(overlay: str | None = None) -> tuple[Start, ...]:
    return tuple(Start((0.35, 0.21), _NEAR_YAW, objects, overlay) for objects in layouts(60))


def _near_variant(name: str, scene: str, build: dict[str, Any]) -> Setting:
    return Setting("move_near", name, scene, build | {"model_ids": list(_NEAR_MODELS)}, _near_starts())


def _cabinet_scene(task: str) -> str:
    if task == "place_apple_in_top_drawer":
        return _APPLE_SCENE
    verb, which, _ = task.split("_")
    return f"{verb.title()}{which.title()}DrawerCustomInScene-v0"


def _matched_cabinet(
    task: str, urdf: str, places: list[str], objects: tuple[dict[str, Any], ...], model: str
) -> Setting:
    build = {"scene_name": "dummy_drawer", "urdf_version": "" if urdf == "default" else urdf, "model_ids": [model]}
    starts = tuple(
        Start((x, y), yaw, start, f"open_drawer_{place}.png")
        for place, (x, y, yaw) in _DRAWER_PLACES.items()
        if place in places
        for start in objects
    )
    return Setting(task, f"urdf_{urdf}", _cabinet_scene(task), build | _MATCHED_CABINET, starts, ray_traced=True)


def _varied_cabinet(task: str, variant: str, build: dict[str, Any], starts: tuple[Start, ...]) -> Setting:
    base = {"scene_name": "frl_apartment_stage_simple", "model_ids": ["apple"]}
    return Setting(task, variant, _cabinet_scene(task), base | build, starts, ray_traced=True)
