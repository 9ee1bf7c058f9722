"""Make a torchvision whose compiled half cannot load importable.

A torchvision built for CUDA beside a CPU-only torch is worse than none: `import torchvision` stops with `operator
torchvision::nms does not exist`, and timm, transformers' InternVL and diffusers' SANA stop with it, because they only
ask whether the package is there. Two operator schemas are all the import needs; the operators themselves stay
unavailable, and nothing here uses them.
"""

import functools
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder
from importlib.util import find_spec

import torch

# What torchvision attaches shape functions to while it is imported; schemas as in torchvision/csrc/ops/nms.cpp.
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@functools.cache  # idempotent, and the cached result keeps the library alive: its operators vanish with it
def ensure_torchvision_operators() -> torch.library.Library | None:
    """Define the operators `import torchvision` needs, where its own library cannot.

    Call it before the first import of torchvision, timm, transformers or diffusers. It does nothing where torchvision
    is absent, was imported already, or loads as it should.

    Returns:
        The library that holds the definitions (this module keeps it alive), or None where nothing was missing.
    """
    if "torchvision" in sys.modules:
        return None
    spec = find_spec("torchvision")
    if spec is None or _extension_loads(list(spec.submodule_search_locations or [])):
        return None
    # A FRAGMENT may stand beside another library of the same name; DEF may not, and someone else may have been here.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    return library


def _extension_loads(folders: list[str]) -> bool:
    """Whether torchvision's `_C` in one of these folders can be loaded into this process (and loads it)."""
    for folder in folders:
        found = FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES)).find_spec("_C")
        if found is None or found.origin is None:
            continue
        try:
            torch.ops.load_library(found.origin)
        except (ImportError, OSError):  # a missing libcudart.so is an OSError
            return False
        return True
    return False
