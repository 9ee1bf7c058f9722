"""Camera frames to network input: scaling, padding to the tower's size, and train-time augmentation."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vla.nn.randomness import uniform_like_ids

_STREAM = 0x1A6E


@dataclass(frozen=True)
class Augmentation:
    """Train-time changes of the pixels, drawn per sample and camera from the sample's id.

    Attributes:
        shift: Largest shift in whole pixels, both axes, edges repeated. At 64 px, 1 helps and 4 blurs.
        brightness: Largest relative change of brightness, 0.1 for +-10 %.
        contrast: Largest relative change of contrast around mid-grey.
    """

    shift: int = 0
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        if self.shift < 0 or not (0 <= self.brightness < 1 and 0 <= self.contrast < 1):
            raise ValueError(
                f"augment (shift {self.shift}, brightness {self.brightness}, contrast {self.contrast}): "
                "shift must be 0 or more, brightness and contrast in [0, 1)"
            )

    def __bool__(self) -> bool:
        return bool(self.shift or self.brightness or self.contrast)


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 [..., 3, H, W] -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1.0


def resize_with_pad(images: Tensor, size: int) -> Tensor:
    """Images float [B, 3, H, W] in [-1, 1] -> [B, 3, size, size]: aspect kept, centred, padded with -1 (black).

    Bilinear without antialiasing, as openpi and LeRobot do it.
    """
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    ratio = max(height, width) / size
    new_height, new_width = int(height / ratio), int(width / ratio)
    images = F.interpolate(images, (new_height, new_width), mode="bilinear", align_corners=False).clamp(-1.0, 1.0)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    padding = (left, size - new_width - left, top, size - new_height - top)
    return F.pad(images, padding, value=-1.0)


def augment_images(images: Tensor, sample_ids: Tensor, config: Augmentation, seed: int) -> Tensor:
    """Images float [B, C, 3, H, W] in [-1, 1], changed as `config` says by draws that depend on (seed, id, camera)."""
    batch, cameras = images.shape[:2]
    # Four numbers a camera, on the CPU: indexing wants whole numbers there, and they are few.
    draws = 2 * uniform_like_ids(sample_ids.cpu(), (cameras, 4), seed, _STREAM).flatten(0, 1) - 1
    flat = images.flatten(0, 1)
    if config.shift:
        offsets = (draws[:, :2] * (config.shift + 0.5)).round().clamp(-config.shift, config.shift).long()
        flat = shift_images(flat, offsets.to(images.device), config.shift)
    if config.brightness or config.contrast:
        amount = draws[:, 2:].to(images.device)[:, :, None, None, None]
        level = (flat + 1) / 2 * (1 + config.brightness * amount[:, 0])
        level = (level - 0.5) * (1 + config.contrast * amount[:, 1]) + 0.5
        flat = level.clamp(0, 1) * 2 - 1
    return flat.unflatten(0, (batch, cameras))


def shift_images(images: Tensor, offsets: Tensor, limit: int) -> Tensor:
    """Move images [B, 3, H, W] by whole pixels: offsets int [B, 2] (down, right) within +-limit, edges repeated."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (limit,) * 4, mode="replicate")
    rows = torch.arange(height, device=images.device) + limit - offsets[:, :1]
    columns = torch.arange(width, device=images.device) + limit - offsets[:, 1:]
    index = torch.arange(len(images), device=images.device)[:, None, None]
    # Advanced indices around a slice put its axis last.
    return padded[index, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
