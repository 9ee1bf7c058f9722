"""The fast sampler gives what the exact one gives, whatever a batch lacks, and holds no weight twice."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.vla.models.pi05.recorded_cases import OTHER
from tests.vla.models.pi05.students import prefix_of, randomise, tiny_student
from vla.models.pi05.config import GemmaConfig, Pi05Config, VisionConfig
from vla.models.pi05.inference import Sampler
from vla.models.pi05.model import Pi05, Prefix
from vla.models.pi05.sample import sample_actions

TWO_KV_HEADS = Pi05Config(
    vision=VisionConfig(width=24, depth=1, mlp_dim=40, num_heads=3, patch_size=8, image_size=24),
    vlm=GemmaConfig(width=20, depth=3, mlp_dim=24, num_heads=4, num_kv_heads=2, head_dim=6),
    expert=GemmaConfig(width=16, depth=3, mlp_dim=20, num_heads=4, num_kv_heads=2, head_dim=6),
    vocab_size=600,
    action_dim=7,
    horizon=5,
    num_steps=4,
)


def assert_equal(fast: Tensor, exact: Tensor) -> None:
    """Within 1e-6, relative above 1: what float32 leaves of sums taken in another order."""
    torch.testing.assert_close(fast, exact, atol=1e-6, rtol=1e-6)


def noise_of(model: Pi05, batch: int, seed: int = 3) -> Tensor:
    shape = (batch, model.config.horizon, model.config.action_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ragged(model: Pi05) -> Prefix:
    """Three rows: of cameras 0 and 2, of camera 1, of all; with 5, 9 and 2 tokens of 12."""
    seen = torch.tensor([[True, False, True], [False, True, False], [True, True, True]])
    prefix = prefix_of(model.config, (5, 9, 2), cameras=3)
    tokens = torch.nn.functional.pad(prefix.tokens, (0, 3))
    return Prefix(prefix.images, seen, tokens, torch.nn.functional.pad(prefix.token_mask, (0, 3)))


def rows(prefix: Prefix, index: slice) -> Prefix:
    return Prefix(prefix.images[index], prefix.image_mask[index], prefix.tokens[index], prefix.token_mask[index])


@torch.no_grad()
def both(model: Pi05, prefix: Prefix, noise: Tensor) -> tuple[Tensor, Tensor]:
    return sample_actions(model, prefix, noise), Sampler(copy.deepcopy(model))(prefix, noise)


@pytest.mark.parametrize("config", [OTHER, TWO_KV_HEADS], ids=["other sizes", "two key heads"])
def test_equals_the_exact_sampler_at_other_sizes(config: Pi05Config):
    model = Pi05(config)
    randomise(model)
    prefix = prefix_of(config, (6, 6))
    tokens = prefix.tokens % config.vocab_size
    exact, fast = both(model, Prefix(prefix.images, prefix.image_mask, tokens, prefix.token_mask), noise_of(model, 2))
    assert exact.abs().max() > 0.5
    assert_equal(fast, exact)


@pytest.mark.parametrize(
    "overrides",
    [{}, {"latent": None}, {"keep_latent_tokens": False}, {"gripper_logit": True}],
    ids=["latent queries", "no latents", "queries dropped", "gripper logit"],
)
def test_equals_the_exact_sampler_on_ragged_rows(overrides: dict[str, Any]):
    model = tiny_student(**overrides)
    exact, fast = both(model, ragged(model), noise_of(model, 3))
    assert_equal(fast, exact)


def test_a_row_is_what_it_is_alone():
    model = tiny_student()
    sampler, prefix, noise = Sampler(model), ragged(model), noise_of(model, 3)
    together = sampler(prefix, noise)
    for row in range(3):
        alone = sampler(rows(prefix, slice(row, row + 1)), noise[row : row + 1])
        assert_equal(together[row : row + 1], alone)


def test_a_prefix_without_any_camera():
    model = tiny_student()
    prefix = prefix_of(model.config)
    blind = Prefix(prefix.images, torch.zeros_like(prefix.image_mask), prefix.tokens, prefix.token_mask)
    exact, fast = both(model, blind, noise_of(model, 2))
    assert_equal(fast, exact)


def test_absent_dimensions_stay_zero():
    model = tiny_student()
    noise = noise_of(model, 2)
    noise[0, :, 30:] = 0
    fast = Sampler(model)(prefix_of(model.config), noise)
    assert torch.equal(fast[0, :, 30:], torch.zeros_like(fast[0, :, 30:]))
    assert (fast[1, :, 30:] != 0).all()


def test_bfloat16_is_near_and_keeps_the_float32_islands():
    model = tiny_student()
    prefix, noise = prefix_of(model.config), noise_of(model, 2)
    exact = sample_actions(model, prefix, noise)
    fast = Sampler(model, torch.bfloat16)(prefix, noise)
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, exact, atol=0.05, rtol=0)
    assert not torch.allclose(fast, exact, atol=1e-5, rtol=0)
    kept = {name for name, parameter in model.named_parameters() if parameter.dtype == torch.float32}
    assert "action_out_proj.weight" in kept
    assert "paligemma_with_expert.gemma_expert.model.norm.dense.weight" in kept
    assert "paligemma_with_expert.paligemma.lm_head.weight" not in kept


@torch.no_grad()
def test_the_model_still_works_and_nothing_is_held_twice():
    model = tiny_student()
    prefix, noise = prefix_of(model.config), noise_of(model, 2)
    exact, names = sample_actions(model, prefix, noise), set(model.state_dict())
    sampler = Sampler(model)
    assert torch.equal(sample_actions(model, prefix, noise), exact)
    assert set(model.state_dict()) == names
    layer = model.expert.layers[0]
    query, up = (layer.get_parameter(f"{name}_proj.weight") for name in ("self_attn.q", "mlp.up"))
    query.data.zero_()
    up.data.zero_()
    assert sampler.student.expert[0].qkv[: len(query)].count_nonzero() == 0
    assert sampler.student.expert[0].gate_up[len(up) :].count_nonzero() == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler uses what torch deprecates
@torch.no_grad()
def test_compiled_layers_give_what_plain_ones_give():
    model = tiny_student(latent=None)
    sampler = Sampler(copy.deepcopy(model), compiled=True)
    for lengths in ((5, 3), (20, 17), (6,)):
        prefix, noise = prefix_of(model.config, lengths), noise_of(model, len(lengths))
        torch.testing.assert_close(sampler(prefix, noise), sample_actions(model, prefix, noise), atol=1e-5, rtol=1e-5)
