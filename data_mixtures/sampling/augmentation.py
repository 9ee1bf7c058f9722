"""Image augmentation as a function of (seed, sample id, camera): the same sample looks the same on any rank and device.

The kinds and ranges are openpi's (`OPENPI` below): a random crop of 95 % of either side, a turn of up to 5 degrees,
brightness, contrast and saturation; cameras on the wrist get colours only, since their view moves with the gripper.
Crop, scaling back and turn are one resampling here, so a turned picture shows what lies beyond the crop, where two
resamplings would show black corners. All frames of one window are changed alike.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from data_mixtures.sampling.id_hash import uniform_tensor

_DRAWS = ("x", "y", "turn", "brightness", "contrast", "saturation")
_FIRST_STREAM = 1 << 40  # of id_hash; the camera's name and the draw follow


@dataclass(frozen=True)
class AugmentationConfig:
    """What is drawn for every sample and camera; the defaults change nothing.

    Attributes:
        crop: side of the crop over the side of the picture, in (0, 1]; 1 leaves the picture whole.
        rotation_deg: turns are uniform in +- this many degrees about the picture's centre.
        brightness: pixels are multiplied by a factor uniform in 1 +- this, in [0, 1].
        contrast: distances from the window's mean are multiplied by a factor uniform in 1 +- this, in [0, 1].
        saturation: distances from each pixel's grey are multiplied by a factor uniform in 1 +- this, in [0, 1].
        colour_only_cameras: words; a camera with one of them in its name is neither cropped nor turned, as openpi's
            cameras with "wrist" are.
    """

    crop: float = 1.0
    rotation_deg: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    colour_only_cameras: list[str] = field(default_factory=lambda: ["wrist"])

    def check(self) -> None:
        """Raise ValueError for a value out of its range."""
        if not 0 < self.crop <= 1:
            raise ValueError(f"augmentation.crop is {self.crop}: it is a share of the side, above 0 and up to 1")
        if not 0 <= self.rotation_deg <= 180:
            raise ValueError(f"augmentation.rotation_deg is {self.rotation_deg}: give 0 to 180 degrees")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation.{name} is {getattr(self, name)}: factors are 1 +- it, give 0 to 1")

    def moves_camera(self, camera: str) -> bool:
        """Whether the pictures of a camera of this name are cropped or turned."""
        return self.moves and not any(word in camera for word in self.colour_only_cameras)

    @property
    def moves(self) -> bool:
        """Whether any picture is cropped or turned."""
        return self.crop < 1 or self.rotation_deg > 0

    @property
    def colours(self) -> bool:
        """Whether any picture changes its colours."""
        return max(self.brightness, self.contrast, self.saturation) > 0


# github.com/Physical-Intelligence/openpi, preprocessing of observations in training.
OPENPI = AugmentationConfig(crop=0.95, rotation_deg=5.0, brightness=0.3, contrast=0.4, saturation=0.5)


@dataclass(frozen=True)
class Draws:
    """What samples and cameras get, float64 [B, C] each.

    Attributes:
        x: offset of the crop's centre to the right, in half widths of the picture; within +- (1 - crop).
        y: the same downwards, in half heights.
        turn: rad; positive turns the content clockwise on the screen.
        brightness: factor.
        contrast: factor.
        saturation: factor.
    """

    x: Tensor
    y: Tensor
    turn: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor


def draw(sample_ids: Tensor, cameras: Sequence[str], config: AugmentationConfig, seed: int) -> Draws:
    """The draws of samples int64 [B] for cameras by name, on the device of the ids."""
    first = [_FIRST_STREAM | zlib.crc32(camera.encode()) << 3 for camera in cameras]
    streams = torch.tensor([start + draw for draw in range(len(_DRAWS)) for start in first], device=sample_ids.device)
    signs = 2 * uniform_tensor(seed, streams, sample_ids).reshape(len(sample_ids), len(_DRAWS), len(cameras)) - 1
    room, turn = 1 - config.crop, torch.pi * config.rotation_deg / 180
    moved = torch.tensor([config.moves_camera(camera) for camera in cameras], device=sample_ids.device)
    x, y, turns, *colours = signs.unbind(1)
    ranges = (config.brightness, config.contrast, config.saturation)
    factors = [1 + sign * width for sign, width in zip(colours, ranges, strict=True)]
    return Draws(x * room * moved, y * room * moved, turns * turn * moved, *factors)


def augment(
    images: Tensor, sample_ids: Tensor, cameras: Sequence[str], config: AugmentationConfig, seed: int
) -> Tensor:
    """Augmented images; `images` itself is left alone, and is returned when the config changes nothing.

    Args:
        images: uint8 or float in [0, 1], [B, T, C, 3, H, W], RGB, on any device.
        sample_ids: int64 [B], on the same device.
        cameras: the C cameras' names.
        config: what to do.
        seed: of the run.

    Returns:
        The shape and dtype of `images`. Outside of the picture, where a turn looks, it is black.
    """
    if images.ndim != 6 or images.shape[2:4] != (len(cameras), 3):
        raise ValueError(f"images are {tuple(images.shape)} for {len(cameras)} cameras: expected [B, T, C, 3, H, W]")
    if not (config.moves or config.colours):
        return images
    draws = draw(sample_ids, cameras, config, seed)
    white = 1.0 if images.is_floating_point() else 255.0
    result = torch.empty_like(images)
    for position, camera in enumerate(cameras):  # one camera at a time: a third of the memory, and the same speed
        pictures = images[:, :, position].float()
        if config.moves_camera(camera):
            grid = _grid(pictures, config.crop, *(part[:, position] for part in (draws.x, draws.y, draws.turn)))
            pictures = _resampled(pictures, grid)
        if config.colours:
            factors = (draws.brightness, draws.contrast, draws.saturation)
            pictures = _recoloured(pictures, *(part[:, position] for part in factors))
        pictures = pictures.clamp_(0, white)
        result[:, :, position] = pictures if images.is_floating_point() else pictures.round_()
    return result


def centre_cropped(images: Tensor, crop: float) -> Tensor:
    """The middle `crop` of each side of images float [B, 3, H, W], as large as the whole: the middle of `augment`'s.

    What a policy that was trained on random crops may be shown when it acts.
    """
    still = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    return _resampled(images[:, None], _grid(images[:, None], crop, still, still, still))[:, 0]


def _grid(pictures: Tensor, crop: float, x: Tensor, y: Tensor, turn: Tensor) -> Tensor:
    """Where every pixel of the result looks: [B, H, W, 2] in half sides from the centre, x before y.

    Only element-wise operations, so that a sample's values do not depend on the batch it is in.
    """
    height, width = pictures.shape[-2:]
    column = _centres(width, pictures.device)[None, None, :]
    row = _centres(height, pictures.device)[None, :, None]
    x, y, cos, sin = (part[:, None, None] for part in (x, y, crop * turn.cos(), crop * turn.sin()))
    aspect = height / width
    across = column * cos + row * (sin * aspect) + x
    down = row * cos - column * (sin / aspect) + y
    return torch.stack([across, down], dim=-1).float()


def _centres(size: int, device: torch.device) -> Tensor:
    return (2 * torch.arange(size, device=device, dtype=torch.float64) + 1) / size - 1


def _resampled(pictures: Tensor, grid: Tensor) -> Tensor:
    """[B, T, 3, H, W] at the places of grid [B, H, W, 2], bilinear; all frames of a window at once."""
    frames = pictures.flatten(1, 2)
    return functional.grid_sample(frames, grid, mode="bilinear", align_corners=False).reshape(pictures.shape)


def _recoloured(pictures: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """[B, T, 3, H, W] with brightness, then contrast about the window's mean, then saturation about each pixel's."""
    brightness, contrast, saturation = (
        f.float()[:, None, None, None, None] for f in (brightness, contrast, saturation)
    )
    pictures = pictures * brightness
    # in float64, so that the order of the sum, which depends on the batch, stays below what a pixel shows
    mean = pictures.mean(dim=(1, 2, 3, 4), keepdim=True, dtype=torch.float64).float()
    pictures = (pictures - mean) * contrast + mean
    grey = pictures.mean(dim=2, keepdim=True)
    return (pictures - grey) * saturation + grey
