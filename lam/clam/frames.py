"""What a latent action model sees of a window: its frames, ready for a network."""

from typing import NamedTuple

from torch import Tensor


class Frames(NamedTuple):
    """T consecutive moments of B windows, oldest first; a part that a model does not look at is None.

    Attributes:
        state: float32 [B, T, F], standardised.
        image: float32 [B, T, C, H, W] in [-1, 1]; C is three a camera.
    """

    state: Tensor | None = None
    image: Tensor | None = None

    def __getitem__(self, frames: slice) -> "Frames":  # type: ignore[override]
        """The same windows at some of their moments."""
        return Frames(*(None if part is None else part[:, frames] for part in (self.state, self.image)))
