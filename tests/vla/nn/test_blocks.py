"""The blocks two models share."""

import pytest
import torch

from vla.nn.ada_rms import AdaRMSNorm, stacked_modulations
from vla.nn.attention import _by_products, attend
from vla.nn.norms import RMSNorm
from vla.nn.rotary import apply_rotary, rotary_table
from vla.nn.transformer import AdaGemmaBlock, GemmaBlock

CPU = torch.device("cpu")


def test_rms_norm_is_an_offset_from_one():
    norm = RMSNorm(4)
    x = torch.tensor([[3.0, 4.0, 0.0, 0.0]])
    torch.testing.assert_close(norm(x), x / 2.5, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        norm.weight[1] = 1.0
    torch.testing.assert_close(norm(x), x / 2.5 * torch.tensor([1.0, 2.0, 1.0, 1.0]), atol=1e-5, rtol=1e-5)


def test_ada_rms_by_hand():
    norm = AdaRMSNorm(2, cond_dim=3)
    modulation = torch.tensor([[0.5, 1.0, 10.0, 20.0, 0.1, 0.2]])
    y, gate = norm(torch.tensor([[[3.0, 3.0]]]), modulation)
    torch.testing.assert_close(y, torch.tensor([[[11.5, 22.0]]]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gate, torch.tensor([[[0.1, 0.2]]]))


def test_stacked_modulations_are_the_single_ones():
    norms = [AdaRMSNorm(width, cond_dim=5) for width in (3, 4, 4)]
    for norm in norms:
        torch.nn.init.normal_(norm.dense.weight)
    cond = torch.randn(7, 5)
    for stacked, norm in zip(stacked_modulations(norms, cond), norms, strict=True):
        torch.testing.assert_close(stacked, norm.modulation(cond))


def test_rotary_is_relative():
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(q: int, k: int) -> float:
        rotated = [apply_rotary(x, rotary_table(torch.tensor([[p]]), 8)) for x, p in ((query, q), (key, k))]
        return float((rotated[0] * rotated[1]).sum())

    assert score(5, 3) == pytest.approx(score(102, 100), abs=1e-4)
    assert score(5, 3) != pytest.approx(score(5, 4), abs=1e-4)
    assert score(0, 0) == pytest.approx(float((query * key).sum()), abs=1e-6)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_shares_key_heads(kv_heads: int):
    query, key, value = torch.randn(2, 4, 3, 8), torch.randn(2, kv_heads, 5, 8), torch.randn(2, kv_heads, 5, 8)
    mask = torch.rand(2, 1, 1, 5) > 0.3
    mask[..., 0] = True
    out = attend(query, key, value, mask).unflatten(-1, (4, 8))
    for head in range(4):
        group = head * kv_heads // 4
        scores = (query[:, head] @ key[:, group].mT * 8**-0.5).masked_fill(~mask[:, 0], float("-inf"))
        torch.testing.assert_close(out[:, :, head], scores.softmax(-1) @ value[:, group])


def test_the_two_ways_of_attending_agree():
    query, key, value = (torch.randn(2, 4, 6, 8) for _ in range(3))
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    one = _by_products(query, key, value, mask).transpose(1, 2).flatten(2)
    torch.testing.assert_close(one, attend(query, key, value, mask))


def test_context_is_what_concatenation_gives():
    block = GemmaBlock(16, 24, 2, 1, 8)
    x = torch.randn(2, 6, 16)
    rotary = rotary_table(torch.arange(6)[None].expand(2, -1), 8)
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    whole, key, value = block(x, rotary, causal)
    split = tuple(part[:, :, 4:] for part in rotary)
    tail, _, _ = block(x[:, 4:], split, causal[4:], (key[:, :, :4], value[:, :, :4]))
    torch.testing.assert_close(tail, whole[:, 4:])


def test_expert_block_takes_modulations_or_makes_them():
    block = AdaGemmaBlock(16, 24, 2, 1, 8, cond_dim=5)
    for norm in (block.input_layernorm, block.post_attention_layernorm):
        torch.nn.init.normal_(norm.dense.weight)
    x, cond = torch.randn(2, 3, 16), torch.randn(2, 5)
    rotary = rotary_table(torch.arange(3)[None], 8)
    pair = (block.input_layernorm.modulation(cond), block.post_attention_layernorm.modulation(cond))
    given = block(x, torch.zeros(2, 5), rotary, None, modulations=pair)
    torch.testing.assert_close(given, block(x, cond, rotary, None))


def test_norms_cast_once_under_autocast():
    norm, ada = RMSNorm(8), AdaRMSNorm(8, 4)
    x = torch.randn(2, 3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(x).dtype == torch.bfloat16
        assert ada(x, ada.modulation(torch.randn(2, 4)))[0].dtype == torch.bfloat16
    assert norm(x).dtype == torch.float32
