"""Quantile normalisation of the unified spaces; it travels with the checkpoint that was trained under it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from data_mixtures.spaces.unified import (
    ACTION_DIM,
    ACTION_GRIPPER_DIMS,
    STATE_DIM,
    STATE_GRIPPER_DIMS,
    NumericSpace,
)
from data_mixtures.storage.json_object import read_object
from data_mixtures.storage.whole_file import write_whole

FILE_NAME = "normalisation.json"
# A dimension narrower than this (a micrometre, a microradian) never moved: stretching it to [-1, 1] would only
# amplify rounding, so it maps to 0.
_NARROWEST = 1e-6
_LARGEST = 1e38  # that the difference of two is still a float32

# What is done about a dimension whose quantiles are equal. "still": it maps to 0 and back to its constant (ours).
# "lerobot": the width is 1e-8 where it would be 0. "openpi": every width is 1e-6 wider. A published checkpoint must be
# read with the guard it was trained with.
Guard = Literal["still", "lerobot", "openpi"]


@dataclass(frozen=True)
class Quantiles:
    """The 1 % and 99 % quantiles of every dimension; both 0 where nothing was seen."""

    q01: tuple[float, ...]
    q99: tuple[float, ...]

    @classmethod
    def of(cls, values: np.ndarray, mask: np.ndarray) -> "Quantiles":
        """Exact quantiles over the rows of values [n, dim] where mask [n, dim] is True."""
        seen = [values[mask[:, dim], dim] for dim in range(mask.shape[1])]
        low, high = zip(*(np.quantile(x, (0.01, 0.99)).tolist() if len(x) else (0.0, 0.0) for x in seen), strict=True)
        return cls(low, high)

    def normalise(self, x: Tensor, keep: Sequence[int], guard: Guard = "still") -> Tensor:
        """2 (x - q01) / (q99 - q01) - 1 over [..., dim]; `keep` dimensions stay, equal quantiles go as `guard` says."""
        low, width = self._low_and_width(x, guard)
        if guard == "still":
            moving = width > _NARROWEST
            y = torch.where(moving, 2 * (x - low) / torch.where(moving, width, 1.0) - 1, 0.0)
        else:
            y = 2 * (x - low) / width - 1
        return _with_dims_of(y, x, keep)

    def unnormalise(self, y: Tensor, keep: Sequence[int], guard: Guard = "still") -> Tensor:
        """The inverse of `normalise`; a dimension that never moved gives its constant."""
        low, width = self._low_and_width(y, guard)
        return _with_dims_of((y + 1) / 2 * width + low, y, keep)

    def _low_and_width(self, like: Tensor, guard: Guard) -> tuple[Tensor, Tensor]:
        low = torch.tensor(self.q01, dtype=like.dtype, device=like.device)
        width = torch.tensor(self.q99, dtype=like.dtype, device=like.device) - low
        if guard == "lerobot":
            width = torch.where(width == 0, 1e-8, width)
        elif guard == "openpi":
            width = width + 1e-6
        return low, width


@dataclass(frozen=True)
class Normalisation:
    """Maps physical units to [-1, 1] and back; grippers of the unified spaces stay 0 (closed) to 1 (open).

    Only 98 % of the values land inside [-1, 1]: nothing is clipped, so `unnormalise` is an exact inverse.

    Attributes:
        state: quantiles of the 46 state dimensions.
        action: quantiles of the 44 action dimensions.
        space: what those dimensions are; in a robot's own columns there is no gripper to be known.
        guard: what is done about equal quantiles.
    """

    state: Quantiles
    action: Quantiles
    space: NumericSpace = "unified"
    guard: Guard = "still"

    @property
    def kept_state(self) -> tuple[int, ...]:
        """State dimensions left as they are."""
        return STATE_GRIPPER_DIMS if self.space == "unified" else ()

    @property
    def kept_action(self) -> tuple[int, ...]:
        """Action dimensions left as they are."""
        return ACTION_GRIPPER_DIMS if self.space == "unified" else ()

    def normalise_state(self, state: Tensor, mask: Tensor | None = None) -> Tensor:
        """States [..., 46] in physical units -> normalised; 0 where `mask` (same shape, bool) is False."""
        return _masked(self.state.normalise(state, self.kept_state, self.guard), mask)

    def normalise_action(self, action: Tensor, mask: Tensor | None = None) -> Tensor:
        """Actions [..., 44] in physical units -> normalised; 0 where `mask` (same shape, bool) is False."""
        return _masked(self.action.normalise(action, self.kept_action, self.guard), mask)

    def unnormalise_action(self, action: Tensor) -> Tensor:
        """Normalised actions [..., 44] -> physical units."""
        return self.action.unnormalise(action, self.kept_action, self.guard)

    def save(self, folder: Path | str) -> None:
        """Write `normalisation.json` into the folder, atomically."""
        write_whole(Path(folder) / FILE_NAME, json.dumps(asdict(self), indent=2))

    @classmethod
    def load(cls, folder: Path | str) -> "Normalisation":
        """Read `normalisation.json` from the folder."""
        path = Path(folder) / FILE_NAME
        if not path.exists():
            raise ValueError(f"{path} does not exist: the folder is no finished model, point at one that has it")
        stored = read_object(path, "copy the model folder whole")
        state, action = (
            _stored_quantiles(path, name, stored.get(name), dim)
            for name, dim in (("state", STATE_DIM), ("action", ACTION_DIM))
        )
        space, guard = stored.get("space", "unified"), stored.get("guard", "still")
        for name, value, known in (("space", space, get_args(NumericSpace)), ("guard", guard, get_args(Guard))):
            if value not in known:
                raise ValueError(f"{path}: {name} is {value!r}; it must be one of {', '.join(known)}")
        return cls(state, action, space, guard)


def _stored_quantiles(path: Path, name: str, stored: object, dim: int) -> Quantiles:
    """Both quantiles of every dimension, in order; ValueError names the field that is not."""
    if not isinstance(stored, dict) or set(stored) != {"q01", "q99"}:
        raise ValueError(f"{path}: {name} must hold q01 and q99: copy the model folder whole")
    for quantile, values in stored.items():
        if not isinstance(values, list) or len(values) != dim:
            size = len(values) if isinstance(values, list) else "no"
            raise ValueError(
                f"{path}: {name}.{quantile} has {size} dimensions, expected {dim}: it is of another project"
            )
        for place, value in enumerate(values):
            if type(value) not in (int, float) or not abs(value) < _LARGEST:
                raise ValueError(
                    f"{path}: {name}.{quantile}[{place}] is {value!r}, which scales nothing: measure it again"
                )
    low, high = stored["q01"], stored["q99"]
    if swapped := [place for place in range(dim) if low[place] > high[place]]:
        place = swapped[0]
        raise ValueError(
            f"{path}: {name}.q01[{place}] is {low[place]}, above q99, which is {high[place]}: measure them again"
        )
    return Quantiles(tuple(low), tuple(high))


def _with_dims_of(y: Tensor, x: Tensor, dims: Sequence[int]) -> Tensor:
    kept = torch.zeros(x.shape[-1], dtype=torch.bool, device=x.device)
    kept[list(dims)] = True
    return torch.where(kept, x, y)


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else torch.where(mask, x, torch.zeros_like(x))
