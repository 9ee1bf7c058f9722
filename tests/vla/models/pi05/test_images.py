"""Images on their way into the network, pixel for pixel as the peers', and openpi's augmentation."""

from dataclasses import replace

import draccus
import numpy as np
import pytest
import torch

from data_mixtures.sampling.augmentation import OPENPI, draw
from data_mixtures.storage.frames import fit_square
from tests.vla.models.pi05.peer_cases import GOLDEN, SHAPES, images
from tests.vla.models.pi05.students import normalisation, tiny_batch, tiny_config
from vla.models.pi05.images import Augmentation, absent_black, augment_images, resize_with_pad, to_unit_range
from vla.models.pi05.processor import make_processor

SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


def ours(image: np.ndarray, size: int) -> np.ndarray:
    return resize_with_pad(to_unit_range(torch.from_numpy(image).permute(2, 0, 1)[None]), size)[0].numpy()


def weights(size: int, source: int) -> np.ndarray:
    """Bilinear weights [size, source] between pixel centres, edges held: no antialiasing."""
    place = ((np.arange(size) + 0.5) * source / size - 0.5).clip(0, source - 1)
    low = np.floor(place).astype(int).clip(0, source - 1)
    table, rows = np.zeros((size, source)), np.arange(size)
    table[rows, low] += 1 - (place - low)
    table[rows, (low + 1).clip(0, source - 1)] += place - low
    return table


def written_out(image: np.ndarray, size: int) -> np.ndarray:
    """Resize-with-pad from its definition, in float64: [3, size, size]."""
    height, width = image.shape[:2]
    ratio = max(width / size, height / size)
    inner = int(height / ratio), int(width / ratio)
    planes = image.transpose(2, 0, 1) / 255 * 2 - 1
    small = weights(inner[0], height) @ planes @ weights(inner[1], width).T
    padded = np.full((3, size, size), -1.0)
    top, left = (size - inner[0]) // 2, (size - inner[1]) // 2
    padded[:, top : top + inner[0], left : left + inner[1]] = small
    return padded


def test_recorded_images_are_openpis():
    """Recorded with benchmarks/peers/text_and_images.py: what openpi's PyTorch model makes of images of other sizes."""
    golden = np.load(GOLDEN / "peers.npz")
    size = int(golden["size"])
    for place, shape in enumerate(SHAPES):
        image = golden[f"image_{place}"]
        assert image.shape == (*shape, 3)
        np.testing.assert_allclose(ours(image, size), golden[f"model_{place}"], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((48, 64), 28), ((64, 48), 28), ((50, 50), 28), ((11, 17), 28), ((37, 53), 30), ((240, 424), 224)],
)
def test_resize_is_bilinear_centred_and_padded_with_minus_one(shape: tuple[int, int], size: int):
    image = images([shape], seed=3)[0]  # torch places its samples in float32: to 4e-5 of a pixel at 424
    np.testing.assert_allclose(ours(image, size), written_out(image, size), atol=1e-4, rtol=0)


def test_an_odd_bar_is_wider_below_and_right():
    wide, high = np.full((9, 23, 3), 255, np.uint8), np.full((23, 9, 3), 255, np.uint8)  # 14 x 5: bars of 4 and 5
    assert ours(wide, 14)[0, :, 3].tolist() == [-1] * 4 + [1] * 5 + [-1] * 5
    assert ours(high, 14)[2, 3].tolist() == [-1] * 4 + [1] * 5 + [-1] * 5
    assert ours(np.full((1, 100, 3), 255, np.uint8), 14)[0].max() == 1, "the peers fail on an image this thin"


def test_an_image_of_the_right_size_is_only_scaled():
    image = images([(14, 14)])[0]
    levels = (ours(image, 14) + 1) * 127.5
    np.testing.assert_allclose(levels, image.transpose(2, 0, 1), atol=1e-4)
    assert ours(np.array([[[0, 51, 255]]], np.uint8), 1).flatten().tolist() == pytest.approx([-1, -0.6, 1], abs=1e-6)


def test_training_frames_are_what_openpis_pipeline_and_client_make():
    """Its own resizing is Pillow's, antialiased and in whole levels; sizes are cut down there, and rounded here."""
    golden = np.load(GOLDEN / "peers.npz")
    size = int(golden["size"])
    for place, (height, width) in enumerate(SHAPES):
        shorter = min(height, width) * size / max(height, width)
        if round(shorter) == int(shorter):
            made = fit_square(golden[f"image_{place}"][None], size)[0].astype(int)
            assert np.abs(made - golden[f"served_{place}"]).max() <= 1
    down = SHAPES.index((48, 64))
    smooth, sharp = golden[f"served_{down}"] / 127.5 - 1, golden[f"model_{down}"]
    assert np.abs(smooth - sharp).max() > 0.5, "noise made smaller tells antialiasing from none"


def test_missing_slots_are_black_and_masked():
    batch = tiny_batch(cameras=3)
    there = torch.tensor([[True, False, True], [True, True, False], [True, False, False]])
    processor = make_processor(tiny_config(), normalisation(), SLOTS, ["open the drawer"])
    for augment in (None, Augmentation(preset="openpi")):
        for pixels in (batch.images, torch.zeros_like(batch.images, dtype=torch.float32)):  # grey, not black
            prefix = processor.prefix(replace(batch, images=pixels, camera_mask=there), "action", augment)
            assert torch.equal(prefix.image_mask, there)
            assert prefix.images[~there].unique().tolist() == [-1]
            assert (prefix.images[there].flatten(1) > -1).any(1).all()


def test_absent_black_leaves_what_is_there():
    given = torch.rand(2, 3, 3, 4, 4)
    assert torch.equal(absent_black(given, torch.ones(2, 3, dtype=torch.bool)), given)
    only = absent_black(given, torch.tensor([[True, False, False], [False, True, False]]))
    assert torch.equal(only[1, 1], given[1, 1])
    assert only[0, 1:].unique().tolist() == only[1, ::2].unique().tolist() == [-1]


def test_openpi_preset_is_its_ranges_and_fields_go_before_it():
    preset = draccus.decode(Augmentation, {"preset": "openpi"})
    numbers = {"crop": 0.95, "rotation_deg": 5.0, "brightness": 0.3, "contrast": 0.4, "saturation": 0.5}
    assert {name: getattr(preset, name) for name in numbers} == numbers
    assert replace(preset, preset="none") == draccus.decode(Augmentation, numbers)
    calm = draccus.decode(Augmentation, {"preset": "openpi", "rotation_deg": 0, "shift": 2})
    assert (calm.rotation_deg, calm.crop, calm.shift) == (0, 0.95, 2)
    assert draw(torch.arange(9), SLOTS, Augmentation(), 3).turn.abs().max() == 0
    assert replace(Augmentation(), shift=1) == Augmentation(shift=1)
    ids = torch.arange(500)
    expected, given = draw(ids, SLOTS, OPENPI, 3), draw(ids, SLOTS, preset, 3)
    assert torch.equal(given.turn, expected.turn)
    assert given.brightness.aminmax().min == pytest.approx(0.7, abs=0.01)
    assert given.saturation.aminmax().max == pytest.approx(1.5, abs=0.01)
    with pytest.raises(ValueError, match=r"augment.preset is 'lerobot': choose one of none, openpi"):
        Augmentation(preset="lerobot")  # pyright: ignore[reportArgumentType]


def test_openpi_preset_changes_colours_of_wrists_and_places_of_others():
    """A white square on black: colours leave its edges where they are, crops and turns do not."""
    square = torch.full((4, 3, 3, 56, 56), -1.0)
    square[..., 20:36, 20:36] = 0.2
    ids = torch.arange(4)
    changed = augment_images(square, ids, SLOTS, Augmentation(preset="openpi"), seed=1)
    inside = square[0, 0, 0] > 0
    for wrist in (1, 2):
        for picture in changed[:, wrist].mean(1):
            assert picture[inside].unique().numel() == 1
            assert picture[~inside].unique().numel() == 1
            assert picture[inside].min() > picture[~inside].max()
    assert all(picture[~inside].unique().numel() > 1 for picture in changed[:, 0].mean(1))
    assert not torch.equal(changed[:, 1], changed[:, 2]), "each camera draws its own"
    alone = augment_images(square[2:3], ids[2:3], SLOTS, Augmentation(preset="openpi"), seed=1)
    assert torch.equal(alone[0], changed[2]), "a sample's draws depend on its id alone"
    assert not torch.equal(augment_images(square, ids, SLOTS, Augmentation(preset="openpi"), seed=2), changed)
