"""What SIMPLER's own virtual environment holds: exact versions, the public repository at one commit, a renderer."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from eval.environments import Environment, Say, simulators_folder
from eval.simpler.assets import place_assets
from eval.simpler.renderer import make_renderer

MANISKILL_COMMIT = "ef7a4d4fdf4b69f2c2154db5b15b9ac8dfe10682"
"""Of simpler-env/ManiSkill2_real2sim; SimplerEnv 4ab7178 names it as its submodule."""

_REPOSITORY = "https://github.com/simpler-env/ManiSkill2_real2sim"
_CODE = "mani_skill2_real2sim"

# Its own list asks for opencv with windows, which needs a display's libraries.
_SAPIEN = ("--no-deps", "sapien==2.2.2")

_IMPORTED = (
    "--only-binary=:all:",
    "numpy==1.26.4",
    "gymnasium==0.29.1",
    "setuptools==80.10.2",  # sapien needs pkg_resources, which 82 takes away
    "opencv-python-headless==4.11.0.86",  # the last for numpy 1
    "scipy==1.13.1",
    "transforms3d==0.4.2",
    "ruckig==0.19.4",
    "trimesh==5.2.0",
    "h5py==3.16.0",
    "imageio==2.38.1",
    "matplotlib==3.11.2",
    "requests==2.34.2",
    "tqdm==4.70.1",
    "msgpack==1.2.4",  # ours: it speaks to the engine
)


def renderer_folder() -> Path:
    """What draws on a CPU; absent where a GPU draws."""
    return simulators_folder() / "simpler" / "renderer"


def _place_code(folder: Path, source: str, say: Say) -> Path:
    """ManiSkill2_real2sim at its commit, whole or not at all; where it is, importable by this environment."""
    place, aside = folder / "ManiSkill2_real2sim", folder / ".ManiSkill2_real2sim.partial"
    commit = place / "commit.txt"
    if not (commit.is_file() and commit.read_text() == MANISKILL_COMMIT):
        say(f"simpler: {_CODE} {MANISKILL_COMMIT[:7]} from {source}")
        shutil.rmtree(aside, ignore_errors=True)
        filtered = ["--filter=blob:none"] if source == _REPOSITORY else []  # 1 GB of meshes stay there until asked for
        _git("clone", "--quiet", "--no-checkout", *filtered, source, str(aside))
        _git("-C", str(aside), "sparse-checkout", "set", _CODE)
        # A local clone may lack blobs nobody needs here: whether the code came is seen below.
        _git("-C", str(aside), "checkout", "--quiet", MANISKILL_COMMIT, may_fail=True)
        if not (aside / _CODE / "envs" / "__init__.py").is_file():
            raise RuntimeError(f"{source} holds no {_CODE} at {MANISKILL_COMMIT}; name another with --source")
        (aside / "commit.txt").write_text(MANISKILL_COMMIT)
        shutil.rmtree(place, ignore_errors=True)
        aside.rename(place)
    packages = next((folder / "lib").glob("python*/site-packages"))
    (packages / f"{_CODE}.pth").write_text(f"{place}\n")
    return place


def _official_assets(code: Path) -> Path:
    """data/ of the repository, fetched when it is first asked for."""
    if not (code / "data").is_dir():
        _git("-C", str(code), "sparse-checkout", "add", "data")
    return code / "data"


def _git(*arguments: str, may_fail: bool = False) -> None:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0 and not may_fail:
        raise RuntimeError(f"git {' '.join(arguments)} failed: {done.stderr.strip()[-600:]}")


def _prepare(folder: Path, say: Say, source: str, mesa: Path | None) -> None:
    code = _place_code(folder, source, say)
    place_assets(folder.parent, lambda: _official_assets(code), say)
    if mesa is not None:
        say(f"simpler: drawing on the CPU with {mesa}")
        make_renderer(mesa, renderer_folder())


SIMPLER = Environment(
    name="simpler",
    about="SIMPLER's eight tasks (ManiSkill2_real2sim, SAPIEN 2.2.2); 1.6 GB and its meshes",
    pip=(_SAPIEN, _IMPORTED),
    check="eval.simpler.check",
)


def environment(source: Path | None = None, mesa: Path | None = None) -> Environment:
    """SIMPLER's environment, to be installed.

    Args:
        source: A folder with clones, or a clone of ManiSkill2_real2sim; None for its public address.
        mesa: A folder that Mesa's packages were unpacked in, for drawing on a CPU.
    """
    address = _REPOSITORY if source is None else str(_clone_in(source))
    return replace(SIMPLER, prepare=lambda folder, say: _prepare(folder, say, address, mesa))


def _clone_in(source: Path) -> Path:
    """The clone itself, or the one in a folder of clones."""
    for place in (source / "ManiSkill2_real2sim", source):
        if (place / ".git").exists() or (place / "objects").is_dir():
            return place.absolute()
    raise ValueError(f"--source {source}: there is no git clone of ManiSkill2_real2sim in it")
