"""What a latent action model sees of a window: its frames, ready for a network."""

from typing import NamedTuple

from jaxtyping import Float, UInt8
from torch import Tensor


class Frames(NamedTuple):
    """T consecutive moments of B windows, oldest first; a part that a model does not look at is None.

    Attributes:
        state: float32 [B, T, F], standardised.
        image: float32 [B, T, C, H, W]: three channels a camera in [-1, 1], then, where changes are shown, as many of
            the scaled change that led to each.
    """

    state: Tensor | None = None
    image: Tensor | None = None

    def __getitem__(self, frames: slice) -> "Frames":  # type: ignore[override]
        """The same windows at some of their moments."""
        return Frames(*(None if part is None else part[:, frames] for part in (self.state, self.image)))

    def first(self, count: int) -> "Frames":
        """The first so many windows."""
        return Frames(*(None if part is None else part[:count] for part in (self.state, self.image)))


def pixels(images: UInt8[Tensor, "batch T cameras 3 H W"]) -> Float[Tensor, "batch T C H W"]:
    """Recorded pictures as networks see them: in [-1, 1], the cameras' channels side by side."""
    return images.flatten(2, 3).float() / 127.5 - 1
