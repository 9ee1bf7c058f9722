"""transformers' own π0 as an oracle that shares no code with openpi's: prefix, joint attention, time embedding.

π0 is not π0.5. What differs, and how the same weights are brought to answer alike:

- Its expert has plain RMS norms. Ours gets them by an adaRMS whose dense weight is 0 and whose bias says scale w, shift
  0, gate 1, so that the flow time no longer matters.
- Time enters through an MLP over each action's embedding. That embedding is taken from it, and our `action_in_proj` is
  the identity.
- A state token stands before the actions; it sees the prefix and not the actions. Its keys and values are computed by a
  pass of ours over it alone and appended to the prefix's, which is where the actions find them.
- Cameras that are not there have no tokens. Ours have masked ones.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.vla.models.pi05.students import randomise
from tests.vla.models.pi05.test_paligemma import CONFIG as SIZES
from tests.vla.models.pi05.test_paligemma import paligemma_config
from vla.models.pi05.convert import our_name
from vla.models.pi05.model import Encoded, NoisyActions, Pi05, Prefix
from vla.nn.attention import KeyValue
from vla.nn.flow_matching import sincos_embedding
from vla.nn.torchvision_ops import ensure_torchvision_operators

VOCAB, ACTION_DIM, HORIZON = 96, 7, 5
CONFIG = replace(SIZES, vocab_size=VOCAB, action_dim=SIZES.expert.width)
PATCHES = CONFIG.vision.num_tokens
NEAR: Any = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def theirs() -> Any:
    ensure_torchvision_operators()
    from transformers import PI0Config, PI0ForConditionalGeneration

    vlm, expert = paligemma_config(), CONFIG.expert
    vlm["text_config"]["vocab_size"], vlm["image_token_id"] = VOCAB, VOCAB
    dit = {
        "model_type": "gemma",
        "hidden_size": expert.width,
        "intermediate_size": expert.mlp_dim,
        "num_hidden_layers": expert.depth,
        "num_attention_heads": expert.num_heads,
        "num_key_value_heads": expert.num_kv_heads,
        "head_dim": expert.head_dim,
    }
    config = PI0Config(
        vlm_config={"model_type": "paligemma", **vlm}, dit_config=dit, chunk_size=HORIZON, max_state_dim=ACTION_DIM,
        max_action_dim=ACTION_DIM,
    )  # fmt: skip
    model: Any = PI0ForConditionalGeneration(config)
    randomise(model, seed=3)
    return model.eval()


@pytest.fixture(scope="module")
def ours(theirs: Any) -> Pi05:
    """The same weights."""
    model = Pi05(CONFIG)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in theirs.model.vlm.named_parameters():
            own.pop(our_name(f"model.{name}") or "").copy_(value)
        for name, value in theirs.model.dit.named_parameters():
            if not name.startswith("embed_tokens"):
                _copy_expert(own, f"paligemma_with_expert.gemma_expert.model.{name}", value)
        own.pop("action_in_proj.weight").copy_(torch.eye(CONFIG.action_dim))
        own.pop("action_in_proj.bias").zero_()
        own.pop("action_out_proj.weight")[:ACTION_DIM] = theirs.action_out_proj.weight
        own.pop("action_out_proj.bias")[:ACTION_DIM] = theirs.action_out_proj.bias
    assert sorted(own) == ["time_mlp_in.bias", "time_mlp_in.weight", "time_mlp_out.bias", "time_mlp_out.weight"]
    return model.eval()


def _copy_expert(own: dict[str, Any], name: str, value: Tensor) -> None:
    if "norm" not in name:
        own.pop(name).copy_(value)
        return
    owner = name.removesuffix(".weight")
    own.pop(f"{owner}.dense.weight").zero_()
    own.pop(f"{owner}.dense.bias").copy_(torch.cat([value, torch.zeros_like(value), torch.ones_like(value)]))


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """Two samples: two cameras with six words, and one camera with four."""
    draw = torch.Generator().manual_seed(4)
    side = CONFIG.vision.image_size
    words = torch.randint(2, VOCAB, (2, 6), generator=draw)
    return {
        "prefix": Prefix(
            images=torch.rand(2, 2, 3, side, side, generator=draw) * 2 - 1,
            image_mask=torch.tensor([[True, True], [True, False]]),
            tokens=words,
            token_mask=torch.arange(6) < torch.tensor([[6], [4]]),
        ),
        "state": torch.randn(2, ACTION_DIM, generator=draw),
        "x_t": torch.randn(2, HORIZON, ACTION_DIM, generator=draw),
        "time": torch.tensor([0.3, 0.85]),
    }


def for_them(prefix: Prefix) -> dict[str, Tensor]:
    """A prefix as they take it: image tokens only where an image is, text behind, padding last."""
    rows = []
    for cameras, words, there in zip(prefix.image_mask, prefix.tokens, prefix.token_mask, strict=True):
        rows.append(torch.cat([torch.full((PATCHES * int(cameras.sum()),), VOCAB), words[there]]))
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long(),
        "pixel_values": prefix.images,
        "pixel_attention_mask": prefix.image_mask,
    }


@torch.no_grad()
def test_the_prefix_comes_out_alike(theirs: Any, ours: Pi05, seen: dict[str, Any]):
    given = for_them(seen["prefix"])
    embedded = theirs.model.embed_prefix(given["input_ids"], given["pixel_values"], given["pixel_attention_mask"])
    mask = given["attention_mask"]
    hidden = theirs.model.vlm(
        inputs_embeds=embedded, attention_mask=mask, position_ids=mask.cumsum(-1) - 1,
        token_type_ids=torch.zeros_like(embedded)[:, :, 0],
    ).last_hidden_state  # fmt: skip
    encoded = ours.encode(seen["prefix"], needs_hidden=True)
    assert encoded.hidden is not None
    for row in range(2):
        mine, yours = encoded.hidden[row][encoded.prefix_valid[row]], hidden[row][mask[row].bool()]
        assert mine.shape == yours.shape
        torch.testing.assert_close(mine, yours, **NEAR)


@torch.no_grad()
def with_state_token(model: Pi05, encoded: Encoded, token: Tensor, monkeypatch: pytest.MonkeyPatch) -> Encoded:
    """The prefix with π0's state token [B, 1, width] behind it, for the expert's layers to look at."""
    made: list[KeyValue] = []
    for layer in model.expert.layers:
        attention: Any = layer.self_attn

        def kept(x: Tensor, rotary: Any, original: Any = attention.key_value) -> KeyValue:
            made.append(original(x, rotary))
            return made[-1]

        monkeypatch.setattr(attention, "key_value", kept)
    model.denoise(encoded, NoisyActions(token, torch.zeros(len(token))))
    monkeypatch.undo()
    cache = [
        (torch.cat([key, own_key], dim=2), torch.cat([value, own_value], dim=2))
        for (key, value), (own_key, own_value) in zip(encoded.cache, made, strict=True)
    ]
    valid = torch.cat([encoded.prefix_valid, encoded.prefix_valid.new_ones(len(token), 1)], dim=1)
    return replace(encoded, cache=cache, valid=valid, prefix_length=valid.shape[1])


@torch.no_grad()
def test_the_velocity_comes_out_alike(theirs: Any, ours: Pi05, seen: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    yours = theirs(state=seen["state"], noise=seen["x_t"], timestep=seen["time"], **for_them(seen["prefix"])).logits
    embedded = theirs.embed_action_time(seen["state"], seen["x_t"], seen["time"])
    assert embedded.shape == (2, 1 + HORIZON, CONFIG.expert.width)
    encoded = with_state_token(ours, ours.encode(seen["prefix"]), embedded[:, :1], monkeypatch)
    mine = ours.denoise(encoded, NoisyActions(embedded[:, 1:], seen["time"]))[..., :ACTION_DIM]
    torch.testing.assert_close(mine, yours[:, -HORIZON:], **NEAR)
    without = ours.denoise(ours.encode(seen["prefix"]), NoisyActions(embedded[:, 1:], seen["time"]))
    assert (without[..., :ACTION_DIM] - mine).abs().max() > 1e-2, "the state token must be seen"


@torch.no_grad()
def test_the_time_embedding_is_the_same(theirs: Any):
    time = torch.tensor([0.001, 0.1, 0.5, 0.77, 1.0])
    torch.testing.assert_close(
        sincos_embedding(time, CONFIG.expert.width),
        theirs.embed_action_time.sinusoid_embeds(time),
        atol=2e-4,  # theirs is float32 throughout: the shortest period passes 250 times
        rtol=0,
    )
