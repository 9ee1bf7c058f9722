"""The paper's parameter count, masks that do not leak, and what each row may see."""

import pytest
import torch
from torch import Tensor, nn

from lam.clam.config import TransformerConfig
from lam.clam.frames import Frames
from lam.clam.networks.transformer import TransformerForward, TransformerInverse

SMALL = TransformerConfig(num_encoder_layers=2, num_decoder_layers=2, width=32, feedforward=48, num_heads=4)
CONTEXT = 3


def _forward(sees_later_latents: bool) -> TransformerForward:
    torch.manual_seed(0)
    config = TransformerConfig(
        num_decoder_layers=2, width=32, feedforward=48, num_heads=4, sees_later_latents=sees_later_latents
    )
    return TransformerForward(input_dim=6, latent_dim=5, out_dim=4, context=CONTEXT, config=config).eval()


def _inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, CONTEXT + 1, 6), torch.randn(2, CONTEXT + 1, 5)


def _shifted(x: Tensor, place: int) -> Tensor:
    x = x.clone()
    x[:, place] += 1
    return x


def _changed_rows(before: Tensor, after: Tensor) -> list[int]:
    return [i for i in range(before.shape[1]) if not torch.equal(before[:, i], after[:, i])]


def test_parameters_are_the_paper_s() -> None:
    """Section G.3, with observations of 39 numbers and latents of 16."""
    config = TransformerConfig()
    with torch.device("meta"):
        parts: list[nn.Module] = [
            TransformerInverse(input_dim=39, head_dim=16, context=1, config=config),
            TransformerForward(input_dim=39, latent_dim=16, out_dim=39, context=1, config=config),
        ]
    assert sum(p.numel() for part in parts for p in part.parameters()) == 8_874_551


@pytest.mark.parametrize("place", range(CONTEXT + 1))
def test_a_later_frame_changes_no_earlier_prediction(place: int) -> None:
    states, latents = _inputs()
    for network in (_forward(True), _forward(False)):
        before = network(Frames(state=states), latents)
        after = network(Frames(state=_shifted(states, place)), latents)
        assert _changed_rows(before, after) == list(range(place, CONTEXT + 1))


@pytest.mark.parametrize("place", range(CONTEXT + 1))
def test_a_later_latent_is_seen_in_the_paper_and_hidden_in_the_release(place: int) -> None:
    states, latents = _inputs()
    for network, first in ((_forward(True), 0), (_forward(False), place)):
        before = network(Frames(state=states), latents)
        after = network(Frames(state=states), _shifted(latents, place))
        assert _changed_rows(before, after) == list(range(first, CONTEXT + 1))


def test_every_latent_has_seen_the_whole_window_and_is_read_after_its_transition() -> None:
    torch.manual_seed(0)
    network = TransformerInverse(input_dim=6, head_dim=5, context=CONTEXT, config=SMALL).eval()
    states = torch.randn(2, CONTEXT + 2, 6)
    latents = network(Frames(state=states))
    assert latents.shape == (2, CONTEXT + 1, 5)
    for place in range(CONTEXT + 2):
        assert _changed_rows(latents, network(Frames(state=_shifted(states, place)))) == list(range(CONTEXT + 1))
    tokens = network.tokens(Frames(state=states))
    assert torch.allclose(latents[:, -1], network.latent_action(tokens[:, -1]))


def test_positions_tell_frames_apart() -> None:
    torch.manual_seed(0)
    network = TransformerInverse(input_dim=6, head_dim=5, context=CONTEXT, config=SMALL).eval()
    states = torch.randn(2, CONTEXT + 2, 6)
    backwards = network(Frames(state=states.flip(1)))[:, 0]
    # Without positions the token of a frame would not depend on where the frame stands.
    assert not torch.allclose(network(Frames(state=states))[:, -2], backwards)


def test_predictions_are_a_batch_of_independent_rows() -> None:
    states, latents = _inputs()
    network = _forward(True)
    both = network(Frames(state=states), latents)
    assert torch.allclose(both[1:], network(Frames(state=states[1:]), latents[1:]), atol=1e-6)


def test_what_does_not_fit_says_so() -> None:
    config = TransformerConfig(max_positions=4)
    with pytest.raises(ValueError, match=r"max_positions is 4, and 5 are needed"):
        TransformerInverse(input_dim=6, head_dim=5, context=CONTEXT, config=config)
    with pytest.raises(ValueError, match=r"reads states"):
        _forward(True)(Frames(image=torch.zeros(1, 4, 3, 8, 8)), torch.zeros(1, 4, 5))
