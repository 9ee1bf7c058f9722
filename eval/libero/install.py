"""What LIBERO's own virtual environment holds: exact versions, and why each list is as it is."""

from collections.abc import Mapping
from pathlib import Path

from eval.environments import Environment, Say, simulators_folder
from eval.libero.assets import ASSETS_VARIABLE, assets_folder, place_assets

# Their metadata asks for more than they import: hf-libero alone would pull torch with CUDA, 7 GB.
_WITHOUT_WHAT_THEY_ASK_FOR = ("hf-libero==0.1.4", "robosuite==1.4.0", "bddl==1.0.1")

_IMPORTED = (
    "mujoco==3.3.2",  # 3.3.3 and later render and touch differently; the main environment resolves this one too
    "numpy==2.3.5",
    "numba==0.68.1",
    "scipy==1.17.1",
    "pillow==13.0.0",
    "opencv-python-headless==5.0.0.93",
    "termcolor==3.3.0",
    "easydict==1.14",
    "gymnasium==1.4.0",
    "cloudpickle==3.1.2",
    "matplotlib==3.11.2",
    "future==1.0.0",
    "pyyaml==6.0.3",
    "msgpack==1.2.4",  # ours: it speaks to the engine
)


def _prepare(folder: Path, say: Say) -> None:
    place_assets(folder.parent, say)


def _is_prepared() -> bool:
    try:
        assets_folder(simulators_folder())
    except (ValueError, OSError):
        return False
    return True


def _variables() -> Mapping[str, str]:
    return {ASSETS_VARIABLE: str(assets_folder(simulators_folder()))}


LIBERO = Environment(
    name="libero",
    about="LIBERO's 130 tasks (robosuite 1.4, mujoco 3.3.2); 1.4 GB and its meshes",
    pip=(("--no-deps", *_WITHOUT_WHAT_THEY_ASK_FOR), _IMPORTED),
    check="eval.libero.check",
    prepare=_prepare,
    is_prepared=_is_prepared,
    variables=_variables,
)
