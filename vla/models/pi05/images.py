"""Camera frames to network input: scaling, padding to the tower's size, and train-time augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from data_mixtures.sampling.augmentation import OPENPI, AugmentationConfig, augment
from vla.nn.randomness import uniform_like_ids

_STREAM = 0x1A6E
_PRESETS = {"none": AugmentationConfig(), "openpi": OPENPI}


def _of_preset() -> Any:
    """A field that is None until `__post_init__` has put the preset's value there."""
    return field(default=None, metadata={"default": "the preset's"})


@dataclass(frozen=True)
class Augmentation(AugmentationConfig):
    """Train-time changes of the pixels, drawn per sample and camera from the sample's id.

    openpi's ranges are those of its PyTorch code, which draws once for a whole batch; here every sample has its own
    draws, as in its JAX code. (There, half of the samples keep their colours.) A field that is given goes before the
    preset's.

    Attributes:
        preset: `none` changes nothing. `openpi`: a crop of 95 %, turns of +-5 degrees, brightness 0.7 to 1.3, contrast
            0.6 to 1.4, saturation 0.5 to 1.5; cameras with "wrist" in their name get colours only.
        shift: Largest shift in whole pixels, both axes, edges repeated. At 64 px, 1 helps and 4 blurs.
        acting: What the policy is shown when it acts: `whole` frames, as openpi's, or the `centre` of the size that
            training cropped, as OpenVLA's, which lost 3 points without. It travels in the checkpoint.
    """

    crop: float = _of_preset()
    rotation_deg: float = _of_preset()
    brightness: float = _of_preset()
    contrast: float = _of_preset()
    saturation: float = _of_preset()
    preset: Literal["none", "openpi"] = "none"
    shift: int = 0
    acting: Literal["whole", "centre"] = "whole"

    def __post_init__(self) -> None:
        if self.preset not in _PRESETS:
            raise ValueError(f"augment.preset is {self.preset!r}: choose one of {', '.join(_PRESETS)}")
        for name in ("crop", "rotation_deg", "brightness", "contrast", "saturation"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(_PRESETS[self.preset], name))
        self.check()
        if self.shift < 0:
            raise ValueError(f"augmentation.shift is {self.shift}: give whole pixels, 0 or more")
        if self.acting == "centre" and self.crop == 1:
            raise ValueError("augmentation.acting is 'centre', but training does not crop: give a crop below 1")

    def centre_crop(self, cameras: Sequence[str]) -> dict[str, float]:
        """The share of a side that each camera's frames are cut to when the policy acts; whole ones are not named."""
        return {camera: self.crop for camera in cameras if self.acting == "centre" and self.moves_camera(camera)}


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 [..., 3, H, W] -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1.0


def absent_black(images: Tensor, present: Tensor) -> Tensor:
    """Images float [B, C, 3, H, W] with -1 (black) where present bool [B, C] is False, as peers fill a missing slot."""
    return images.masked_fill(~present[:, :, None, None, None], -1.0)


def resize_with_pad(images: Tensor, size: int) -> Tensor:
    """Images float [B, 3, H, W] in [-1, 1] -> [B, 3, size, size]: aspect kept, centred, padded with -1 (black).

    Bilinear without antialiasing and without rounding to whole levels: what LeRobot's policy does in training and when
    it acts, and openpi's model would do with images that are not of its size. None of openpi's are: its data pipeline
    and its client resize uint8 images before, with Pillow's antialiased bilinear filter, rounded; `fit_square` of
    data_mixtures/storage/frames.py is that one.
    """
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    ratio = max(height, width) / size
    new_height, new_width = max(1, int(height / ratio)), max(1, int(width / ratio))
    images = F.interpolate(images, (new_height, new_width), mode="bilinear", align_corners=False).clamp(-1.0, 1.0)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    padding = (left, size - new_width - left, top, size - new_height - top)
    return F.pad(images, padding, value=-1.0)


def augment_images(
    images: Tensor, sample_ids: Tensor, cameras: Sequence[str], config: Augmentation, seed: int
) -> Tensor:
    """Images float [B, C, 3, H, W] in [-1, 1], changed as `config` says by draws that depend on (seed, id, camera)."""
    if config.shift:
        # Two numbers a camera, on the CPU: indexing wants whole numbers there, and they are few.
        draws = 2 * uniform_like_ids(sample_ids.cpu(), (len(cameras), 2), seed, _STREAM).flatten(0, 1) - 1
        offsets = (draws * (config.shift + 0.5)).round().clamp(-config.shift, config.shift).long()
        shifted = shift_images(images.flatten(0, 1), offsets.to(images.device), config.shift)
        images = shifted.unflatten(0, images.shape[:2])
    if config.moves or config.colours:
        images = 2 * augment((images[:, None] + 1) / 2, sample_ids, cameras, config, seed)[:, 0] - 1
    return images


def shift_images(images: Tensor, offsets: Tensor, limit: int) -> Tensor:
    """Move images [B, 3, H, W] by whole pixels: offsets int [B, 2] (down, right) within +-limit, edges repeated."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (limit,) * 4, mode="replicate")
    rows = torch.arange(height, device=images.device) + limit - offsets[:, :1]
    columns = torch.arange(width, device=images.device) + limit - offsets[:, 1:]
    index = torch.arange(len(images), device=images.device)[:, None, None]
    # Advanced indices around a slice put its axis last.
    return padded[index, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
