"""Published weights in and out: InternVL3.5 (`-HF`), SANA and DC-AE, one tensor at a time.

    ours                                   published
    encoder.vlm.language_model.X           language_model.model.X   or   model.language_model.X
    encoder.vlm.vision_tower.X             vision_tower.X           or   model.vision_tower.X
    encoder.vlm.multi_modal_projector.X    multi_modal_projector.X  or   model.multi_modal_projector.X
    decoder.X                              X      (patch_embed.proj.weight: the current frame's half is zero)
    codec.autoencoder.X                    X

The published `lm_head.weight` has no place here: the teacher generates no text.
"""

from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor

from lam.latbot.config import PretrainedConfig

Source = Literal["internvl", "sana", "dcae"]
_PREFIXES: dict[str, Source] = {"encoder.vlm.": "internvl", "decoder.": "sana", "codec.autoencoder.": "dcae"}
PATCH_EMBED = "decoder.patch_embed.proj.weight"


def published_source(name: str) -> Source | None:
    """Which published model a parameter of ours comes from; None for the parts that are new."""
    if "fusion" in name.split("."):
        return None
    return next((source for prefix, source in _PREFIXES.items() if name.startswith(prefix)), None)


def published_names(name: str) -> list[str]:
    """The names a parameter of ours may have in its published file; the first is what transformers writes."""
    source = published_source(name)
    if source is None:
        return []
    prefix = next(prefix for prefix in _PREFIXES if name.startswith(prefix))
    rest = name.removeprefix(prefix)
    if source != "internvl":
        return [rest]
    hub = rest.replace("language_model.", "language_model.model.", 1) if rest.startswith("language_model.") else rest
    return [f"model.{rest}", hub]


def to_published(name: str, value: Tensor) -> tuple[str, Tensor] | None:
    """Our parameter under its published name and shape, or None where it is new."""
    names = published_names(name)
    if not names:
        return None
    return names[0], value[:, : value.shape[1] // 2] if name == PATCH_EMBED else value


class PublishedWeights:
    """Published files opened lazily; each tensor is read when it is asked for."""

    def __init__(self, config: PretrainedConfig) -> None:
        self.folders: dict[Source, str | None] = {
            "internvl": config.internvl,
            "sana": config.sana,
            "dcae": config.dcae,
        }
        self._files: dict[Source, dict[str, Path]] = {}

    def read(self, name: str, shape: torch.Size) -> Tensor | None:
        """The published value of our parameter `name`, float32; None where it is new or no file was given."""
        source = published_source(name)
        folder = self.folders[source] if source else None
        if source is None or folder is None:
            return None
        if source not in self._files:
            self._files[source] = _index(folder, f"pretrained.{source}")
        files = self._files[source]
        found = next((candidate for candidate in published_names(name) if candidate in files), None)
        if found is None:
            raise ValueError(
                f"pretrained.{source}={folder!r} has no tensor {' or '.join(published_names(name))}; "
                "is it the published model, and do the sizes in the recipe match it?"
            )
        with safe_open(files[found], framework="pt") as file:
            value = file.get_tensor(found).to(torch.float32)
        return _fit(name, value, shape, f"pretrained.{source}={folder!r}")


def _fit(name: str, value: Tensor, shape: torch.Size, where: str) -> Tensor:
    if name == PATCH_EMBED and value.shape[1] * 2 == shape[1]:
        value = torch.cat([value, torch.zeros_like(value)], dim=1)
    if value.shape != shape:
        raise ValueError(f"{where}: {name} is {list(value.shape)}, the recipe's model needs {list(shape)}")
    return value


def _index(folder: str, field: str) -> dict[str, Path]:
    """Tensor name -> file, over one .safetensors file or all of a folder's."""
    path = Path(folder)
    paths = [path] if path.suffix == ".safetensors" else sorted(path.glob("*.safetensors"))
    if not paths or not all(p.is_file() for p in paths):
        raise ValueError(f"{field}={folder!r} holds no .safetensors file; download the published model there")
    files = {}
    for file in paths:
        with safe_open(file, framework="pt") as opened:
            files.update(dict.fromkeys(opened.keys(), file))
    return files
