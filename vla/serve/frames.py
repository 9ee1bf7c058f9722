"""A camera's image as robots send it -> uint8 [H, W, 3], or words on why not."""

import numpy as np

from vla.serve.messages import BadRequestError, shown


def rgb_frame(key: str, image: object) -> np.ndarray:
    """One frame of its own memory, uint8 [H, W, 3] RGB.

    Accepted: [H, W, 3], or [3, H, W] as ALOHA's client sends it, of uint8 0..255 or of floats 0..1.

    Raises:
        BadRequestError: Anything else, naming the key and what it holds.
    """
    if not isinstance(image, np.ndarray):
        raise BadRequestError(f"{key!r} is a {type(image).__name__}; send an image as a numpy array uint8 [H, W, 3]")
    if image.ndim != 3 or 3 not in (image.shape[0], image.shape[-1]) or 0 in image.shape:
        raise BadRequestError(
            f"{key!r} has shape {shown(list(image.shape))}; send one RGB image [H, W, 3] or [3, H, W], without a batch"
        )
    if image.shape[-1] != 3:
        image = image.transpose(1, 2, 0)
    if image.dtype == np.uint8:
        return np.array(image, order="C")
    if image.dtype.kind == "f":
        return _from_unit_range(key, image)
    raise BadRequestError(f"{key!r} has dtype {image.dtype}; send uint8 of 0..255 or floats of 0..1")


def _from_unit_range(key: str, image: np.ndarray) -> np.ndarray:
    low, high = float(image.min()), float(image.max())
    if not (low >= 0.0 and high <= 1.0):  # written so that a NaN is refused too
        raise BadRequestError(
            f"{key!r} holds floats from {low:.4g} to {high:.4g}; floats must be in 0..1, and are finite. "
            "Pixels of 0..255 are sent as uint8"
        )
    return np.ascontiguousarray(np.rint(image.astype(np.float32) * 255.0).astype(np.uint8))
