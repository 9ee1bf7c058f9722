"""Pictures between the simulator and a policy: numpy and Pillow, which every simulator brings."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def uint8_rgb(color: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The renderer's colours [H, W, 4] in 0 .. 1 as SIMPLER makes pictures of them: cut, not rounded."""
    return np.clip(color[..., :3] * 255, 0, 255).astype(np.uint8)


def fitted(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Stretched to this size: Lanczos over three lobes, antialiased."""
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS))


def scaled_to_height(rgb: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """The same picture `height` pixels high, sides in proportion, even."""
    width = round(rgb.shape[1] * height / rgb.shape[0] / 2) * 2
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR))


def read_photograph(path: Path) -> NDArray[np.float64]:
    """RGB in 0 .. 1, as the simulator keeps the picture behind robot and objects."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")) / 255
