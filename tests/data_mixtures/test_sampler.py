"""Both samplers as functions of (seed, id): golden draws, shares, exact epochs, sizes beyond float64, speed."""

import time

import numpy as np
import pytest
import torch

from data_mixtures.sampling.id_hash import hash_ids, uniform, uniform_tensor
from data_mixtures.sampling.permutation import LARGEST, Permutation
from data_mixtures.sampling.sampler import EpochSampler, Sampler


def test_golden_draws() -> None:
    """Numbers of the first version: a run started with it goes on with the same samples."""
    dataset, window = Sampler([2, 1], [50, 70], seed=11).draw(np.arange(12))
    assert dataset.tolist() == [0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0]
    assert window.tolist() == [6, 11, 48, 50, 48, 37, 5, 24, 2, 5, 53, 11]
    ids = np.array([0, 1, 2, 3, 7, 1000, 10**6, 2**40, 2**62])
    dataset, window = Sampler([1.0, 3.0, 0.5], [100, 2**33 + 7, 5], seed=5).draw(ids)
    assert dataset.tolist() == [1, 1, 1, 2, 1, 1, 1, 1, 1]
    assert window.tolist() == [
        *(7306589370, 4870052996, 6242898220, 0, 1030125315),
        *(8178203844, 7439143424, 245884417, 6896746217),
    ]
    assert hash_ids(5, 2, ids[:2]).tolist() == [15690781183690530629, 10458359167043097665]
    assert uniform(2**63 + 1, 1, ids[:2]).tolist() == [0.5229870478326366, 0.8111158858868056]


def test_the_tensor_hash_gives_the_same_numbers() -> None:
    ids = np.array([0, 1, 5, 2**40 + 3, 2**62 + 1, 2**63 - 1])
    for seed in (0, 7, -3, 2**63 + 11):
        expected = np.stack([uniform(seed, stream, ids) for stream in (0, 4, 2**52)], axis=1)
        drawn = uniform_tensor(seed, torch.tensor([0, 4, 2**52]), torch.from_numpy(ids))
        np.testing.assert_array_equal(drawn.numpy(), expected)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 97, 1000, 4096, 4097])
def test_a_permutation_has_every_element_once_and_an_inverse(size: int) -> None:
    order = Permutation(size, seed=3, key=8)
    elements = order(np.arange(size))
    assert sorted(elements.tolist()) == list(range(size))
    np.testing.assert_array_equal(order.inverse(elements), np.arange(size))


@pytest.mark.parametrize("size", [2**53 + 1, 2**60 - 93, LARGEST])
def test_permutations_stay_exact_beyond_float64(size: int) -> None:
    order = Permutation(size, seed=1, key=0)
    places = np.concatenate([np.arange(2000), size - 1 - np.arange(2000), 2**52 + np.arange(2000)])
    elements = order(places)
    assert elements.min() >= 0
    assert elements.max() < size
    assert len(np.unique(elements)) == len(np.unique(places))
    assert len(np.unique(elements % 2)) == 2, "odd ones too, which float64 could not name"
    np.testing.assert_array_equal(order.inverse(elements), places)


def test_permutations_are_spread_evenly() -> None:
    """Every place holds every element about equally often, and neighbours do not stay neighbours."""
    counts = np.zeros((7, 7))
    for key in range(3000):
        counts[np.arange(7), Permutation(7, 0, key)(np.arange(7))] += 1
    expected = 3000 / 7
    assert ((counts - expected) ** 2 / expected).sum() < 80  # chi-square, 36 degrees of freedom: mean 36, sd 8.5
    steps = np.diff(Permutation(10_000, 0, 0)(np.arange(10_000)))
    assert (np.abs(steps) < 10).mean() < 0.004
    assert abs(np.corrcoef(np.arange(10_000), Permutation(10_000, 0, 0)(np.arange(10_000)))[0, 1]) < 0.04


def test_an_epoch_has_every_window_once_and_its_own_order() -> None:
    counts = [3, 50, 1, 20]
    sampler = EpochSampler(counts, seed=4)
    assert sampler.epoch_size == 74
    everything = {(dataset, window) for dataset, count in enumerate(counts) for window in range(count)}
    epochs = [list(zip(*map(np.ndarray.tolist, sampler.draw(np.arange(74) + 74 * e)), strict=True)) for e in range(3)]
    for epoch in epochs:
        assert len(epoch) == 74
        assert set(epoch) == everything
    assert epochs[0] != epochs[1] != epochs[2]
    other = EpochSampler(counts, seed=5).draw(np.arange(74))[1]
    assert other.tolist() != [window for _, window in epochs[0]]


@pytest.mark.parametrize("world", [2, 8])
def test_epochs_are_the_same_for_every_world_and_resume_anywhere(world: int) -> None:
    ids = np.arange(40, 168)  # across the border of two epochs of 101
    whole = np.stack(EpochSampler([60, 41], seed=9).draw(ids))
    ranks = [EpochSampler([60, 41], seed=9) for _ in range(world)]
    for step in np.split(np.arange(len(ids)), 4):
        for rank, part in zip(ranks, np.split(step, world), strict=True):
            np.testing.assert_array_equal(np.stack(rank.draw(ids[part])), whole[:, part])


def test_the_largest_epochs_are_exact() -> None:
    counts = [2**61, 2**61 - 5]
    dataset, window = EpochSampler(counts, seed=0).draw(np.arange(5000))
    assert len(set(zip(dataset.tolist(), window.tolist(), strict=True))) == 5000
    assert (window < np.array(counts)[dataset]).all()
    assert (window >= 0).all()
    assert 0.4 < dataset.mean() < 0.6


def test_counts_that_cannot_be_drawn_are_refused() -> None:
    for counts in ([], [5, 0], [2**53, 1]):
        with pytest.raises(ValueError, match=r"num_windows is .* at most 2\^53"):
            Sampler([1.0] * len(counts), counts, seed=0)
    for counts in ([], [5, 0], [2**62, 1]):
        with pytest.raises(ValueError, match=r"num_windows is .* at most 2\^62"):
            EpochSampler(counts, seed=0)
    with pytest.raises(ValueError, match=r"7\.\.7 is asked of a permutation of 0\.\.6"):
        Permutation(7, 0, 0)(np.array([7]))


@pytest.mark.parametrize("kind", [Sampler, EpochSampler])
def test_512_ids_are_drawn_within_a_millisecond(kind: type) -> None:
    counts = [10**9 // 27 + 1] * 27
    sampler = Sampler([1.0] * 27, counts, 0) if kind is Sampler else EpochSampler(counts, 0)
    ids, spent = np.arange(512) + 10**9 - 256, []
    for _ in range(20):
        started = time.thread_time()  # of this thread: other processes do not count
        sampler.draw(ids)
        spent.append(time.thread_time() - started)
    assert min(spent) < 1e-3
