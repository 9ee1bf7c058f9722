"""What learns in each mode: exactly the parameters a gradient reaches, named, counted, and nothing else moves."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.vla.models.pi05.students import TASKS, normalisation, tiny_batch, tiny_config, tiny_student
from tests.vla.models.pi05.test_stage import ready, stage_of
from vla.models.pi05.config import Pi05Config
from vla.models.pi05.model import Pi05
from vla.models.pi05.stage import ActionConfig, ActionStage
from vla.models.pi05.trainable import LoraTargets, check_targets, freeze, keep_frozen_in_bfloat16, unreached
from vla.train.initialise import initialise
from vla.train.lora import is_adapter, merged, plain_name

VLM, EXPERT = "paligemma_with_expert.paligemma.", "paligemma_with_expert.gemma_expert."
FC1 = VLM + "model.vision_tower.vision_model.encoder.layers.1.mlp.fc1"
HEADS = ("action_in_proj", "action_out_proj", "time_mlp_in", "time_mlp_out")
TEXT = {"text_weight": 0.5, "fast_weight": 0.5}
MODES: dict[str, dict[str, Any]] = {
    "full": {},
    "frozen_vision": {"train": "frozen_vision"},
    "frozen_vlm": {"train": "frozen_vlm"},
    "lora": {"train": "lora", "lora": LoraTargets(rank=2, alpha=4.0, vision=("fc1",), dropout=0.1)},
    "lora, expert only": {"train": "lora", "lora": LoraTargets(rank=2, vlm=(), expert=("attention",))},
    "text": TEXT,
    "insulated": {"insulate": True, **TEXT},
    "insulated lora": {"insulate": True, "train": "lora", "lora": LoraTargets(rank=2), **TEXT},
    "insulated, frozen vision": {"insulate": True, "train": "frozen_vision", "text_weight": 1.0},
}


def action_stage(fields: dict[str, Any]) -> ActionStage:
    config = ActionConfig(**{"model": tiny_config(), **fields})
    return ActionStage(config, normalisation(), ["front"], TASKS, windows=[tiny_batch()])


@pytest.mark.parametrize("loss", ["flow", "latbot"])
@pytest.mark.parametrize("mode", MODES)
def test_exactly_what_learns_has_a_gradient(mode: str, loss: str) -> None:
    stage = action_stage({"loss": loss} | MODES[mode])
    module = ready(stage).train()
    stage.loss(module, tiny_batch())[0].backward()
    learning = {name for name, p in module.named_parameters() if p.requires_grad}
    assert learning == {name for name, p in module.named_parameters() if p.grad is not None}
    # A key's bias shifts all scores of a query alike: its gradient is rounding, and may be none.
    zero = {name for name, p in module.named_parameters() if p.grad is not None and not p.grad.any()}
    assert all(name.endswith("k_proj.bias") for name in zero)


def test_what_each_mode_trains() -> None:
    learning = {}
    for mode, fields in MODES.items():
        learning[mode] = {name for name, p in action_stage(fields).build().named_parameters() if p.requires_grad}
    vision = VLM + "model.vision_tower"
    assert learning["full"] - learning["frozen_vision"] == {n for n in learning["full"] if n.startswith(vision)}
    assert learning["frozen_vlm"] == {n for n in learning["full"] if n.startswith((EXPERT, *HEADS))}
    assert {n for n in learning["lora"] if not is_adapter(n)} == {n for n in learning["full"] if n.startswith(HEADS)}
    adapted = {n.split(".lora_")[0] for n in learning["lora"] if is_adapter(n)}
    language, last = VLM + "model.language_model.layers.", VLM + "model.language_model.layers.1."
    attention = {f"self_attn.{p}_proj" for p in "qkvo"}
    mlp = {f"mlp.{p}_proj" for p in ("gate", "up", "down")}
    assert adapted == (
        {f"{language}0.{layer}" for layer in attention | mlp}
        | {last + "self_attn.k_proj", last + "self_attn.v_proj"}
        | {f"{EXPERT}model.layers.{i}.{layer}" for i in (0, 1) for layer in attention | mlp}
        | {f"{vision}.vision_model.encoder.layers.{i}.mlp.fc1" for i in (0, 1)}
    )
    only = {n.split(".lora_")[0] for n in learning["lora, expert only"] if is_adapter(n)}
    assert only == {f"{EXPERT}model.layers.{i}.{layer}" for i in (0, 1) for layer in attention}
    assert (
        learning["insulated"]
        == learning["text"]
        == learning["full"] | {n for n in unreached(tiny_student(), text=False) if not n.startswith("latent_readout")}
    )


def test_count_at_the_published_size() -> None:
    with torch.device("meta"):
        module = Pi05(Pi05Config())
        sizes = {name: p.numel() for name, p in module.named_parameters()}
        dead = unreached(module, text=False)
        frozen, _ = freeze(module, "full", LoraTargets(), text=False)
    assert sum(sizes[name] for name in dead) == 109_056_000
    queries = [name for name in dead if "q_proj" in name]
    assert sum(sizes[name] for name in queries) == 4_194_304
    assert sorted(frozen.unreached) == sorted(dead)
    assert frozen.chosen == ()
    learning = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert learning == 3_353_433_872 - 109_056_000
    assert not unreached(module, text=True)


def test_lora_at_the_published_size() -> None:
    with torch.device("meta"):
        module = Pi05(Pi05Config())
        freeze(module, "lora", LoraTargets(rank=16), text=False)
    learning = {name: p.numel() for name, p in module.named_parameters() if p.requires_grad}
    per_layer = 16 * (2 * (2048 + 2048) + 2 * (2048 + 256) + 3 * (2048 + 16384))
    expert = 16 * (2 * (1024 + 2048) + 2 * (1024 + 256) + 3 * (1024 + 4096))
    last = 16 * 2 * (2048 + 256)
    heads = sum(size for name, size in learning.items() if not is_adapter(name))
    assert heads == 2_165_792
    assert sum(learning.values()) - heads == 17 * per_layer + last + 18 * expert


def test_the_log_names_and_counts_what_does_not_learn(caplog: pytest.LogCaptureFixture) -> None:
    stage = action_stage(MODES["frozen_vlm"])
    module = stage.build()
    with caplog.at_level(logging.INFO):
        initialise(module, stage, seed=0)
    counts = {name: p.numel() for name, p in module.named_parameters()}
    last = VLM + "model.language_model.layers.1."
    dead = [
        n for n in counts if n.startswith((last + "mlp", last + "post", last + "self_attn.q", last + "self_attn.o"))
    ]
    dead += [VLM + "model.language_model.norm.weight", "latent_readout.proj.weight", "latent_readout.proj.bias"]
    total = sum(counts[name] for name in dead)
    assert f"no loss reaches {total:,} parameters: " in caplog.text
    for word in (last + "mlp", last + "self_attn.q_proj", "latent_readout.proj", VLM + "model.vision_tower"):
        assert f" {word}," in caplog.text or f" {word}\n" in caplog.text
    kept = sum(counts.values()) - total - sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert f"`train: frozen_vlm` keeps {kept:,} parameters: " in caplog.text


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        (
            LoraTargets(vlm=("atention",)),
            r"lora\.vlm names 'atention'.*Did you mean 'attention'\? There are attention,",
        ),
        (LoraTargets(vision=("q_proj", "down_proj")), r"lora\.vision names 'down_proj', which no layer there has"),
        (LoraTargets(whole=("action_in",)), None),
        (LoraTargets(whole=("action_inn_proj",)), r"lora\.whole names 'action_inn_proj'.*action_in_proj"),
        (LoraTargets(vlm=(), expert=()), "lora has no target"),
        (
            LoraTargets(vlm=(), expert=("attention",), whole=("action_in_proj", EXPERT.rstrip("."))),
            r"lora\.whole names 'paligemma_with_expert\.gemma_expert', but lora\.expert puts an adapter on "
            r"\S+gemma_expert\.model\.layers\.0\.self_attn\.q_proj,.* drop it from lora\.whole or from lora\.expert",
        ),
        (
            LoraTargets(vision=("fc1",), whole=(FC1 + ".bias",)),
            r"lora\.vision puts an adapter on \S+layers\.1\.mlp\.fc1,",
        ),
        (LoraTargets(vision=("fc1",), whole=(FC1.replace("fc1", "fc2"), EXPERT + "model.norm")), None),
        (LoraTargets(expert=(), whole=(EXPERT,)), None),
    ],
)
def test_targets_that_there_are_not_are_named(lora: LoraTargets, words: str | None) -> None:
    stage = action_stage({"train": "lora", "lora": lora})
    if words is None:
        learning = {name for name, p in stage.build().named_parameters() if p.requires_grad}
        names = {name for name, _ in tiny_student().named_parameters() if name.startswith(lora.whole)}
        assert learning >= names
        return
    for refuse in (stage.build, lambda: check_targets(tiny_config(), lora)):
        with pytest.raises(ValueError, match=words):
            refuse()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"train": "frozen_vlm", "text_weight": 1.0}, "train is 'frozen_vlm', so nothing learns from text_weight"),
        ({"train": "lora", "lora": LoraTargets(vlm=()), "fast_weight": 1.0}, "without lora.vlm or lora.vision"),
        ({"insulate": True}, "insulate is true, but text_weight and fast_weight are 0"),
        ({"fast_weight": -1.0}, "fast_weight is -1"),
        ({"fast_tokens": "x"}, "fast_tokens is 'x', but fast_weight is 0"),
    ],
)
def test_modes_that_contradict_themselves_are_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ActionConfig(**fields)
    for wrong in ({"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match=rf"lora\.{next(iter(wrong))} is"):
            LoraTargets(**wrong)  # pyright: ignore[reportArgumentType]


def test_adapters_change_nothing_at_first_and_merge_to_base_plus_product(tmp_path: Any) -> None:
    stage = action_stage({"train": "lora", "lora": LoraTargets(rank=2, alpha=6.0, vision=("attention", "fc2"))})
    with torch.device("meta"):
        module = stage.build()
    module.to_empty(device="cpu")
    initialise(module, stage, seed=0)
    batch = tiny_batch()
    plain = Pi05(stage.processor.model)
    plain.load_state_dict(dict(merged(module, module.named_parameters())))
    whole = action_stage({})
    assert torch.equal(stage.loss(module, batch)[0], whole.loss(plain, batch)[0]), "B starts at zero"
    ready_values = {name: torch.randn(p.shape) * 0.1 for name, p in module.named_parameters() if is_adapter(name)}
    with torch.no_grad():
        for name, value in ready_values.items():
            module.get_parameter(name).copy_(value)
    state = dict(merged(module, module.named_parameters()))
    assert state.keys() == dict(plain.named_parameters()).keys()
    for name, value in module.state_dict().items():
        if is_adapter(name):
            continue
        stem = plain_name(name).removesuffix(".weight")
        a, b = (ready_values.get(f"{stem}.lora_{part}.default.weight") for part in "AB")
        expected = value if a is None or b is None or name.endswith("bias") else value + 3.0 * (b @ a)
        torch.testing.assert_close(state[plain_name(name)], expected, atol=1e-6, rtol=0)
    plain.load_state_dict(state)
    torch.testing.assert_close(stage.loss(module, batch)[0], whole.loss(plain, batch)[0], rtol=1e-5, atol=0)
    save_file(state, tmp_path / "model.safetensors")
    assert load_file(tmp_path / "model.safetensors").keys() == plain.state_dict().keys()


def test_dropout_depends_on_the_samples_alone() -> None:
    stage = action_stage({"train": "lora", "lora": LoraTargets(rank=4, dropout=0.5), "flow_samples": 2})
    module, batch = ready(stage).train(), tiny_batch()
    pick = {n: v[1:2] for n, v in vars(batch).items() if isinstance(v, (torch.Tensor, list))}
    whole = stage.loss(module, batch)[0]
    assert torch.equal(whole, stage.loss(module, batch)[0])
    singles = [stage.loss(module, replace(batch, **{n: v[i : i + 1] for n, v in vars(batch).items() if n in pick}))[0]
               for i in range(3)]  # fmt: skip
    torch.testing.assert_close(torch.stack(singles).mean(), whole)
    assert stage.loss(module.eval(), batch)[0] != whole
    other = replace(batch, sample_ids=batch.sample_ids + 3)
    assert stage.loss(module.train(), other)[0] != whole


def test_frozen_matrices_in_bfloat16_give_the_same_numbers_from_weights_that_are() -> None:
    """Published weights are bfloat16 and autocast rounds to it: holding them so loses nothing."""
    losses, gradients = [], []
    for dtype in ("float32", "bfloat16"):
        stage = action_stage({"train": "lora", "lora": LoraTargets(rank=2), "frozen_dtype": dtype, **TEXT})
        module = ready(stage)
        with torch.no_grad():
            for p in module.parameters():
                p.copy_(p.to(torch.bfloat16))
        with torch.autocast("cpu", torch.bfloat16):
            loss = stage.loss(module, tiny_batch())[0]
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
    held = {name: p.dtype for name, p in module.named_parameters()}
    assert losses[0] == losses[1]
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
    assert held[VLM + "lm_head.weight"] == torch.bfloat16
    assert held[VLM + "model.language_model.layers.0.mlp.up_proj.base_layer.weight"] == torch.bfloat16
    in_float32 = ("layernorm", "norm.", "patch_embedding", "position_embedding", "lora_", *HEADS)
    assert all(dtype == torch.float32 for name, dtype in held.items() if any(word in name for word in in_float32))


def test_what_is_held_in_bfloat16_at_the_published_size() -> None:
    with torch.device("meta"):
        module = Pi05(Pi05Config())
        freeze(module, "frozen_vlm", LoraTargets(), text=False)
        keep_frozen_in_bfloat16(module)
    halved = sum(p.numel() for p in module.parameters() if p.dtype == torch.bfloat16)
    assert 2_919_000_000 < halved < 2_923_335_408
    assert all(p.dtype == torch.float32 for p in module.parameters() if p.requires_grad)


def test_stage_of_is_full() -> None:
    assert stage_of().config.train == "full"


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_modes_on_a_gpu(mode: str) -> None:
    """The same losses as on the CPU, dropout included: its masks are hashed where the samples' ids are."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    stage = action_stage(MODES[mode])
    module, batch = ready(stage).train(), tiny_batch()
    expected = stage.loss(module, batch)[0].item()
    module.cuda()
    for precision, tolerance in ((False, 1e-3), (True, 5e-2)):
        with torch.autocast("cuda", torch.bfloat16, enabled=precision):
            loss = stage.loss(module, batch.to(torch.device("cuda")))[0]
        loss.backward()
        assert loss.item() == pytest.approx(expected, rel=tolerance)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters() if p.requires_grad)
