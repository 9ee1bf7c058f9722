"""LIBERO's package, imported so that it neither asks, downloads, nor runs on a MuJoCo that changes its results.

Runs in LIBERO's own environment.
"""

import atexit
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from eval.gl_backend import select_gl_backend

MUJOCO_FROM, MUJOCO_BELOW = (3, 2, 3), (3, 3, 3)
"""From 3.3.3 floors render darker (mean 134 -> 98), from 3.4 box contacts differ (98 % -> 12 % on one task)."""


class Upstream(NamedTuple):
    """Where LIBERO keeps what a task is made of.

    Attributes:
        bddl: Folder of task definitions: SUITE/TASK.bddl.
        initial_states: Folder of SUITE/TASK.pruned_init.
    """

    bddl: Path
    initial_states: Path

    def environment(self, suite: str, task: str) -> Any:
        """A new robosuite environment of a task, drawing nothing by itself. Parses and compiles: seconds."""
        from libero.libero.envs.env_wrapper import ControlEnv  # type: ignore[import-not-found]

        path = self.bddl / suite / f"{task}.bddl"
        if not path.is_file():
            raise ValueError(f"task: {suite} has no task {task!r} (no {path})")
        return ControlEnv(bddl_file_name=str(path), use_camera_obs=False, has_offscreen_renderer=False).env


def load_upstream(assets: Path) -> Upstream:
    """Import LIBERO with the given assets; once a process.

    Raises:
        RuntimeError: MuJoCo's version would change the results.
    """
    check_mujoco(importlib.metadata.version("mujoco"))
    select_gl_backend()
    spec = importlib.util.find_spec("libero")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(next(iter(spec.submodule_search_locations))) / "libero"
    _answer_beforehand(root, assets)
    _settle_robosuite()
    import libero.libero  # type: ignore[import-not-found]

    libero.libero._assets_path_cache = str(assets)  # noqa: SLF001 the key `assets` of its config.yaml is not read
    return Upstream(root / "bddl_files", root / "init_files")


def _settle_robosuite() -> None:
    """Give robosuite the settings file it looks for: no log in /tmp, which another user may own, and no advice."""
    settings = ModuleType("robosuite.macros_private")
    settings.FILE_LOGGING_LEVEL = None  # type: ignore[attr-defined]
    settings.CONSOLE_LOGGING_LEVEL = "ERROR"  # type: ignore[attr-defined]
    sys.modules[settings.__name__] = settings


def check_mujoco(version: str) -> None:
    """Refuse a MuJoCo whose pictures or contacts differ from those LIBERO's numbers were made with."""
    numbers = tuple(int(part) for part in version.split(".")[:3])
    if not MUJOCO_FROM <= numbers < MUJOCO_BELOW:
        raise RuntimeError(
            f"mujoco {version} is installed; LIBERO's results need >=3.2.3,<3.3.3: from 3.3.3 floors render darker, "
            "from 3.4 box contacts differ (98 % -> 12 % success on one task). Run `vla setup libero`."
        )


def versions() -> dict[str, str]:
    """Of what decides physics and pictures, and what draws these, as "llvmpipe (LLVM 15.0.6, 256 bits)"."""
    import mujoco  # type: ignore[import-not-found]
    from OpenGL import GL  # type: ignore[import-not-found]

    context = mujoco.GLContext(16, 16)
    context.make_current()
    drawn_by = bytes(GL.glGetString(GL.GL_RENDERER) or b"").decode()
    context.free()
    packages = {"mujoco": "mujoco", "robosuite": "robosuite", "libero": "hf-libero", "numpy": "numpy"}
    found = {name: importlib.metadata.version(package) for name, package in packages.items()}
    return {**found, "gl": os.environ.get("MUJOCO_GL", ""), "drawn_by": drawn_by}


def _answer_beforehand(root: Path, assets: Path) -> None:
    """Write the config.yaml that LIBERO would ask for on the terminal, in a folder of this process."""
    folder = Path(tempfile.mkdtemp(prefix="vla-libero-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    paths = {
        "benchmark_root": root,
        "bddl_files": root / "bddl_files",
        "init_states": root / "init_files",
        "datasets": root / "datasets",
        "assets": assets,
    }
    # JSON is YAML: no parser needed to write it.
    (folder / "config.yaml").write_text(json.dumps({key: str(path) for key, path in paths.items()}))
    os.environ["LIBERO_CONFIG_PATH"] = str(folder)
