"""LIBERO's meshes and textures: where they are, and whether they are LIBERO's own.

The package ships none and fetches them when it first needs them. Where there is no internet, VLA_LIBERO_ASSETS names a
folder or a .tar.zst with the same layout. Twenty-two large visual files may be stand-ins there: physics is the same,
pictures are not, so every result says which, decided by what the files hold.
"""

from collections.abc import Callable
from pathlib import Path

from eval.asset_files import AssetFolder, git_name

ASSETS_VARIABLE = "VLA_LIBERO_ASSETS"
HUB_DATASET = "lerobot/libero-assets"

# The files that archives for offline use replace, as git names their content in LIBERO's repository (commit 8f1084e),
# cut to 16 digits.
_OFFICIAL = {
    "scenes/coffee_table_seats/FabricLeatherBuffaloRustic001_COL_VAR1_4K.png": "8d1bbd8fe562f516",
    "scenes/floor_lamp/visual/floor_lamp_vis.msh": "ce1810d2f7d9c266",
    "scenes/kitchen_background/visual/kitchen_background_vis.msh": "7c684365cb40e736",
    "scenes/kitchen_background_pot/visual/kitchen_background_pot_vis.msh": "19ba167aec6bfbbc",
    "scenes/kitchen_background_stove/visual/kitchen_background_stove_vis.msh": "2e46da8c774c0ccb",
    "scenes/living_room/visual/living_room_vis.msh": "f096ef4960166a58",
    "scenes/short_coffee_table/Marble062_COL_4K.png": "a1bbe5bf2331d70c",
    "scenes/wall_decoration/wall_decoration_texture.png": "4c0fea35546af142",
    "stable_scanned_objects/akita_black_bowl/texture.png": "480c0fc69019bc60",
    "stable_scanned_objects/akita_black_bowl/visual/akita_black_bowl_vis.msh": "4068575d0038c63e",
    "stable_scanned_objects/basket/texture.png": "a7b6d1f8a5dd393d",
    "stable_scanned_objects/basket/visual/basket_vis.msh": "aa5ce1b4738b3121",
    "stable_scanned_objects/plate/texture.png": "af4001e756abd872",
    "stable_scanned_objects/red_bowl/texture.png": "9c1896affdd6c8b0",
    "stable_scanned_objects/white_bowl/texture.png": "9c1896affdd6c8b0",
    "textures/dark_green_plaster_wall.png": "9872187496ead407",
    "textures/gray_wall.png": "30306f4dd1318c61",
    "turbosquid_objects/desk_caddy/desk_caddy_texture.png": "15f16f8185d4f09b",
    "turbosquid_objects/porcelain_mug/porcelain_mug_texture.png": "4fbb8b96df475b02",
    "turbosquid_objects/red_coffee_mug/red_coffee_mug_texture.png": "aa45ec8403646aeb",
    "turbosquid_objects/white_yellow_mug/white_yellow_mug_texture.png": "945fc11f107a38c6",
    "turbosquid_objects/wooden_tray/crate_mat_BaseColor.png": "adf53c9ccc45c54a",
}

_ASSETS = AssetFolder(
    "libero",
    "LIBERO",
    ASSETS_VARIABLE,
    mark=Path("scenes") / "libero_tabletop_base_style.xml",
    public=f"{HUB_DATASET} from the Hugging Face Hub",
)


def assets_folder(simulators: Path) -> Path:
    """The assets as they are now; see `AssetFolder.folder`."""
    return _ASSETS.folder(simulators)


def assets_kind(folder: Path) -> str:
    """What results made with them are marked as: "official" where every file that is ever replaced is LIBERO's own."""
    return (
        "official"
        if all((git_name(folder / name) or "")[:16] == sha for name, sha in _OFFICIAL.items())
        else "stand-in"
    )


def place_assets(simulators: Path, say: Callable[[str], None]) -> None:
    """Make `assets_folder` there: unpack what VLA_LIBERO_ASSETS names, or download."""
    _ASSETS.place(simulators, _download, say)


def _download(folder: Path) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(HUB_DATASET, repo_type="dataset", local_dir=folder)
    except Exception as error:  # whatever the network does, the way out is the same
        raise RuntimeError(
            f"LIBERO's assets could not be downloaded ({type(error).__name__}: {error}). Where there is no internet, "
            f"set {ASSETS_VARIABLE} to a folder or a .tar.zst that holds them."
        ) from error
