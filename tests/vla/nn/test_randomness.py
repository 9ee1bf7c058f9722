"""Draws are functions of (seed, stream, sample id) alone."""

import pytest
import torch

from vla.nn.randomness import batch_seed, drawing_from, keep_by_ids, normal_like_ids, uniform_like_ids


def test_rows_do_not_depend_on_their_batch():
    ids = torch.tensor([3, 2**40, 9])
    whole = normal_like_ids(ids, (4, 2), seed=1, stream=5)
    for row in range(3):
        assert torch.equal(normal_like_ids(ids[row : row + 1], (4, 2), 1, 5)[0], whole[row])


def test_seed_stream_and_id_all_matter():
    ids = torch.arange(100)
    draws = [normal_like_ids(ids, (8,), seed, stream) for seed, stream in ((0, 0), (0, 1), (1, 0))]
    rows = torch.cat(draws)
    assert len(torch.unique(rows, dim=0)) == 300
    assert rows.mean().abs() < 0.1
    assert 0.9 < rows.std() < 1.1


def test_uniform_range():
    draws = uniform_like_ids(torch.arange(1000), (), seed=0, stream=0)
    assert 0 <= draws.min() < 0.01
    assert 0.99 < draws.max() < 1


def test_dropout_masks_belong_to_the_sample_and_the_stream():
    ids = torch.arange(1000, 1064)
    keep = keep_by_ids(ids, 512, 0.3, stream=4)
    assert keep.float().mean().item() == pytest.approx(0.7, abs=0.01)
    assert torch.equal(keep_by_ids(ids[10:20], 512, 0.3, stream=4), keep[10:20])
    assert torch.equal(keep_by_ids(ids, 100, 0.3, stream=4), keep[:, :100])
    for other in (keep_by_ids(ids, 512, 0.3, stream=5), keep_by_ids(ids + 1, 512, 0.3, stream=4)[:, 1:]):
        agree = (other == keep[:, : other.shape[1]]).float().mean().item()
        assert agree == pytest.approx(0.7**2 + 0.3**2, abs=0.02), "independent masks agree by chance alone"
    by_row, by_place = keep.float().mean(1), keep.float().mean(0)
    assert by_row.std().item() == pytest.approx((0.21 / 512) ** 0.5, rel=0.3)
    assert by_place.std().item() == pytest.approx((0.21 / 64) ** 0.5, rel=0.3)


def test_draws_of_a_block_follow_from_its_seed_and_disturb_no_others() -> None:
    torch.manual_seed(0)
    plain = torch.rand(6)
    torch.manual_seed(0)
    first = torch.rand(3)
    with drawing_from(7, torch.device("cpu")):
        inside = torch.rand(4)
    assert torch.equal(torch.cat([first, torch.rand(3)]), plain)
    with drawing_from(7, torch.device("cpu")):
        assert torch.equal(torch.rand(4), inside)
    with drawing_from(8, torch.device("cpu")):
        assert not torch.equal(torch.rand(4), inside)


def test_a_batchs_seed_is_its_first_samples() -> None:
    ids = torch.tensor([5, 6, 7])
    assert batch_seed(ids, 1, 2) == batch_seed(ids[:1], 1, 2)
    assert len({batch_seed(ids, 1, 2), batch_seed(ids[1:], 1, 2), batch_seed(ids, 2, 2), batch_seed(ids, 1, 3)}) == 4
