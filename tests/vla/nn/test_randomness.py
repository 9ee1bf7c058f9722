"""Draws are functions of (seed, stream, sample id) alone."""

import torch

from vla.nn.randomness import normal_like_ids, uniform_like_ids


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
