"""Appendix F's policy: what it reads, in which order it decides, and where its weights come from."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lam.clam.config import ChunkPolicyConfig
from lam.clam.frames import Frames
from lam.clam.initialise import initial_value
from lam.clam.networks.chunk_policy import ChunkPolicy, grid_positions, published_value, sinusoids

SMALL = ChunkPolicyConfig(chunk_size=4, width=16, feedforward=24, num_heads=2, num_layers=2, tokens_per_camera=3)


def _policy(state_dim: int, cameras: int) -> ChunkPolicy:
    network = ChunkPolicy(state_dim, cameras, 5, SMALL)
    generator = torch.Generator().manual_seed(0)
    network.load_state_dict({name: initial_value(network, name, generator) for name in network.state_dict()})
    return network.eval()


def test_sinusoids_are_the_usual_ones() -> None:
    found = sinusoids(torch.tensor([0, 3]), 8)
    assert torch.allclose(found[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    assert found[1, 1].item() == pytest.approx(math.sin(3 / 10))
    assert found[1, 7].item() == pytest.approx(math.cos(3 / 1000))
    grid = grid_positions(2, 3, 8, torch.device("cpu"))
    assert grid.shape == (6, 8)
    assert torch.equal(grid[1], torch.cat([sinusoids(torch.tensor([0]), 4)[0], sinusoids(torch.tensor([1]), 4)[0]]))


def test_a_policy_of_states_reads_every_frame_in_its_place() -> None:
    policy = _policy(6, 0)
    torch.manual_seed(0)
    states = torch.randn(2, 3, 6)
    chunk = policy(Frames(state=states))
    assert chunk.shape == (2, 4, 5)
    for place in range(3):
        moved = states.clone()
        moved[1, place] += 1
        changed = (policy(Frames(state=moved)) != chunk).any(-1)
        assert changed.tolist() == [[False] * 4, [True] * 4]
    assert not torch.allclose(policy(Frames(state=states.flip(1))), chunk)


def test_an_action_token_minds_no_later_one() -> None:
    policy, states = _policy(6, 0), torch.ones(1, 1, 6)
    chunk = policy(Frames(state=states))
    with torch.no_grad():
        policy.action_tokens.weight[2] += 1
    after = policy(Frames(state=states))
    assert [not torch.equal(chunk[:, i], after[:, i]) for i in range(4)] == [False, False, True, True]


def test_a_policy_of_cameras_and_state_reads_each_of_them() -> None:
    policy = _policy(6, 2)
    torch.manual_seed(0)
    frames = Frames(torch.randn(2, 2, 6), torch.rand(2, 2, 6, 64, 64) * 2 - 1)
    assert frames.image is not None
    chunk = policy(frames)
    assert chunk.shape == (2, 4, 5)
    for place, channel, read in ((0, 0, False), (1, 1, True), (1, 4, True)):
        moved = frames.image.clone()
        moved[:, place, channel] *= -1
        assert torch.allclose(policy(frames._replace(image=moved)), chunk, atol=1e-6) is not read
    alone = policy(Frames(*(part[1:] for part in frames if part is not None)))
    assert torch.allclose(alone, chunk[1:], atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in policy.modules())  # they mind the whole batch


def test_where_a_thing_is_is_kept() -> None:
    """The same features in other places give other tokens."""
    torch.manual_seed(0)
    stem = _policy(0, 1).stems[0]
    features = torch.randn(1, 512, 2, 2)
    assert not torch.allclose(stem(features), stem(features.flip(-1)), atol=1e-4)


def test_the_page_s_sizes() -> None:
    """224 pixels give 7 x 7 features of 512 numbers, chunks of 5 are read by tokens of 512."""
    config = ChunkPolicyConfig()
    with torch.device("meta"):
        policy = ChunkPolicy(7, 2, 16, config)
    assert config.chunk_size == 5
    assert config.width == 512
    assert policy.backbone(torch.empty(1, 3, 224, 224, device="meta")).shape == (1, 512, 7, 7)
    frames = Frames(torch.empty(1, 1, 7, device="meta"), torch.empty(1, 1, 6, 224, 224, device="meta"))
    assert policy._tokens(frames)[0].shape == (1, 16, 512)
    convolutions = sum(m.weight.numel() for m in policy.backbone.modules() if isinstance(m, nn.Conv2d))
    assert convolutions == 11_166_912  # ResNet18's 11,176,512 without its norms' 9,600


def test_published_weights_are_taken_by_name(tmp_path: Path) -> None:
    policy = ChunkPolicy(0, 1, 5, SMALL)
    theirs = {name.removeprefix("net."): torch.full_like(v, 2) for name, v in policy.backbone.state_dict().items()}
    theirs |= {"fc.weight": torch.zeros(1000, 512), "bn1.num_batches_tracked": torch.zeros(())}
    save_file(theirs, tmp_path / "resnet18.safetensors")
    config = replace(SMALL, resnet=str(tmp_path / "resnet18.safetensors"))
    for name, value in policy.state_dict().items():
        found = published_value(name, value.shape, config)
        if name.startswith("backbone."):
            assert found is not None
            assert found.shape == value.shape
            assert (found == 2).all()
        else:
            assert found is None
    assert published_value("backbone.net.conv1.weight", torch.Size((64, 3, 7, 7)), SMALL) is None
    with pytest.raises(ValueError, match=r"its conv1.weight is \[64, 3, 7, 7\], a ResNet18's is \[1\]"):
        published_value("backbone.net.conv1.weight", torch.Size((1,)), config)
    with pytest.raises(ValueError, match=r"holds no layer9"):
        published_value("backbone.net.layer9", torch.Size((1,)), config)
    with pytest.raises(ValueError, match=r"no such file"):
        published_value("backbone.net.conv1.weight", torch.Size((1,)), replace(SMALL, resnet="nowhere"))


def test_what_does_not_fit_says_so() -> None:
    with pytest.raises(ValueError, match="must see something"):
        ChunkPolicy(0, 0, 5, SMALL)
    with pytest.raises(ValueError, match="reads states and these frames have none"):
        _policy(6, 0)(Frames())
    with pytest.raises(ValueError, match="reads 2 cameras, and these frames have 1"):
        _policy(0, 2)(Frames(image=torch.zeros(1, 1, 3, 8, 8)))
    with pytest.raises(ValueError, match="width is 30: give a multiple of 8 heads"):
        ChunkPolicyConfig(width=30)
