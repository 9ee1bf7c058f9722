"""The IMPALA-CNN and LAPO's networks: sizes, what is read, and that a sample minds no other."""

import pytest
import torch
from torch import nn

from lam.clam.config import ImpalaConfig, ImpalaDynamicsConfig
from lam.clam.frames import Frames
from lam.clam.initialise import initial_value
from lam.clam.networks.impala import ImpalaEncoder
from lam.clam.networks.impala_dynamics import ImpalaForward, ImpalaInverse

CONTEXT = 1
SMALL = ImpalaDynamicsConfig(ImpalaConfig(image_size=16, channels=(2, 4), scale=2, feature_dim=12), base_width=8)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _conv(a: int, b: int, k: int = 3) -> int:
    return a * b * k * k + b


def _fill(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    network.load_state_dict({name: initial_value(network, name, generator) for name in network.state_dict()})


@pytest.mark.parametrize(("size", "left"), [(64, 8), (84, 11)])
def test_the_encoder_is_lapo_s(size: int, left: int) -> None:
    with torch.device("meta"):
        encoder = ImpalaEncoder(9, ImpalaConfig(image_size=size))
    groups = sum(_conv(a, b) + 4 * _conv(b, b) for a, b in ((9, 64), (64, 128), (128, 128)))
    assert _count(encoder) == groups + 128 * left**2 * 256 + 256
    frames = Frames(image=torch.empty(2, 3, 3, size, size, device="meta"))
    assert encoder(frames).shape == (2, 256)


def test_the_u_net_is_lapo_s() -> None:
    """Widths 24 .. 768 with the latent beside the picture and at the bottom, at LAPO's 64 pixels."""

    def residual(width: int) -> int:
        return _conv(width, width // 2) + _conv(width // 2, width)

    with torch.device("meta"):
        network = ImpalaForward(3, 16, 3 * 64 * 64, 1, ImpalaDynamicsConfig())
    widths = [24 * 2**i for i in range(6)]
    down = sum(_conv(a, b) + 2 * b + residual(b) for a, b in zip([6 + 16, *widths], widths[:-1], strict=False))
    bottom = _conv(widths[4], widths[5], 2)
    rising, beside = [*widths[::-1], 24], [16, *widths[4::-1]]
    up = sum((a + e) * b * 4 + b + 2 * b + residual(b) for a, e, b in zip(rising, beside, rising[1:], strict=False))
    last = _conv(24 + 6, 24) + residual(24) + _conv(24, 3, 1)
    assert _count(network) == down + bottom + up + last


def test_latents_and_predictions_mind_every_input_and_no_other_sample() -> None:
    torch.manual_seed(0)
    inverse = ImpalaInverse(3, 5, CONTEXT, SMALL)
    forward = ImpalaForward(3, 5, 3 * 256, CONTEXT, SMALL)
    _fill(inverse)
    _fill(forward)
    image, latents = torch.randn(3, CONTEXT + 2, 3, 16, 16), torch.randn(3, 1, 5)
    found = inverse(Frames(image=image))
    assert found.shape == (3, 1, 5)
    prediction = forward(Frames(image=image[:, :-1]), latents)
    assert prediction.shape == (3, 1, 3 * 256)
    for place in range(CONTEXT + 2):
        moved = image.clone()
        moved[1, place] += 1
        changed = (inverse(Frames(image=moved)) - found).abs().amax((1, 2)) > 1e-5
        assert changed.tolist() == [False, True, False]
        if place < CONTEXT + 1:
            changed = (forward(Frames(image=moved[:, :-1]), latents) - prediction).abs().amax((1, 2)) > 1e-5
            assert changed.tolist() == [False, True, False]
    moved = latents.clone()
    moved[2] += 1
    changed = (forward(Frames(image=image[:, :-1]), moved) - prediction).abs().amax((1, 2)) > 1e-5
    assert changed.tolist() == [False, False, True]


def test_a_prediction_is_a_picture_laid_flat() -> None:
    """What is learned is where it was asked for: a few updates draw one bright corner of one channel."""
    torch.manual_seed(0)
    network = ImpalaForward(3, 2, 3 * 256, CONTEXT, SMALL)
    target = torch.zeros(1, 1, 3, 16, 16)
    target[..., 1, :8, 8:] = 1
    frames, latents = Frames(image=torch.randn(1, CONTEXT + 1, 3, 16, 16)), torch.zeros(1, 1, 2)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(40):
        loss = (network(frames, latents) - target.flatten(2)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    drawn = network(frames, latents).view_as(target)[0, 0]
    assert drawn[1, :8, 8:].mean() > 0.7
    assert drawn[0].abs().mean() < 0.3
    assert drawn[1, 8:].abs().mean() < 0.3


def test_what_does_not_fit_says_so() -> None:
    with pytest.raises(ValueError, match=r"image_size is 84: give a power of two"):
        ImpalaDynamicsConfig(ImpalaConfig(image_size=84))
    with pytest.raises(ValueError, match=r"these frames have none: name data\.cameras"):
        ImpalaInverse(3, 5, CONTEXT, SMALL)(Frames(state=torch.zeros(1, 3, 4)))
    with pytest.raises(ValueError, match=r"image_size is 16, the frames are \[8, 8\]"):
        ImpalaInverse(3, 5, CONTEXT, SMALL)(Frames(image=torch.zeros(1, 3, 3, 8, 8)))
