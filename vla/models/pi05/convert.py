"""Foreign weights in and out: pi0.5 as openpi and LeRobot publish it, and plain PaliGemma.

Files are opened lazily and read one tensor at a time, so the peak is one tensor.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from data_mixtures.storage.json_object import read_object

_PALIGEMMA = "paligemma_with_expert.paligemma."
_HEAD = _PALIGEMMA + "lm_head.weight"
# (pattern of a foreign name, our name), tried in order on a name already stripped of LeRobot's `model.` prefix.
_RULES = (
    (r"action_time_mlp_(in|out)\.(.+)", r"time_mlp_\1.\2"),
    (re.escape(_PALIGEMMA) + r"model\.language_model\.embed_tokens\.weight", _HEAD),
    (r"(?:language_model\.)?(?:model\.)?language_model\.model\.embed_tokens\.weight", _HEAD),
    (r"(?:language_model\.)?lm_head\.weight", _HEAD),
    (r"language_model\.model\.(.+)", _PALIGEMMA + r"model.language_model.\1"),
    (r"(vision_tower|multi_modal_projector)\.(.+)", _PALIGEMMA + r"model.\1.\2"),
    (r"model\.language_model\.embed_tokens\.weight", _HEAD),
    (r"model\.(language_model|vision_tower)\.(.+)", _PALIGEMMA + r"model.\1.\2"),
)
# transformers 5.17 and later write the tower without the module that held it.
_BARE_TOWER = r"(\.vision_tower\.)(?=embeddings\.|encoder\.|post_layernorm\.)"
# In the files, of no use: pi0's state projection, the expert's dead output head, and tables that old versions of
# transformers stored though they follow from the sizes.
_DEAD = re.compile(
    r"state_proj\..+|paligemma_with_expert\.gemma_expert\.lm_head\.weight"
    r"|.+\.embeddings\.position_ids|.+\.rotary_emb\.inv_freq"
)
_PALIGEMMA_ROWS, _PI05_ROWS = 257_216, 257_152

# Safetensors' words for them.
_FLOATING = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")

# Beginnings of the names that pi0.5 adds to PaliGemma.
EXPERT_PARTS = ("paligemma_with_expert.gemma_expert.", "action_in_proj.", "action_out_proj.", "time_mlp_")


def our_name(foreign: str) -> str | None:
    """The name a tensor of a published file has here, or None for one that is knowingly left out."""
    name = foreign
    if foreign.startswith("model.") and not foreign.startswith(("model.language_model.", "model.vision_tower.")):
        name = foreign.removeprefix("model.")
    if _DEAD.fullmatch(name):
        return None
    for pattern, replacement in _RULES:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, replacement, name)
            break
    return re.sub(_BARE_TOWER, r"\1vision_model.", name)


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies: its file, its name there, its shape and safetensors' word for its dtype."""

    file: Path
    foreign: str
    shape: tuple[int, ...]
    dtype: str


class WeightFile:
    """The tensors of a model folder or .safetensors file (sharded or not), under our names.

    Attributes:
        left_out: Names in the file that are knowingly not read (see `our_name`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_out: list[str] = []
        self._where: dict[str, _Place] = {}
        for file in _weight_files(path):
            try:
                with safe_open(file, "pt") as opened:
                    for foreign in opened.keys():  # noqa: SIM118 (the handle is no mapping)
                        header = opened.get_slice(foreign)
                        self._add(_Place(file, foreign, tuple(header.get_shape()), header.get_dtype()))
            except SafetensorError as error:
                raise ValueError(f"{file}: not a whole .safetensors file ({error}); fetch or write it again") from error

    def _add(self, place: _Place) -> None:
        name = our_name(place.foreign)
        if name is None:
            self.left_out.append(place.foreign)
        elif name not in self._where:
            self._where[name] = place
        elif not _equal(self._where[name], place):
            raise ValueError(
                f"{self.path}: {self._where[name].foreign} and {place.foreign} are both {name} here, but differ. "
                "They are tied in every published file; keep the one the model was trained with"
            )

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def foreign(self, name: str) -> str:
        """The name a tensor has in the file."""
        return self._where[name].foreign

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape in the file, from the header alone. Its absence raises ValueError."""
        if name not in self._where:
            raise ValueError(f"{self.path}: there is no {name}, which every π0.5 has; is this one?")
        return self._where[name].shape

    def dtype(self, name: str) -> str:
        """A tensor's dtype in the file, in safetensors' words ("F32", "BF16")."""
        return self._where[name].dtype

    @property
    def has_expert(self) -> bool:
        """Whether an action expert is there; a plain PaliGemma has none."""
        return any(name.startswith(EXPERT_PARTS) for name in self._where)

    def fits(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether a tensor can be read for a parameter of this shape.

        PaliGemma's own embedding may have its 257216 rows: pi0.5 keeps the first 257152 of them.
        """
        return tuple(shape) in (self.shape(name), self._cut_shape(name))

    def _cut_shape(self, name: str) -> tuple[int, ...]:
        rows, *rest = self.shape(name) or (0,)
        return (_PI05_ROWS, *rest) if name == _HEAD and rows == _PALIGEMMA_ROWS else self.shape(name)

    def is_floating(self, name: str) -> bool:
        """Whether a tensor holds floating numbers: whole ones are a quantised file's, and mean nothing unscaled."""
        return self.dtype(name) in _FLOATING

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor as float32; ValueError unless it `fits` and `is_floating`."""
        if not self.is_floating(name):
            raise ValueError(f"{self.path}: {self.foreign(name)} is {self.dtype(name)}, and not of floating numbers")
        if not self.fits(name, shape):
            raise ValueError(f"{self.path}: {name} is {self.shape(name)} and not {tuple(shape)}")
        place = self._where[name]
        with safe_open(place.file, "pt") as opened:
            if self.shape(name) == tuple(shape):
                return opened.get_tensor(place.foreign).float()
            return opened.get_slice(place.foreign)[: shape[0]].float()


def _equal(one: _Place, other: _Place, rows: int = 4096) -> bool:
    """Whether two tensors are read as the same, a few rows at a time: the embedding alone has two gigabytes.

    Values count and not dtypes; what is no number in both is the same.
    """
    if one.shape != other.shape:
        return False
    with safe_open(one.file, "pt") as first, safe_open(other.file, "pt") as second:
        if not one.shape:
            return _same(first.get_tensor(one.foreign), second.get_tensor(other.foreign))
        a, b = first.get_slice(one.foreign), second.get_slice(other.foreign)
        return all(_same(a[i : i + rows], b[i : i + rows]) for i in range(0, one.shape[0], rows))


def _same(a: Tensor, b: Tensor) -> bool:
    a, b = a.float(), b.float()
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def _weight_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    index = path / "model.safetensors.index.json"
    if index.is_file():
        shards = _shards(index)
        if absent := [name for name in shards if Path(name).name != name or not (path / name).is_file()]:
            raise ValueError(f"{index} names {', '.join(absent)}, not there: fetch the folder whole")
        return [path / name for name in shards]
    if (path / "model.safetensors").is_file():
        return [path / "model.safetensors"]
    raise ValueError(
        f"{path}: no model.safetensors there. Give the `model` folder of a finished run "
        "(run the stage that makes it first), or a published checkpoint's folder"
    )


def _shards(index: Path) -> list[str]:
    mapping = read_object(index, "fetch the folder whole").get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise ValueError(f"{index}: weight_map is {mapping!r}, but must say each tensor's file: fetch the folder whole")
    for name, file in mapping.items():
        if not isinstance(file, str):
            raise ValueError(f"{index}: weight_map has {file!r} for {name}, no file name: fetch the folder whole")
    return sorted(set(mapping.values()))


def to_lerobot(state: Mapping[str, Any]) -> dict[str, Any]:
    """Our state dict under the names LeRobot writes and reads; the latent read-out keeps its own name."""
    return {f"model.{name}": value for name, value in state.items()}
