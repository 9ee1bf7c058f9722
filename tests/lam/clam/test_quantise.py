import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lam.clam.config import QuantiserConfig
from lam.clam.quantise import FiniteScalarQuantiser, HybridQuantiser, VectorQuantiser, quantiser

GOLDEN = json.loads((Path(__file__).parent / "golden" / "quantisers.json").read_text())
IDS = torch.arange(6)


def started(latent_dim: int, **fields: object) -> VectorQuantiser:
    made = VectorQuantiser(latent_dim, QuantiserConfig(**fields))  # type: ignore[arg-type]
    for name in ("counts", "totals"):
        getattr(made, name).copy_(made.initial_value(name, torch.Generator().manual_seed(3)))
    return made.train()


def near(value: Tensor, golden: object) -> None:
    torch.testing.assert_close(value, torch.tensor(golden), atol=1e-5, rtol=1e-5)


def test_codes_averages_and_loss_are_those_of_vector_quantize_pytorch():
    golden = GOLDEN["vq"]
    made = started(4, num_codes=5, num_codebooks=1, decay=0.9, commitment=0.25, dead_below=0.0)
    made.counts.fill_(1.0)
    made.totals.copy_(torch.tensor(golden["codebook"]))
    for number, step in enumerate(golden["steps"]):
        made.train(number < 3)
        latents = torch.tensor(step["latents"], requires_grad=True)
        quantised, codes, loss = made(latents, IDS)
        near(quantised.detach(), step["quantised"])
        assert codes[..., 0].tolist() == step["codes"]
        # Its commitment loss is one of the training alone; ours is a number of the latents.
        if number < 3:
            near(loss.detach().mean(), torch.tensor(step["loss"]).mean().tolist())
        near(made.counts, step["counts"])
        near(made.totals, step["totals"])
        near(made.codebook(), step["codebook"])


def test_levels_and_codes_are_those_of_its_finite_scalar_quantiser():
    golden = GOLDEN["fsq"]
    made = FiniteScalarQuantiser(8, tuple(golden["levels"]))
    quantised, codes, loss = made(torch.tensor(golden["latents"]), IDS)
    near(quantised, golden["quantised"])
    assert codes.tolist() == golden["codes"]
    assert made.code_sizes == (480, 480)
    assert loss.tolist() == [0.0] * 6


def test_finite_scalar_gradient_is_that_of_the_bounded_latents():
    latents = torch.randn(2, 1, 4, requires_grad=True)
    made = FiniteScalarQuantiser(4, (8, 5, 5, 5))
    made(latents, IDS[:2])[0][..., 1].sum().backward()
    expected = torch.zeros(2, 1, 4)
    # An odd number of levels is not shifted: tanh(x) x reach over half the levels.
    expected[..., 1] = (1 - latents.detach()[..., 1].tanh().square()) * (4 * 1.001 / 2) / 2
    torch.testing.assert_close(latents.grad, expected)


def test_gradient_passes_straight_through_and_the_loss_pulls_latents_to_their_codes():
    made = started(8, commitment=0.5).eval()
    latents = torch.randn(6, 3, 8, requires_grad=True)
    quantised, codes, loss = made(latents, IDS)
    weights = torch.randn(6, 3, 8)
    (quantised * weights).sum().backward()
    torch.testing.assert_close(latents.grad, weights)
    latents.grad = None
    loss.sum().backward()
    torch.testing.assert_close(latents.grad, (latents - quantised).detach() * 2 * 0.5 / 24)
    assert codes.shape == (6, 3, 2)


def test_codes_of_a_latent_go_codebook_by_codebook():
    made = started(16, num_codes=5, num_codebooks=2, codes_per_codebook=2).eval()
    latents = torch.randn(6, 3, 16)
    quantised, codes, _ = made(latents, IDS)
    assert codes.shape == (6, 3, 4)
    assert made.code_sizes == (5,) * 4
    codebook = made.codebook()
    for place, book in enumerate((0, 0, 1, 1)):
        part = slice(4 * place, 4 * place + 4)
        torch.testing.assert_close(quantised[..., part], codebook[book][codes[..., place]])
        nearest = torch.cdist(latents[..., part].flatten(0, 1), codebook[book]).argmin(-1)
        assert nearest.tolist() == codes[..., place].flatten().tolist()


def test_the_first_batch_puts_chosen_codes_on_their_latents():
    made = started(4, num_codes=3, num_codebooks=1, dead_below=0.0)
    latents = torch.randn(6, 50, 4, requires_grad=True)
    _, codes, _ = made(latents, IDS)
    chosen = int(codes.flatten().mode().values)
    mean = latents.detach()[codes[..., 0] == chosen].mean(0)
    torch.testing.assert_close(made.codebook()[0, chosen], mean, atol=0.1, rtol=0.02)


def test_codes_keep_still_in_evaluation_on_frozen_latents_and_on_latents_that_are_not_finite():
    made = started(4, num_codebooks=1)
    before = made.codebook().clone()
    latents = torch.randn(6, 1, 4)
    made(latents, IDS)
    made.eval()(latents.clone().requires_grad_(), IDS)
    made.train()(torch.full((6, 1, 4), torch.nan).requires_grad_(), IDS)
    assert torch.equal(made.codebook(), before)
    made(latents.requires_grad_(), IDS)
    assert not torch.equal(made.codebook(), before)


def test_dead_codes_move_onto_latents_of_the_batch_as_its_ids_say():
    def after(ids: Tensor) -> Tensor:
        made = started(2, num_codes=4, num_codebooks=1, decay=0.5, dead_below=0.5)
        made.counts.copy_(torch.tensor([[9.0, 0.0, 9.0, 0.0]]))
        made.totals.copy_(torch.tensor([[[90.0, 90.0], [0.0, 0.0], [-90.0, -90.0], [0.0, 0.0]]]))
        made.totals[:, [1, 3]] = 1e6  # nowhere near
        made(latents.clone().requires_grad_(), ids)
        return made.codebook()[0]

    latents = torch.randn(6, 1, 2) + 10
    codes = after(IDS)
    rows = {tuple(row) for row in latents[:, 0].tolist()}
    for dead in (1, 3):
        assert any(torch.allclose(codes[dead], torch.tensor(row), atol=1e-2) for row in rows)
    assert not torch.allclose(codes[1], codes[3], atol=1e-2)
    assert torch.equal(after(IDS), codes)
    assert not all(torch.equal(after(IDS + 6 * other)[1], codes[1]) for other in range(1, 5))


def test_codes_cover_what_there_is_to_code_where_dead_ones_move():
    def error(dead_below: float) -> float:
        made = started(2, num_codes=16, num_codebooks=1, decay=0.9, dead_below=dead_below)
        source = torch.Generator().manual_seed(0)
        centres = torch.randn(16, 2, generator=source) * 5
        for step in range(60):
            which = torch.randint(16, (64,), generator=source)
            latents = (centres[which] + 0.01 * torch.randn(64, 2, generator=source))[:, None].requires_grad_()
            made(latents, torch.arange(64) + 64 * step)
        return float((made.eval()(latents, IDS)[0] - latents).detach().square().mean())

    assert error(0.05) < 0.5
    assert error(0.0) > 2


def test_hybrid_leaves_the_rest_of_the_latent_alone():
    config = QuantiserConfig(kind="hybrid", num_codebooks=1, rest_dim=3)
    made = quantiser(8, config)
    assert isinstance(made, HybridQuantiser)
    for name in ("counts", "totals"):
        value = made.quantiser.initial_value(name, torch.Generator().manual_seed(0))
        getattr(made.quantiser, name).copy_(value)
    latents = torch.randn(6, 2, 8)
    quantised, codes, loss = made(latents, IDS)
    assert torch.equal(quantised[..., 5:], latents[..., 5:])
    torch.testing.assert_close(quantised[..., :5], made.quantiser.codebook()[0][codes[..., 0]])
    assert (codes.shape, loss.shape) == ((6, 2, 1), (6,))


@pytest.mark.parametrize(
    ("config", "fix"),
    [
        (QuantiserConfig(num_codebooks=3), "multiple of num_codebooks x codes_per_codebook, 3"),
        (QuantiserConfig(kind="fsq", levels=(5, 5, 5)), "multiple of the 3 lam.quantiser.levels"),
        (QuantiserConfig(kind="hybrid", rest_dim=8), "less than lam.latent_dim=8"),
    ],
)
def test_latents_that_cannot_be_cut_so_are_refused(config: QuantiserConfig, fix: str):
    with pytest.raises(ValueError, match=fix):
        quantiser(8, config)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"lam.quantiser.decay is 1.0: give a number between 0 and 1"):
        QuantiserConfig(decay=1.0)
    with pytest.raises(ValueError, match=r"lam.quantiser.levels is \(2, 5\): give 3 or more"):
        QuantiserConfig(kind="fsq", levels=(2, 5))
