"""Who sees whom, and that every shortcut gives what the long way gives."""

import pytest
import torch

from tests.vla.models.pi05.students import prefix_of, tiny_config, tiny_student
from vla.models.pi05.config import GemmaConfig, VisionConfig
from vla.models.pi05.generate import generate_text
from vla.models.pi05.model import NoisyActions, Pi05, Prefix, TextTokens
from vla.models.pi05.sample import gripper_velocity, sample_actions
from vla.models.pi05.tokenizer import EOS


def text_of(batch: int, length: int, seed: int = 1) -> TextTokens:
    tokens = torch.randint(4, 500, (batch, length), generator=torch.Generator().manual_seed(seed))
    return TextTokens(tokens, torch.ones(batch, length, dtype=torch.bool))


def noisy_of(model: Pi05, batch: int, draws: int = 1, seed: int = 2) -> NoisyActions:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch * draws, model.config.horizon, model.config.action_dim)
    return NoisyActions(torch.randn(shape, generator=generator), torch.rand(batch * draws, generator=generator))


def test_prefix_and_queries_never_see_text():
    model = tiny_student()
    prefix = prefix_of(model.config)
    noisy = noisy_of(model, 2)
    alone = model(prefix, read_latents=True, noisy=noisy)
    with_text = model(prefix, read_latents=True, noisy=noisy, text=text_of(2, 4))
    torch.testing.assert_close(with_text["latents"], alone["latents"])
    torch.testing.assert_close(with_text["velocity"], alone["velocity"])


def test_text_is_causal_and_sees_the_prefix():
    model = tiny_student()
    prefix, text = prefix_of(model.config), text_of(2, 4)
    changed = text.tokens.clone()
    changed[:, 2] += 1
    base = model(prefix, text=text)["text_logits"]
    later = model(prefix, text=TextTokens(changed, text.mask))["text_logits"]
    torch.testing.assert_close(later[:, :3], base[:, :3])
    assert (later[:, 3:] - base[:, 3:]).abs().amin(1).max() > 1e-4
    other = model(prefix_of(model.config, seed=5), text=text)["text_logits"]
    assert (other - base).abs().amax(-1).min() > 1e-4


def test_latents_see_image_prompt_and_each_other():
    model = tiny_student()
    prefix = prefix_of(model.config)
    base = model(prefix, read_latents=True)["latents"]
    for changed in (
        Prefix(prefix.images + 0.1, prefix.image_mask, prefix.tokens, prefix.token_mask),
        Prefix(prefix.images, prefix.image_mask, prefix.tokens + prefix.token_mask, prefix.token_mask),
    ):
        assert (model(changed, read_latents=True)["latents"] - base).abs().amax(-1).min() > 1e-5
    assert model.latent_readout is not None
    with torch.no_grad():
        model.latent_readout.motion_queries.add_(0.5)
    assert (model(prefix, read_latents=True)["latents"][:, 0] - base[:, 0]).abs().max() > 1e-5


def test_masked_camera_and_padding_are_not_seen():
    model = tiny_student()
    prefix, noisy = prefix_of(model.config), noisy_of(model, 2)
    mask = torch.tensor([[True, False], [True, False]])
    base = model(Prefix(prefix.images, mask, prefix.tokens, prefix.token_mask), noisy=noisy)["velocity"]
    images, tokens = prefix.images.clone(), prefix.tokens.clone()
    images[:, 1] = -1.0
    tokens[~prefix.token_mask] = 9
    other = model(Prefix(images, mask, tokens, prefix.token_mask), noisy=noisy)["velocity"]
    torch.testing.assert_close(other, base)
    dropped = Prefix(prefix.images[:, :1], mask[:, :1], prefix.tokens, prefix.token_mask)
    torch.testing.assert_close(model(dropped, noisy=noisy)["velocity"], base)


def test_stopping_after_keys_and_values_is_exact():
    model = tiny_student()
    prefix, noisy = prefix_of(model.config), noisy_of(model, 2)
    short, full = model.encode(prefix), model.encode(prefix, needs_hidden=True)
    assert short.hidden is None
    for (key, value), (whole_key, whole_value) in zip(short.cache, full.cache, strict=True):
        assert torch.equal(key, whole_key)
        assert torch.equal(value, whole_value)
    assert torch.equal(model.denoise(short, noisy), model.denoise(full, noisy))


def test_cached_inference_is_the_training_velocity():
    model = tiny_student(num_steps=5)
    prefix, noisy = prefix_of(model.config), noisy_of(model, 2)
    x = noisy.x_t
    for step in range(5):
        time = torch.full((2,), 1 - step / 5)
        x = x - model(prefix, noisy=NoisyActions(x, time))["velocity"] / 5
    torch.testing.assert_close(sample_actions(model, prefix, noisy.x_t), x, atol=1e-5, rtol=1e-5)


def test_draws_share_a_prefix():
    model = tiny_student()
    prefix, noisy = prefix_of(model.config), noisy_of(model, 2, draws=3)
    together = model(prefix, noisy=noisy)["velocity"].unflatten(0, (2, 3))
    for draw in range(3):
        x_t, time = noisy.x_t.unflatten(0, (2, 3))[:, draw], noisy.time.unflatten(0, (2, 3))[:, draw]
        single = model(prefix, noisy=NoisyActions(x_t, time))["velocity"]
        torch.testing.assert_close(together[:, draw], single, atol=1e-5, rtol=1e-5)


def test_dropped_latent_tokens_are_not_in_the_expert_prefix():
    kept, dropped = tiny_student(), tiny_student(keep_latent_tokens=False)
    prefix, noisy = prefix_of(kept.config), noisy_of(kept, 2)
    assert kept.encode(prefix).prefix_length == dropped.encode(prefix).prefix_length + 5
    assert (kept(prefix, noisy=noisy)["velocity"] - dropped(prefix, noisy=noisy)["velocity"]).abs().max() > 1e-4


def test_generation_is_the_teacher_forced_argmax():
    model = tiny_student(seed=3)
    prefix = prefix_of(model.config)
    rows = generate_text(model, prefix, max_tokens=6)
    assert any(rows)
    length = max(len(row) for row in rows)
    tokens = torch.tensor([row + [EOS] * (length - len(row)) for row in rows])
    mask = torch.tensor([[i < len(row) for i in range(length)] for row in rows])
    argmax = model(prefix, text=TextTokens(tokens, mask))["text_logits"].argmax(-1)
    for row, best in zip(rows, argmax.tolist(), strict=True):
        assert best[: len(row)] == row
        assert len(row) == 6 or best[len(row)] == EOS


def test_generation_stops_at_eos():
    model = tiny_student(seed=3)
    prefix = prefix_of(model.config)
    first = generate_text(model, prefix, 1)
    encoded = model.encode(prefix, needs_hidden=True)
    with torch.no_grad():  # EOS takes the place of what sample 0 would say first
        model.embedding.weight[EOS] = model.embedding.weight[first[0][0]] * 1.5
    assert encoded.prefix_length > 0
    assert generate_text(model, prefix, 6)[0] == []


def test_gripper_logits_sample_to_probabilities():
    x_t, velocity, time = torch.randn(1, 2, 44), torch.randn(1, 2, 44), torch.tensor(0.1)
    changed = gripper_velocity(velocity, x_t, time)
    landed = x_t - 0.1 * changed
    torch.testing.assert_close(landed[..., 6], torch.sigmoid(x_t[..., 6] - 0.1 * velocity[..., 6]))
    torch.testing.assert_close(changed[..., :6], velocity[..., :6])


def test_sizes_that_cannot_be_built_are_named():
    with pytest.raises(ValueError, match=r"vision\.image_size 17"):
        VisionConfig(image_size=17, patch_size=8)
    with pytest.raises(ValueError, match="vlm and expert must share"):
        tiny_config(expert=GemmaConfig(width=12, depth=3, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=8))
