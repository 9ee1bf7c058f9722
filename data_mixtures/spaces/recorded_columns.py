"""A robot's own columns as they were recorded: joints, or whatever else has no place in the unified spaces.

They fill the first dimensions of the state and action arrays, so such data sets are not to be mixed with unified ones;
a policy trained on them speaks this one robot's numbers, as openpi's and LeRobot's do.
"""

from dataclasses import dataclass

import numpy as np

from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM, Numerics


@dataclass(frozen=True)
class RecordedColumns:
    """Which places of the state and action columns are taken, in this order.

    Attributes:
        state: places in the state column; all of them when None.
        action: places in the action column; all of them when None.
    """

    state: list[int] | None = None
    action: list[int] | None = None

    def of_width(self, state: int, action: int) -> "RecordedColumns":
        """The same with every place named, for columns of these widths.

        Raises:
            ValueError: a place the columns do not have, or more places than the arrays hold.
        """
        chosen = RecordedColumns(
            list(range(state)) if self.state is None else self.state,
            list(range(action)) if self.action is None else self.action,
        )
        for name, places, width, most in (
            ("state", chosen.state or [], state, STATE_DIM),
            ("action", chosen.action or [], action, ACTION_DIM),
        ):
            field = f"embodiment.recorded.{name}"
            if wrong := [place for place in places if not 0 <= place < width]:
                raise ValueError(f"{field} names the places {wrong}: the column has 0..{width - 1}")
            if len(places) > most:
                raise ValueError(f"{field} has {len(places)} places: at most {most} fit; name the ones to be learned")
        return chosen

    def numerics(self, state: np.ndarray, action: np.ndarray) -> Numerics:
        """Columns [T, d] of one episode in the first dimensions of [T, 46] and [T, 44], the rest 0 and masked."""
        packed = self.pack(state, self.state, STATE_DIM), self.pack(action, self.action, ACTION_DIM)
        masks = self.mask(self.state, STATE_DIM), self.mask(self.action, ACTION_DIM)
        return Numerics(
            state=packed[0],
            state_mask=np.broadcast_to(masks[0], packed[0].shape).copy(),
            actions=packed[1],
            action_mask=np.broadcast_to(masks[1], packed[1].shape).copy(),
        )

    @staticmethod
    def pack(raw: np.ndarray, places: list[int] | None, dim: int) -> np.ndarray:
        """Values [..., d] at `places`, in the first dimensions of float32 [..., dim]."""
        assert places is not None, "of_width names the places"
        packed = np.zeros((*raw.shape[:-1], dim), dtype=np.float32)
        packed[..., : len(places)] = raw[..., places]
        return packed

    @staticmethod
    def mask(places: list[int] | None, dim: int) -> np.ndarray:
        """Which of `dim` dimensions are filled: bool [dim]."""
        return np.arange(dim) < len(places or [])
