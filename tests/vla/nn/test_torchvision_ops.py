"""Importing works with no torchvision, a broken one and a good one; each case in its own process."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# The stand-in torchvision below is enough for these; what imports transformers needs none or a real one.
OURS = "import data_mixtures.batch, vla.nn.flow_matching, vla.train.stage\n"
ENSURE = "from vla.nn.torchvision_ops import ensure_torchvision_operators as ensure\n"

# Every module of every package, in one process: what a user could import, without anything done before.
EVERYTHING = """
import importlib, pkgutil, warnings
warnings.simplefilter("ignore")
names = []
for package in ("data_mixtures", "vla", "lam", "distill", "eval", "recipes"):
    module = importlib.import_module(package)
    names += [package, *(found.name for found in pkgutil.walk_packages(module.__path__, package + "."))]
for name in names:
    importlib.import_module(name)
print(len(names))
"""

# As real ones do: load the compiled half, then attach shape functions to its operators.
FAKE_TORCHVISION = """
from pathlib import Path
import torch
try:
    torch.ops.load_library(str(next(Path(__file__).parent.glob("_C*"))))
except (OSError, StopIteration):
    pass
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold):
    return dets
@torch.library.register_fake("torchvision::qnms")
def qnms(dets, scores, iou_threshold):
    return dets
"""

# A compiled half that can be loaded anywhere: pretend that it defines what a good one defines.
GOOD_EXTENSION = """
import torch
def load_library(path):
    assert path.endswith("_C.so"), path
    if not hasattr(torch.ops.torchvision, "nms"):
        global lib
        lib = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            lib.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
torch.ops.load_library = load_library
"""


def run(code: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (*folders, ROOT)))
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def fake_torchvision(folder: Path, extension: bytes | None) -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(FAKE_TORCHVISION)
    if extension is not None:
        (package / "_C.so").write_bytes(extension)
    return folder


def check(result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stderr


def test_no_torchvision_is_left_alone():
    check(
        run(
            "import sys\nsys.modules['torchvision'] = None\n"
            + ENSURE
            + OURS
            + "assert ensure() is None\nimport torch\nassert not hasattr(torch.ops.torchvision, 'nms')\n"
        )
    )


def test_no_torchvision_on_the_path_is_left_alone():
    block = (
        "import sys, importlib.abc\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torchvision':\n"
        "            sys.meta_path.remove(self)\n"
        "            sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
        "import torch\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    check(run(block + ENSURE + "assert ensure() is None\n"))


@pytest.mark.parametrize("extension", [None, b"not a shared object"], ids=["absent", "unloadable"])
def test_a_broken_torchvision_becomes_importable(tmp_path: Path, extension: bytes | None):
    folder = fake_torchvision(tmp_path, extension)
    without = run("import torchvision", folder)
    assert without.returncode != 0
    assert "torchvision::nms does not exist" in without.stderr
    check(
        run(
            ENSURE + OURS + "library = ensure()\nassert library is not None\nassert ensure() is library\n"
            "import gc\ndel library\ngc.collect()\nimport torchvision\n"
            f"assert torchvision.__file__.startswith({str(folder)!r})\n",
            folder,
        )
    )


def test_a_half_defined_torchvision_is_completed(tmp_path: Path):
    folder = fake_torchvision(tmp_path, None)
    someone_else = (
        "import torch\nlib = torch.library.Library('torchvision', 'DEF')\n"
        "lib.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
    )
    check(run(someone_else + ENSURE + "ensure()\nimport torchvision\n", folder))


def test_a_good_torchvision_is_left_alone(tmp_path: Path):
    folder = fake_torchvision(tmp_path, b"loads, says the stand-in loader")
    check(run(GOOD_EXTENSION + ENSURE + OURS + "assert ensure() is None\nimport torchvision\n", folder))


def test_an_imported_torchvision_is_left_alone(tmp_path: Path):
    folder = fake_torchvision(tmp_path, b"loads, says the stand-in loader")
    check(run(GOOD_EXTENSION + "import torchvision\n" + ENSURE + "assert ensure() is None\n", folder))


def test_every_module_imports_with_no_torchvision():
    result = run("import sys\nsys.modules['torchvision'] = None\n" + EVERYTHING)
    check(result)
    assert int(result.stdout.split()[-1]) > 20


@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_every_module_and_torchvisions_users_import_with_the_installed_one():
    check(
        run(
            EVERYTHING + "import timm\n"
            "from transformers import InternVLForConditionalGeneration\n"
            "from diffusers import AutoencoderDC, SanaTransformer2DModel\n"
        )
    )
