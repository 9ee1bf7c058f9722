"""The paper's parameter count, patches, and what each row may see."""

import math
from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from lam.clam.config import SpaceTimeConfig
from lam.clam.frames import Frames
from lam.clam.initialise import initial_value
from lam.clam.networks.space_time import SpaceTimeForward, SpaceTimeInverse, patchify, unpatchify

Network = TypeVar("Network", bound=nn.Module)

CONTEXT = 2
SMALL = SpaceTimeConfig(
    image_size=8, patch_size=4, num_encoder_layers=2, num_decoder_layers=2, width=16, feedforward=24, num_heads=2
)


def _inverse() -> SpaceTimeInverse:
    return _filled(SpaceTimeInverse(3, 5, CONTEXT, SMALL))


def _forward() -> SpaceTimeForward:
    return _filled(SpaceTimeForward(3, 5, 3 * 64, CONTEXT, SMALL))


def _filled(network: Network) -> Network:
    generator = torch.Generator().manual_seed(0)
    values = {name: initial_value(network, name, generator) for name, _ in network.named_parameters()}
    network.load_state_dict(values)
    return network.eval()


def _frames(number: int) -> Frames:
    torch.manual_seed(1)
    return Frames(state=torch.randn(2, number, 6), image=torch.randn(2, number, 3, 8, 8))


def _shifted(x: Tensor, place: int) -> Tensor:
    x = x.clone()
    x[:, place] += 1 + torch.randn(x[:, place].shape)
    return x


def _changed_rows(before: Tensor, after: Tensor) -> list[int]:
    return [i for i in range(before.shape[1]) if not torch.equal(before[:, i], after[:, i])]


def test_parameters_are_the_paper_s() -> None:
    """Section G.2: pictures of 64 x 64 x 3 and latents of 16; three cross-attentions of the count are never used."""
    with torch.device("meta"):
        parts = [
            SpaceTimeInverse(3, 16, 1, SpaceTimeConfig()),
            SpaceTimeForward(3, 16, 3 * 64 * 64, 1, SpaceTimeConfig()),
        ]
        unused = nn.MultiheadAttention(256, 4)
    count = {id(part): sum(p.numel() for p in part.parameters()) for part in [*parts, unused]}
    assert sum(count[id(part)] for part in parts) + 3 * count[id(unused)] == 12_163_344


def test_patches_are_squares_and_come_together_again() -> None:
    picture = torch.arange(2 * 3 * 8 * 8).float().view(2, 3, 8, 8)
    patches = patchify(picture, 4)
    assert patches.shape == (2, 4, 48)
    assert torch.equal(patches[1, 1], picture[1, :, :4, 4:].flatten())
    assert torch.equal(patches[0, 2], picture[0, :, 4:, :4].flatten())
    assert torch.equal(unpatchify(patches, 4, 2), picture)


@pytest.mark.parametrize("place", range(CONTEXT + 1))
@pytest.mark.parametrize("what", ["image", "state", "latents"])
def test_nothing_later_changes_an_earlier_prediction(what: str, place: int) -> None:
    network, frames, latents = _forward(), _frames(CONTEXT + 1), torch.randn(2, CONTEXT + 1, 5)
    before = network(frames, latents)
    if what == "latents":
        after = network(frames, _shifted(latents, place))
    else:
        after = network(frames._replace(**{what: _shifted(getattr(frames, what), place)}), latents)
    assert _changed_rows(before, after) == list(range(place, CONTEXT + 1))


def test_every_latent_has_seen_the_whole_window() -> None:
    network, frames = _inverse(), _frames(CONTEXT + 2)
    latents = network(frames)
    assert latents.shape == (2, CONTEXT + 1, 5)
    assert frames.image is not None
    for place in range(CONTEXT + 2):
        after = network(frames._replace(image=_shifted(frames.image, place)))
        assert _changed_rows(latents, after) == list(range(CONTEXT + 1))


def test_features_are_of_the_last_frame_and_need_no_later_one() -> None:
    network, frames = _inverse(), _frames(CONTEXT + 1)
    features = network.features(frames)
    assert features.shape == (2, network.feature_dim)
    assert features.shape[1] == 5 * SMALL.width
    assert torch.equal(features.view(2, 5, -1), network.tokens(frames)[:, -1])
    assert frames.state is not None
    assert frames.image is not None
    alone = network.features(Frames(frames.state[:, -1:], frames.image[:, -1:]))
    assert not torch.allclose(alone, features)


def test_a_prediction_is_a_picture_laid_flat() -> None:
    """A part of the picture is predicted by the token of that part: blocks that do nothing leave patches alone."""
    network, frames = _forward(), _frames(CONTEXT + 1)
    network.layers = nn.ModuleList()
    latents = torch.zeros(2, CONTEXT + 1, 5)
    before = network(frames, latents).view(2, CONTEXT + 1, 3, 8, 8)
    assert frames.image is not None
    touched = frames.image.clone()
    touched[:, 0, :, :4, 4:] += 1
    after = network(frames._replace(image=touched), latents).view_as(before)
    changed = (before != after).all(dim=2)[0, 0]
    assert changed[:4, 4:].all()
    assert not changed[4:].any()
    assert not changed[:, :4].any()


def test_the_hand_s_numbers_are_read_and_no_others() -> None:
    frames = _frames(CONTEXT + 2)
    assert frames.state is not None
    for network, call in _both():
        before = call(network, frames)
        hand, rest = frames.state.clone(), frames.state.clone()
        hand[..., 3] += 1
        rest[..., 4:] += 1
        assert not torch.equal(before, call(network, frames._replace(state=hand)))
        assert torch.equal(before, call(network, frames._replace(state=rest)))


def _both() -> list[tuple[nn.Module, Callable[[nn.Module, Frames], Tensor]]]:
    latents = torch.zeros(2, CONTEXT + 2, 5)
    return [(_inverse(), lambda n, f: n(f)), (_forward(), lambda n, f: n(f, latents))]


def test_one_token_s_norm_knows_no_other_token() -> None:
    block = _inverse().layers[0]
    assert [m.normalized_shape for m in block.modules() if isinstance(m, nn.LayerNorm)] == [(SMALL.width,)]


def test_what_does_not_fit_says_so() -> None:
    with pytest.raises(ValueError, match=r"image_size is 84: give a multiple of patch_size, 16"):
        SpaceTimeConfig(image_size=84)
    with pytest.raises(ValueError, match=r"state_columns is 4 and these frames have 0 numbers"):
        _inverse()(_frames(CONTEXT + 2)._replace(state=None))
    with pytest.raises(ValueError, match=r"image_size is 8, the frames are \[16, 16\]"):
        _inverse()(Frames(state=torch.zeros(1, 4, 4), image=torch.zeros(1, 4, 3, 16, 16)))
    with pytest.raises(ValueError, match=r"have none: name data.cameras"):
        _inverse()(Frames(state=torch.zeros(1, 4, 4)))


def test_untrained_values_are_of_a_sane_size() -> None:
    prediction = _forward()(_frames(CONTEXT + 1), torch.randn(2, CONTEXT + 1, 5))
    assert 0.1 < prediction.std().item() < 3
    assert math.isfinite(prediction.abs().max().item())
