"""Augmentation as a function of the sample: known turns and crops, ranges, independence of the batch, identity."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from data_mixtures.sampling.augmentation import OPENPI, AugmentationConfig, Draws, augment, draw

CAMERAS = ("primary", "wrist")


def pictures(batch: int = 6, frames: int = 2, height: int = 24, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, frames, 2, 3, height, width), generator=generator, dtype=torch.uint8)


def fix(monkeypatch: pytest.MonkeyPatch, **values: float) -> None:
    """Let every sample and camera draw these."""
    neutral = {"x": 0.0, "y": 0.0, "turn": 0.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0}

    def fixed(ids: Tensor, cameras: tuple[str, ...], config: AugmentationConfig, seed: int) -> Draws:
        shape = (len(ids), len(cameras))
        return Draws(**{k: torch.full(shape, v, dtype=torch.float64) for k, v in (neutral | values).items()})

    monkeypatch.setattr("data_mixtures.sampling.augmentation.draw", fixed)


def test_nothing_is_changed_by_default() -> None:
    images = pictures()
    assert augment(images, torch.arange(6), CAMERAS, AugmentationConfig(), seed=0) is images


def test_neutral_draws_give_the_same_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    fix(monkeypatch)
    images, before = pictures(), pictures()
    changed = augment(images, torch.arange(6), CAMERAS, replace(OPENPI, crop=1.0), seed=0)
    assert torch.equal(changed, images)
    assert torch.equal(images, before), "the input is left alone"


def test_a_quarter_turn_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    fix(monkeypatch, turn=torch.pi / 2)
    images = pictures(height=20, width=20)
    turned = augment(images, torch.arange(6), CAMERAS, AugmentationConfig(rotation_deg=180), seed=0)
    clockwise = torch.rot90(images[:, :, 0], k=-1, dims=(-2, -1))
    assert (turned[:, :, 0].int() - clockwise.int()).abs().max() <= 1
    assert torch.equal(turned[:, :, 1], images[:, :, 1]), "the wrist's view is not turned"


def test_a_turn_keeps_shapes_in_wide_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dot 8 pixels right of the centre of a 40 x 64 picture, turned by 90 degrees, lies 8 pixels below it."""
    fix(monkeypatch, turn=torch.pi / 2)
    images = torch.zeros(1, 1, 1, 3, 40, 64)
    images[..., 19:21, 39:41] = 1
    turned = augment(images, torch.tensor([0]), ("primary",), AugmentationConfig(rotation_deg=180), seed=0)
    assert turned[0, 0, 0, 0, 27:29, 31:33].min() > 0.99
    assert turned.sum() == pytest.approx(12, rel=1e-3)


def test_a_crop_shows_its_part_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    fix(monkeypatch, x=0.5, y=-0.5)  # the upper right quarter
    ramp = torch.linspace(0, 1, 64)
    images = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.ones(64, 64)])[None, None, None]
    cropped = augment(images, torch.tensor([0]), ("primary",), AugmentationConfig(crop=0.5), seed=0)[0, 0, 0]
    step = 0.5 / 63
    torch.testing.assert_close(cropped[0, 5, 1:-1], 31.75 / 63 + step * torch.arange(64)[1:-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(cropped[1, 1:-1, 5], -0.25 / 63 + step * torch.arange(64)[1:-1], atol=1e-5, rtol=0)


def test_colour_factors_do_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    images, ids, config = pictures().float() / 255, torch.arange(6), AugmentationConfig(1, 0, 1, 1, 1)
    fix(monkeypatch, brightness=0.5)
    torch.testing.assert_close(augment(images, ids, CAMERAS, config, 0), images / 2)
    fix(monkeypatch, contrast=0.0)
    flat = augment(images, ids, CAMERAS, config, 0)
    torch.testing.assert_close(flat, images.mean(dim=(1, 3, 4, 5), keepdim=True).expand_as(images))
    fix(monkeypatch, saturation=0.0)
    grey = augment(images, ids, CAMERAS, config, 0)
    torch.testing.assert_close(grey, images.mean(dim=3, keepdim=True).expand_as(images))


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_the_batch_a_sample_is_in_does_not_matter(kind: str) -> None:
    images = pictures(8, height=33, width=31)
    images = images if kind == "uint8" else images.float() / 255
    ids = torch.tensor([5, 2**40, 7, 0, 3, 2**62, 12, 13])
    whole = augment(images, ids, CAMERAS, OPENPI, seed=4)
    for size in (1, 3):
        parts = zip(images.split(size), ids.split(size), strict=True)
        assert torch.equal(torch.cat([augment(*part, CAMERAS, OPENPI, seed=4) for part in parts]), whole)
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    assert torch.equal(augment(images[order], ids[order], CAMERAS, OPENPI, seed=4), whole[order])
    # a camera's draws go with its name, not with its place
    swapped = augment(images.flip(2), ids, CAMERAS[::-1], OPENPI, seed=4)
    assert torch.equal(swapped.flip(2), whole)
    assert not torch.equal(augment(images, ids, CAMERAS, OPENPI, seed=5), whole)


def test_all_frames_of_a_window_are_changed_alike() -> None:
    still = pictures(frames=1).expand(-1, 4, -1, -1, -1, -1)
    changed = augment(still, torch.arange(6), CAMERAS, OPENPI, seed=0)
    assert torch.equal(changed, changed[:, :1].expand_as(changed))
    assert not torch.equal(changed, still)


def test_draws_fill_their_ranges_and_wrists_keep_their_place() -> None:
    draws = draw(torch.arange(20_000), CAMERAS, OPENPI, seed=1)
    expected = {"x": (-0.05, 0.05), "y": (-0.05, 0.05), "turn": (-torch.pi / 36, torch.pi / 36)}
    expected |= {"brightness": (0.7, 1.3), "contrast": (0.6, 1.4), "saturation": (0.5, 1.5)}
    for name, (low, high) in expected.items():
        values = getattr(draws, name)[:, 0]
        quantiles = torch.quantile(values, torch.linspace(0, 1, 11, dtype=torch.float64))
        torch.testing.assert_close(
            quantiles, torch.linspace(low, high, 11, dtype=torch.float64), atol=0.015 * (high - low), rtol=0
        )
        assert values.min() >= low
        assert values.max() < high
    for name in ("x", "y", "turn"):
        assert not getattr(draws, name)[:, 1].any()
    table = torch.stack([getattr(draws, name)[:, 0] for name in expected] + [draws.brightness[:, 1]])
    assert (torch.corrcoef(table) - torch.eye(7, dtype=torch.float64)).abs().max() < 0.03


@pytest.mark.parametrize("wrist", ["wrist", "wrist_left", "left_wrist_0_rgb", "observation.images.wrist_cam"])
def test_a_camera_is_on_a_wrist_if_its_name_says_so(wrist: str) -> None:
    images = pictures()
    moved = augment(images, torch.arange(6), ("base_0_rgb", wrist), AugmentationConfig(0.9, 5), seed=0)
    assert torch.equal(moved[:, :, 1], images[:, :, 1])
    assert not torch.equal(moved[:, :, 0], images[:, :, 0])
    every = augment(images, torch.arange(6), ("base", wrist), AugmentationConfig(0.9, colour_only_cameras=[]), seed=0)
    assert not torch.equal(every[:, :, 1], images[:, :, 1])


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images are \(6, 2, 2, 3, 24, 32\) for 1 cameras"):
        augment(pictures(), torch.arange(6), ("primary",), OPENPI, seed=0)
    for change, message in (
        ({"crop": 0}, "augmentation.crop is 0"),
        ({"rotation_deg": -5}, "augmentation.rotation_deg is -5"),
        ({"contrast": 1.4}, "augmentation.contrast is 1.4: factors are 1 "),
    ):
        with pytest.raises(ValueError, match=message):
            replace(OPENPI, **change).check()
    OPENPI.check()
