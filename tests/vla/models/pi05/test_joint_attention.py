"""Prefix and suffix as two attentions are the published joint attention, in values and gradients.

The reference below is written from the arithmetic in openpi's and LeRobot's public code: in every layer both streams
compute queries, keys and values, one softmax runs over prefix and suffix under one square mask, each stream's share
passes its own output projection; masked cameras and padding stay in, and the last prefix layer is computed to its end.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.vla.models.pi05.students import prefix_of, tiny_student
from tests.vla.models.pi05.test_model import noisy_of
from vla.models.pi05.model import NoisyActions, Pi05, Prefix
from vla.nn.flow_matching import sincos_embedding


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def modulated(norm: nn.Module, x: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
    scale, shift, gate = norm.get_submodule("dense")(cond)[:, None].chunk(3, dim=-1)
    return rms(x) * (1 + scale) + shift, gate


def rotated(x: Tensor, positions: Tensor) -> Tensor:
    dim = x.shape[-1]
    angle = positions[:, None, :, None].float() / 10_000 ** (torch.arange(0, dim, 2).float() / dim)
    (a, b), cos, sin = x.chunk(2, dim=-1), angle.cos(), angle.sin()
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def heads(layer: nn.Module, name: str, x: Tensor, dim: int) -> Tensor:
    return layer.get_submodule(f"self_attn.{name}")(x).unflatten(-1, (-1, dim)).transpose(1, 2)


def geglu(layer: nn.Module, x: Tensor) -> Tensor:
    mlp = layer.get_submodule("mlp")
    gate, up, down = (mlp.get_submodule(f"{name}_proj") for name in ("gate", "up", "down"))
    return down(F.gelu(gate(x), approximate="tanh") * up(x))


def joint_velocity(model: Pi05, prefix: Prefix, noisy: NoisyActions) -> Tensor:
    """The velocity [B, S, A] with one attention over everything."""
    dim, count = model.config.vlm.head_dim, model.config.vlm.num_heads
    words, valid = model.embed_prefix(prefix, queries=model.latent_readout is not None)
    actions = model.action_in_proj(noisy.x_t)
    cond = model.time_mlp_in(sincos_embedding(noisy.time, actions.shape[-1]))
    cond = F.silu(model.time_mlp_out(F.silu(cond)))
    length, valid = words.shape[1], torch.cat([valid, valid.new_ones(actions.shape[:2])], dim=1)
    block = torch.cat([torch.zeros(length), torch.ones(actions.shape[1])])
    mask = (block[None] <= block[:, None])[None] & valid[:, None] & valid[:, :, None]
    positions = valid.cumsum(1) - 1
    for vlm, expert in zip(model.language.layers, model.expert.layers, strict=True):
        norm1, norm2 = (vlm.get_submodule(f"{name}_layernorm") for name in ("input", "post_attention"))
        first = rms(words) * (1 + norm1.get_parameter("weight"))
        second, gate1 = modulated(expert.get_submodule("input_layernorm"), actions, cond)
        query, key, value = (
            torch.cat([heads(vlm, name, first, dim), heads(expert, name, second, dim)], dim=2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        query, key = rotated(query, positions), rotated(key, positions)
        key, value = (part.repeat_interleave(count // part.shape[1], dim=1) for part in (key, value))
        scores = query @ key.transpose(2, 3) * dim**-0.5
        scores = torch.where(mask[:, None], scores, -2.3819763e38)
        seen = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        words = words + vlm.get_submodule("self_attn.o_proj")(seen[:, :length])
        words = words + geglu(vlm, rms(words) * (1 + norm2.get_parameter("weight")))
        actions = actions + expert.get_submodule("self_attn.o_proj")(seen[:, length:]) * gate1
        y, gate2 = modulated(expert.get_submodule("post_attention_layernorm"), actions, cond)
        actions = actions + geglu(expert, y) * gate2
    return model.action_out_proj(modulated(model.expert.norm, actions, cond)[0])


def case(draws: int = 1) -> tuple[Pi05, Prefix, NoisyActions]:
    model = tiny_student()
    whole = prefix_of(model.config, lengths=(7, 3), cameras=3)
    seen = torch.tensor([[True, True, False], [True, False, False]])
    prefix = Prefix(whole.images, seen, whole.tokens, whole.token_mask)
    return model, prefix, noisy_of(model, 2, draws)


@pytest.mark.parametrize("draws", [1, 3])
def test_values(draws: int) -> None:
    model, prefix, noisy = case(draws)
    split = model(prefix, noisy=noisy)["velocity"].unflatten(0, (2, draws))
    for draw in range(draws):
        x_t, time = noisy.x_t.unflatten(0, (2, draws))[:, draw], noisy.time.unflatten(0, (2, draws))[:, draw]
        joint = joint_velocity(model, prefix, NoisyActions(x_t, time))
        torch.testing.assert_close(split[:, draw], joint, atol=2e-6, rtol=1e-5)


def test_gradients() -> None:
    model, prefix, noisy = case()
    found = []
    for velocity in (model(prefix, noisy=noisy)["velocity"], joint_velocity(model, prefix, noisy)):
        model.zero_grad()
        velocity.square().mean().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    split, joint = found
    for name, gradient in joint.items():
        mine = split.get(name, torch.zeros_like(gradient))
        torch.testing.assert_close(mine, gradient, atol=1e-6, rtol=1e-4, msg=name)
    assert split.keys() <= joint.keys()
    extra = joint.keys() - split.keys()
    assert extra == {name for name in extra if ".layers.1.self_attn.q_proj" in name and "language" in name}
    assert all(not joint[name].any() for name in extra), "the joint form gives the unread queries zeros"
