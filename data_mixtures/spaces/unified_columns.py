"""Unified states and actions as named columns of a LeRobot data set, so that a converted set reads back exactly.

`observation.state` and `action` hold only the dimensions the set has, called as `dimension_names` calls them; beside
them, `observation.state_mask` and `action_mask` say with 1 and 0 which values may be seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_mixtures.lerobot import layout
from data_mixtures.spaces.dimension_names import ACTION_NAMES, STATE_NAMES
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM, Numerics

STATE_COLUMN, ACTION_COLUMN = "observation.state", "action"
STATE_MASK_COLUMN, ACTION_MASK_COLUMN = "observation.state_mask", "action_mask"
# A moving camera's rotation to the world, row by row: `Episode.info["camera_rotation"]`.
CAMERA_COLUMN = "observation.camera_rotation"


@dataclass(frozen=True)
class UnifiedColumns:
    """The unified dimensions a data set's columns hold.

    Attributes:
        state: indices into the 46, rising.
        action: indices into the 44, rising.
    """

    state: tuple[int, ...]
    action: tuple[int, ...]
    fps: None = None  # as an Embodiment's: the data set's own rate is right

    @property
    def names(self) -> dict[str, list[str]]:
        """Every column and its dimensions' names; without those that would be empty."""
        state = [str(STATE_NAMES[index]) for index in self.state]
        action = [str(ACTION_NAMES[index]) for index in self.action]
        columns = {STATE_COLUMN: state, STATE_MASK_COLUMN: state, ACTION_COLUMN: action, ACTION_MASK_COLUMN: action}
        return {column: names for column, names in columns.items() if names}

    @property
    def columns(self) -> list[str]:
        """The columns `numerics` reads."""
        return list(self.names)

    def numerics(self, columns: Mapping[str, np.ndarray]) -> Numerics:
        """One episode's columns, [T, d] each, in the unified spaces."""
        length = len(next(iter(columns.values())))
        spaces = []
        for dim, indices, name, mask_name in (
            (STATE_DIM, self.state, STATE_COLUMN, STATE_MASK_COLUMN),
            (ACTION_DIM, self.action, ACTION_COLUMN, ACTION_MASK_COLUMN),
        ):
            values, mask = np.zeros((length, dim), dtype=np.float32), np.zeros((length, dim), dtype=bool)
            if indices:
                for column in (name, mask_name):
                    if columns[column].shape[1] != len(indices):
                        raise ValueError(
                            f"column {column!r} is {list(columns[column].shape)}, {len(indices)} are named"
                        )
                mask[:, indices] = columns[mask_name] != 0
                values[:, indices] = columns[name]
            spaces += [values * mask if np.isfinite(values).all() else values, mask]
        return Numerics(*spaces)

    def pack(self, numerics: Numerics) -> dict[str, np.ndarray]:
        """The columns of one episode: what `numerics` reads back."""
        packed = {
            STATE_COLUMN: numerics.state[:, self.state] * numerics.state_mask[:, self.state],
            STATE_MASK_COLUMN: numerics.state_mask[:, self.state],
            ACTION_COLUMN: numerics.actions[:, self.action] * numerics.action_mask[:, self.action],
            ACTION_MASK_COLUMN: numerics.action_mask[:, self.action],
        }
        return {name: np.ascontiguousarray(packed[name], dtype=np.float32) for name in self.names}


def unified_columns(features: Mapping[str, Any]) -> UnifiedColumns | None:
    """The unified dimensions that a data set's info.json names, or None if its columns are raw ones.

    A data set without any column of measurements has none of the dimensions: it is action-free.
    """
    if not any(_is_measurement(name, feature) for name, feature in features.items()):
        return UnifiedColumns((), ())
    state = _indices(features.get(STATE_COLUMN), [str(name) for name in STATE_NAMES])
    action = _indices(features.get(ACTION_COLUMN), [str(name) for name in ACTION_NAMES])
    found = UnifiedColumns(state or (), action or ())
    if state is None or action is None or not (state or action) or not set(found.names) <= set(features):
        return None
    return found


def _is_measurement(name: str, feature: Any) -> bool:
    dtype = str(feature.get("dtype")) if isinstance(feature, dict) else ""
    return name not in layout.INDEX_COLUMNS and name != CAMERA_COLUMN and dtype.startswith(("float", "int", "uint"))


def _indices(feature: object, known: Sequence[str]) -> tuple[int, ...] | None:
    """The places of a feature's names among the known ones; () where there is no such feature, None if one is not."""
    if feature is None:
        return ()
    names = feature.get("names") if isinstance(feature, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) and name in known for name in names):
        return None
    return tuple(known.index(name) for name in names)
