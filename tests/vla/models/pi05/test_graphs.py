"""Recordings: found by shape, fed without being made again, few kept; and on a CUDA device, equal to the sampler."""

import copy
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.vla.models.pi05.students import prefix_of, tiny_student
from tests.vla.models.pi05.test_inference import assert_equal, noise_of, ragged
from vla.models.pi05.graphs import GraphCache, Recording, Sample, own_copies
from vla.models.pi05.inference import Sampler
from vla.models.pi05.model import Pi05, Prefix
from vla.models.pi05.packing import PackedPrefix, pad_to_bucket
from vla.models.pi05.sample import sample_actions


@dataclass
class EagerRecorder:
    """Stands in for CUDA: like a graph, its replay reads the recorded tensors and writes into one output."""

    made: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, sample: Sample, prefix: PackedPrefix, noise: Tensor) -> Recording:
        self.made.append(tuple(prefix.image_valid.shape) + (prefix.tokens.shape[1],))
        own_prefix, own_noise = own_copies(prefix, noise)
        actions = sample(own_prefix, own_noise)
        return Recording(own_prefix, own_noise, actions, lambda: void(actions.copy_(sample(own_prefix, own_noise))))


def void(_: Tensor) -> None: ...


def recorded(model: Pi05, most: int = 8) -> tuple[Sampler, EagerRecorder]:
    sampler, recorder = Sampler(copy.deepcopy(model)), EagerRecorder()
    sampler.pack = partial(pad_to_bucket, bucket=4)
    sampler.cache = GraphCache(sampler.student.sample, recorder, most)
    return sampler, recorder


@torch.no_grad()
def test_a_bucket_gives_what_the_exact_sampler_gives():
    model = tiny_student()
    sampler, recorder = recorded(model)
    for prefix in (prefix_of(model.config, (5, 3)), prefix_of(model.config, (7, 8), seed=4), ragged(model)):
        noise = noise_of(model, len(prefix.tokens))
        assert_equal(sampler(prefix, noise), sample_actions(model, prefix, noise))
    assert recorder.made == [(2, 2, 8), (3, 3, 12)]  # texts of 5 and of 8 tokens share one


@torch.no_grad()
def test_answers_stay_when_the_recording_runs_again():
    model = tiny_student()
    sampler, _ = recorded(model)
    prefix, noise = prefix_of(model.config), noise_of(model, 2)
    first = sampler(prefix, noise)
    kept = first.clone()
    second = sampler(prefix, noise_of(model, 2, seed=9))
    assert torch.equal(first, kept)
    assert not torch.equal(first, second)


@torch.no_grad()
def test_cameras_have_their_own_recordings_and_the_oldest_goes():
    model = tiny_student()
    sampler, recorder = recorded(model, most=2)
    prefix, noise = prefix_of(model.config), noise_of(model, 2)
    one = Prefix(prefix.images, torch.tensor([[True, False], [False, True]]), prefix.tokens, prefix.token_mask)
    longer = prefix_of(model.config, (9, 9))
    for each in (prefix, one, prefix, longer, prefix, one):
        assert_equal(sampler(each, noise), sample_actions(model, each, noise))
    assert recorder.made == [(2, 2, 8), (2, 1, 8), (2, 2, 12), (2, 1, 8)]
    assert sampler.cache is not None
    assert [shape[1:3] for shape in sampler.cache.shapes] == [(2, 8), (1, 8)]


def test_graphs_need_a_cuda_device():
    with pytest.raises(ValueError, match="graphs is True, but the model is on cpu"):
        Sampler(tiny_student(), graphs=True)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@torch.no_grad()
def test_cuda_graphs_give_what_the_exact_sampler_gives(compiled: bool):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = tiny_student().cuda()
    sampler = Sampler(copy.deepcopy(model), compiled=compiled, graphs=True)
    for lengths, seed in (((5, 3), 0), ((12, 9), 1), ((20, 20), 2), ((5, 3), 3)):
        prefix = prefix_of(model.config, lengths, seed=seed)
        prefix = Prefix(*(part.cuda() for part in vars(prefix).values()))
        noise = noise_of(model, 2, seed).cuda()
        torch.testing.assert_close(sampler(prefix, noise), sample_actions(model, prefix, noise), atol=1e-5, rtol=1e-5)
    assert sampler.cache is not None
    assert len(sampler.cache.shapes) == 2
