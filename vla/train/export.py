"""The artefact a run leaves: full weights as safetensors beside the stage's assets; and reading them back."""

import hashlib
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vla.train.checkpoint import sync_files, sync_folder
from vla.train.distributed import World
from vla.train.engine import Engine
from vla.train.initialise import materialise, persistent_tensors
from vla.train.lora import merged
from vla.train.stage import Stage

WEIGHTS_FILE = "model.safetensors"


def export_model(engine: Engine, stage: Stage, folder: Path, world: World) -> None:
    """Write `folder` whole or not at all: every parameter (frozen too, tied ones once) and persistent buffer.

    Adapters are merged into the weights they stand beside: the names are those of a module that never had any.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    tensors: dict[str, Tensor] = {}
    for name, tensor in merged(engine.module, engine.full_tensors()):
        if world.is_main:
            tensors[name] = tensor.to("cpu", copy=True).contiguous()
    if world.is_main:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        save_file(tensors, aside / WEIGHTS_FILE, metadata={"format": "pt"})
        stage.save_assets(aside)
        sync_files(aside)
        sync_folder(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
    world.barrier()


@torch.no_grad()
def load_weights(module: nn.Module, folder: Path, device: torch.device | str = "cpu") -> None:
    """Fill a module from `folder`/model.safetensors, one tensor at a time.

    A module on meta is given memory on `device` first; its non-persistent buffers stay undefined until the stage's or
    model's `init_buffers` has run.

    Raises:
        ValueError: No such file, or its names or shapes are not the module's.
    """
    path = Path(folder) / WEIGHTS_FILE
    if not path.is_file():
        raise ValueError(f"no weights at {path}: train the stage that makes them, or correct the path")
    if any(p.is_meta for p in module.parameters()):
        materialise(module, device)
    wanted = dict(persistent_tensors(module))
    with safe_open(path, framework="pt") as file:
        missing, unknown = sorted(wanted.keys() - file.keys()), sorted(set(file.keys()) - wanted.keys())
        if missing or unknown:
            raise ValueError(f"{path} does not fit the module: it lacks {missing[:5]}, and has unknown {unknown[:5]}")
        for name, tensor in wanted.items():
            value = file.get_tensor(name)
            if value.shape != tensor.shape:
                raise ValueError(f"{path}: {name} is {tuple(value.shape)}, the module's is {tuple(tensor.shape)}")
            tensor.copy_(value)


def weights_digest(folder: Path) -> str:
    """SHA-256, hex, of a model folder's weights: of the one file, or of the files' digests in the order of names."""
    digests = [_digest(path) for path in sorted(folder.glob("*.safetensors"))]
    if not digests:
        raise ValueError(f"{folder} holds no weights (*.safetensors); name a run folder with a `model`")
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
