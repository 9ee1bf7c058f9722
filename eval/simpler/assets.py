"""SIMPLER's meshes, photographs and textures: where they are, and whether they are SIMPLER's own.

They are the folder data/ of the public repository ManiSkill2_real2sim. Where that cannot be fetched, VLA_SIMPLER_ASSETS
names a folder or a .tar.zst with the same layout; thirteen large files may be stand-ins there, or absent. Every result
says which assets it was made with, decided by what the files hold.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from eval.asset_files import AssetFolder, git_name

ASSETS_VARIABLE = "VLA_SIMPLER_ASSETS"

# The large files of the eight tasks, as git names their content (ManiSkill2_real2sim ef7a4d4).
_OFFICIAL = {
    "custom/models/baked_opened_redbull_can/textured.dae": "c34602503ef5111b4b08806a4f96a4541413fad7",
    "custom/models/blue_plastic_bottle/textured.dae": "8084e739b16f50986bfec6b3cba9dcdb3770d043",
    "custom/models/eggplant/textured.dae": "ad841cda35d5bfab937b82609547816290e18d1a",
    "custom/models/opened_redbull_can/textured.dae": "7463c686c4df82edce2a028873dfcf63a28ba4e6",
    "hab2_bench_assets/stages/Baked_sc1_staging_objaverse_cabinet1_h870.glb": (
        "a7be88852f799a5b8da7e789addf3aeaaf27d936"
    ),
    "hab2_bench_assets/stages/Baked_sc1_staging_objaverse_cabinet2_h870.glb": (
        "52a8d522c1d302682f1cc2ae3ddb4f348f3bcb74"
    ),
    "hab2_bench_assets/stages/bridge_table_1_v1.glb": "0eb8c869fc5503c834e20efc45fe2dedb5a599ce",
    "hab2_bench_assets/stages/bridge_table_1_v2.glb": "893b8a2f17f4b8acd1aa496433f8708d4b3cdb3b",
    "hab2_bench_assets/stages/google_pick_coke_can_1_v4.glb": "002d9a550666a2902ef079301387ea08053b2bf9",
    "hab2_bench_assets/stages/google_pick_coke_can_1_v4_alt_background.glb": (
        "ca7763842982d9e9516a259367238594ba4ec159"
    ),
    "hab2_bench_assets/stages/google_pick_coke_can_1_v4_alt_background_2.glb": (
        "29867b7d87a49ea799147a35c4dea1cf3c778fcf"
    ),
    "hab2_bench_assets/stages/modern_bedroom_no_roof.glb": "83a08b80d95675216290093f4792df6aad832729",
    "hab2_bench_assets/stages/modern_office_no_roof.glb": "8d7deb7f9aceebb8e7fe6c5625c1d819c99737ab",
}

# Two names of one model, with the same contents; archives may hold it once.
_TWINS = {"custom/models/baked_opened_redbull_can": "custom/models/baked_opened_redbull_can_v2"}

_STAGES = Path("hab2_bench_assets") / "stages"
_PHOTOGRAPHS = Path("real_inpainting")
_ASSETS = AssetFolder(
    "simpler",
    "SIMPLER",
    ASSETS_VARIABLE,
    mark=Path("custom") / "info_bridge_custom_v0.json",
    public="data/ of the repository ManiSkill2_real2sim",
)


def assets_folder(simulators: Path) -> Path:
    """The assets as they are now; see `AssetFolder.folder`."""
    return _ASSETS.folder(simulators)


def assets_kind(folder: Path) -> str:
    """What a result says: "official" where every large file of the eight tasks is SIMPLER's own, else "stand-in"."""
    return "official" if all(git_name(folder / name) == sha for name, sha in _OFFICIAL.items()) else "stand-in"


def has_stage(folder: Path, scene_name: str) -> bool:
    """Whether the room's mesh is there; "dummy_..." rooms need none."""
    return scene_name.startswith("dummy") or (folder / _STAGES / f"{scene_name}.glb").is_file()


def photograph(folder: Path, name: str) -> Path:
    """A photograph that stands behind robot and objects."""
    return folder / _PHOTOGRAPHS / name


def place_assets(simulators: Path, official: Callable[[], Path], say: Callable[[str], None]) -> None:
    """Make `assets_folder` there: unpack what VLA_SIMPLER_ASSETS names, or copy data/ of the repository.

    Args:
        simulators: Where `simpler_assets` is to be.
        official: Fetches data/ of the repository; called where VLA_SIMPLER_ASSETS is not set.
        say: Told what is being done.
    """

    def copy(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(official(), folder)

    _ASSETS.place(simulators, copy, say, finish=_add_twins)


def _add_twins(folder: Path) -> None:
    for name, twin in _TWINS.items():
        if not (folder / name).exists() and (folder / twin).is_dir():
            shutil.copytree(folder / twin, folder / name)
