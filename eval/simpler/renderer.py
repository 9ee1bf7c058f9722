"""Drawing on a CPU: Mesa's lavapipe behind SAPIEN 2, which asks for one thing lavapipe lacks.

SAPIEN opens its Vulkan device with VK_KHR_external_semaphore_fd, to hand pictures to CUDA. A layer of a page
(vulkan_layer.c) drops the wish. Mesa 25.0.7 works; 22.3, which Debian 12 has, does not.

    renderer/driver.json     names Mesa's libvulkan_lvp.so       renderer/layer.json, layer.so   the layer
    renderer/libraries       folders Mesa's own libraries are found in

Runs in the simulator's Python: standard library only.
"""

import ctypes
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

LAYER = "VK_LAYER_VLA_without_semaphore_fd"
_EXTENSION = "VK_KHR_external_semaphore_fd"
_LAVAPIPE = "libvulkan_lvp.so"


def draw_on_cpu(folder: Path) -> str:
    """Have this process draw with lavapipe; before SAPIEN is imported. Returns what draws, in words."""
    driver = json.loads((folder / "driver.json").read_text())["ICD"]["library_path"]
    folders = [Path(line) for line in (folder / "libraries").read_text().splitlines()]
    _load("libvulkan.so.1", folders)  # SAPIEN is linked against it
    _load(driver, folders)
    os.environ["VK_ICD_FILENAMES"] = str(folder / "driver.json")
    os.environ["VK_LAYER_PATH"] = str(folder)
    os.environ["VK_INSTANCE_LAYERS"] = LAYER
    return "CPU (Mesa lavapipe)"


def _load(library: str, folders: list[Path], depth: int = 0) -> None:
    """Load a library and, where the system lacks something it needs, that from `folders` first."""
    for _ in range(40):
        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
            return
        except OSError as error:
            missing = re.match(r"(\S+): cannot open shared object file", str(error))
            found = missing and next((f / missing[1] for f in folders if (f / missing[1]).is_file()), None)
            if not found or depth > 8:
                raise ValueError(
                    f"the CPU's renderer cannot be loaded: {error}. Unpack the package it is in beside Mesa, and run "
                    "`vla setup simpler` again"
                ) from error
            _load(str(found), folders, depth + 1)


def make_renderer(mesa: Path, folder: Path) -> None:
    """Prepare `folder` for `draw_on_cpu` from a folder that Mesa's packages were unpacked in.

    Raises:
        ValueError: something is missing; the message says what.
    """
    lavapipe = next(mesa.rglob(_LAVAPIPE), None)
    if lavapipe is None:
        raise ValueError(f"--mesa {mesa}: there is no {_LAVAPIPE} in it\n{HOW_TO_DRAW_ON_CPU}")
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    _write(aside / "driver.json", {"ICD": {"api_version": "1.3.0", "library_path": str(lavapipe.absolute())}}, "1.0.0")
    (aside / "libraries").write_text(f"{lavapipe.parent.absolute()}\n")
    _write(aside / "layer.json", _layer_manifest(), "1.2.0")
    _compile(mesa, aside / "layer.so")
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _layer_manifest() -> dict[str, object]:
    extension = {
        "name": _EXTENSION,
        "spec_version": "1",
        "entrypoints": ["vkGetSemaphoreFdKHR", "vkImportSemaphoreFdKHR"],
    }
    return {
        "layer": {
            "name": LAYER,
            "type": "GLOBAL",
            "library_path": "./layer.so",
            "api_version": "1.3.0",
            "implementation_version": "1",
            "description": f"claims {_EXTENSION}, and keeps it from the driver",
            "device_extensions": [extension],
        }
    }


def _write(path: Path, tree: dict[str, object], version: str) -> None:
    path.write_text(json.dumps({"file_format_version": version, **tree}, indent=1))


def _compile(mesa: Path, library: Path) -> None:
    source = Path(__file__).parent / "vulkan_layer.c"
    headers = next((path.parents[1] for path in mesa.rglob("vulkan/vk_layer.h")), None)
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ValueError("the CPU's renderer needs a C compiler for a layer of a page; install gcc")
    include = ["-I", str(headers)] if headers else []
    command = [compiler, "-O2", "-shared", "-fPIC", *include, "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        hint = "" if headers else " Vulkan's headers (Debian: libvulkan-dev) are needed beside Mesa or in the system."
        raise ValueError(f"the Vulkan layer did not compile:{hint}\n{done.stderr.strip()[-600:]}")


HOW_TO_DRAW_ON_CPU = """\
SIMPLER draws with Vulkan: an NVIDIA GPU with its driver, or on a CPU Mesa's lavapipe, 25 or newer.
On Debian 12, whose own is too old, unpack it into a folder (no rights needed), then name the folder to `vla setup`:
  mkdir -p mesa/lists/partial mesa/cache/archives/partial && cd mesa
  printf 'deb http://deb.debian.org/debian bookworm%s main\\n' '' -backports > sources.list
  apt() { apt-get -o Dir::Etc::sourcelist=$PWD/sources.list -o Dir::Etc::sourceparts=- \\
    -o Dir::State::lists=$PWD/lists -o Dir::Cache=$PWD/cache "$@"; }
  apt update && apt download {mesa-vulkan-drivers,libdrm2,libdrm-amdgpu1}/bookworm-backports libvulkan1 libvulkan-dev \\
    libllvm15 libelf1 libexpat1 libwayland-client0 libx11-xcb1 libxcb-{dri3-0,present0,randr0,shm0,sync1,xfixes0} \\
    libxcb1 libxshmfence1 libx11-6 libxau6 libxdmcp6 libbsd0 libmd0 libedit2 libz3-4 libxml2 libtinfo6 libffi8 libicu72
  for package in *.deb; do dpkg-deb -x $package unpacked; done
  vla setup simpler --mesa $PWD/unpacked"""
