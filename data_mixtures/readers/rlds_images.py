"""Encoded images of a record: decoded one at a time, and told from the blanks that stand for missing cameras."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

_MAX_PIXELS = 1 << 26  # of one image; more is a damaged header
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG")


class ImageError(ValueError):
    """Bytes that are no image."""


def looks_encoded(data: memoryview) -> bool:
    """Whether the bytes begin as a JPEG or PNG does."""
    return bytes(data[:4]).startswith(_MAGIC)


def decode(data: memoryview) -> np.ndarray:
    """uint8 [H, W, 3] in the stored order of channels."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ImageError(f"claims to be {image.width} x {image.height}")
            return np.asarray(image.convert("RGB"))
    # Pillow's decoders raise what the damage leads to; its bomb warning is an error where warnings are
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Warning) as error:
        raise ImageError(str(error) or type(error).__name__) from error


def is_blank(images: Sequence[memoryview]) -> bool:
    """Whether these frames are one and the same image of one colour: what a set writes where a camera was missing.

    Flags that say so (Bridge has `has_image_0` ... 3) are not to be relied on: they are 0 throughout in real files.
    """
    first = images[0]
    if any(image != first for image in images[1:]):
        return False
    pixels = decode(first)
    return bool((pixels == pixels[0, 0]).all())
