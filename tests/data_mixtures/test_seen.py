import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data_mixtures.batch import Batch
from data_mixtures.statistics.seen import THUMBNAIL, Seen, thumbnail


def batch(frames: np.ndarray, there: list[bool]) -> Batch:
    """Frames uint8 [n, H, W, 3] of camera `front`, of which only those that are `there` count."""
    images = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())[:, None, None]
    count = len(frames)
    return Batch(
        images=torch.cat([images, torch.zeros_like(images)], dim=2),
        camera_mask=torch.tensor([[shown, False] for shown in there]),
        state=torch.zeros(count, 46),
        state_mask=torch.zeros(count, 46, dtype=torch.bool),
        actions=torch.zeros(count, 4, 44),
        action_mask=torch.zeros(count, 4, 44, dtype=torch.bool),
        instruction=[""] * count,
        subtask=[""] * count,
        sample_ids=torch.arange(count),
    )


def painted() -> np.ndarray:
    """Two frames [2, 40, 40, 3]: red 200 on the upper half and 100 below; the second one 20 brighter in blue."""
    frames = np.zeros((2, 40, 40, 3), dtype=np.uint8)
    frames[:, :20, :, 0], frames[:, 20:, :, 0] = 200, 100
    frames[1, :, :, 2] = 20
    return frames


def test_figures_of_painted_frames(tmp_path: Path) -> None:
    black = np.zeros((1, 40, 40, 3), dtype=np.uint8)
    batches = [batch(painted(), [True, True]), batch(black, [False])]
    seen = Seen.of(batches, ["front", "wrist"], [20.0, 20.0000001, 10.0], crop=0.9)
    assert list(seen.cameras) == ["front"], "no frame of the wrist camera was there"
    front = seen.cameras["front"]
    assert front.frames == 2, "the frame that could not be had does not count"
    assert front.mean == (150.0, 0.0, 10.0)
    assert front.std == (50.0, 0.0, 10.0)
    assert front.mean_spread == (0.0, 0.0, 10.0)
    small = np.array(front.thumbnail)
    np.testing.assert_allclose(small[:8], np.broadcast_to([200, 0, 10], (8, 16, 3)))
    np.testing.assert_allclose(small[8:], np.broadcast_to([100, 0, 10], (8, 16, 3)))
    assert seen.control_hz == (10.0, 20.0)
    seen.save(tmp_path)
    assert Seen.load(tmp_path) == seen
    assert (tmp_path / "seen.json").stat().st_size < 20_000


@pytest.mark.parametrize("side", [16, 24, 40, 100])
def test_a_thumbnail_is_an_area_average(side: int) -> None:
    ramp = np.broadcast_to(np.arange(side, dtype=np.uint8)[:, None, None], (1, side, side, 3))
    small = thumbnail(ramp)
    assert small.shape == (THUMBNAIL, THUMBNAIL, 3)
    np.testing.assert_allclose(small.mean(), ramp.mean())
    # The mean of a ramp over a part of it is its middle.
    np.testing.assert_allclose(small[:, 0, 0], (np.arange(16) + 0.5) * side / 16 - 0.5, atol=0.13)


def test_an_old_checkpoint_has_none_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert Seen.load(tmp_path) is None
    Seen.of([batch(painted(), [True, True])], ["front", "wrist"], [20.0]).save(tmp_path)
    stored = json.loads((tmp_path / "seen.json").read_text())
    for change, words in (
        ({"cameras": 3}, "cameras is 3"),
        ({"control_hz": [0]}, r"control_hz is \[0\]"),
        ({"crop": 2.0}, "crop is 2.0"),
        ({"cameras": {"front": {"mean": [1, 2]}}}, "figures of camera 'front'"),
    ):
        (tmp_path / "seen.json").write_text(json.dumps(stored | change))
        with pytest.raises(ValueError, match=words):
            Seen.load(tmp_path)
