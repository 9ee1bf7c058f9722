"""The latent action encoder: the prompt, the queries, the cache, the published names."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import InternVLModel

from lam.latbot.config import LanguageConfig, LatBotConfig, VisionConfig, nano
from lam.latbot.convert import published_names
from lam.latbot.encoder import LatentActionEncoder, internvl_config, pixel_shuffle, preprocess, tower_features
from lam.latbot.stage import tokenizer_for
from lam.latbot.teacher import LatBotTower
from lam.latbot.template import AFTER_INSTRUCTION, BEFORE_INSTRUCTION, BETWEEN_MARKERS

COMPAT = Path(__file__).parents[3] / "shared" / "compat"


def test_prompt_is_the_papers_template(make_stage):
    stage = make_stage()
    config, tokenizer = stage.config, stage.template.tokenizer
    prompt = stage.template(["push the square", "an instruction nobody has seen: 7 €"])
    assert len(prompt.image_index) == config.num_frames * config.vision.num_tokens
    assert (prompt.token_ids[:, prompt.image_index] == stage.template.image_token_id).all()
    for row, text in enumerate(["push the square", "an instruction nobody has seen: 7 €"]):
        ids, scene = prompt.token_ids[row], int(prompt.scene_start[row])
        shown = tokenizer.decode([t for t in ids[:scene].tolist() if t != stage.template.image_token_id])
        frames = "\n".join(f"Frame{i + 1}: <img></img>" for i in range(config.num_frames))
        assert shown.replace(" <img>", "<img>").replace(":<img>", ": <img>") == (
            frames + BEFORE_INSTRUCTION + text + AFTER_INSTRUCTION
        )
        between = ids[scene + config.scene_tokens : int(prompt.motion_start[row])]
        assert tokenizer.decode(between) == BETWEEN_MARKERS


def test_published_sentence_is_whole():
    sentence = BEFORE_INSTRUCTION + "{sent}" + AFTER_INSTRUCTION + "[CP_SCE]" + BETWEEN_MARKERS + "[CP_MOT]."
    assert sentence.startswith('Given the instruction "{sent}" and the video frames, reason about what happens')
    assert sentence.endswith("Scene evolution description: [CP_SCE]. Action dynamics description: [CP_MOT].")


def test_padding_and_neighbours_change_nothing(make_stage, make_model, squares):
    stage = make_stage()
    model = make_model(stage).eval()
    batch = squares(stage.config, [0, 1, 2])
    long = replace(batch, instruction=["push the square", "x" * 50, "push the square"])
    short = squares(stage.config, [0])
    with torch.no_grad():
        among = model(stage.encoding_inputs(long), "encode")
        alone = model(stage.encoding_inputs(short), "encode")
    for part in ("scene", "motion"):
        torch.testing.assert_close(among[part][:1], alone[part], rtol=1e-4, atol=1e-5)


def test_latents_depend_on_frames_and_instruction_and_differ_among_tokens(make_stage, make_model, squares):
    stage = make_stage()
    model = make_model(stage).eval()
    batch = squares(stage.config, [0, 1])
    frozen = replace(batch, images=batch.images[:, :1].expand_as(batch.images))
    with torch.no_grad():
        first = model(stage.encoding_inputs(batch), "encode")
        still = model(stage.encoding_inputs(frozen), "encode")
        told = model(stage.encoding_inputs(replace(batch, instruction=["leave it", "now"])), "encode")
    for part, tokens in (("scene", stage.config.scene_tokens), ("motion", stage.config.motion_tokens)):
        assert first[part].shape == (2, tokens, stage.config.latent_width)
        assert not torch.allclose(first[part], still[part], atol=1e-3)
        assert not torch.allclose(first[part], told[part], atol=1e-3)
        assert first[part].std(dim=1).mean() > 0.1


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("autocast", [False, True])
def test_training_from_the_cache_equals_training_without(make_stage, make_model, squares, compute, pool, autocast):
    config = replace(nano(), vision=replace(nano().vision, compute=compute, pool=pool))
    stage = make_stage(config)
    model, tower = make_model(stage), LatBotTower(stage)
    batch = squares(config, [0, 1, 2, 3])
    flat = batch.images.flatten(0, 2)
    features = torch.cat([tower.features(flat[:5]), tower.features(flat[5:])]).unflatten(0, batch.images.shape[:3])
    assert features.dtype == torch.float16
    grads = []
    for cached in (replace(batch, vision_features=features), batch):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss, _ = stage.loss(model, cached)
        grads.append(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_random_tower_keeps_the_pixels(make_stage):
    """A linear read-out of the features gives back pixels of blocks it was not fitted on."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (400, 3, 32, 32), generator=generator, dtype=torch.uint8)
    features = LatBotTower(make_stage()).features(noise).float()
    blocks = torch.nn.functional.pixel_unshuffle(preprocess(noise, 32), 16).flatten(2).transpose(1, 2)
    x = torch.cat([torch.cat([features[:, i], torch.eye(4)[i].expand(400, 4)], dim=1) for i in range(4)])
    y = torch.cat([blocks[:, i] for i in range(4)])
    rows = torch.randperm(1600, generator=generator)
    train, test = rows[:1400], rows[1400:]
    gram = x[train].T @ x[train] + 1e-2 * torch.eye(x.shape[1])
    weights = torch.linalg.solve(gram, x[train].T @ y[train])
    error = (x[test] @ weights - y[test]).square().mean() / y[test].var()
    assert error < 0.05


def test_pixel_shuffle_is_internvls(make_stage):
    vlm = InternVLModel(internvl_config(nano()))
    tokens = torch.randn(2, 16, 192)
    expected = vlm.pixel_shuffle(tokens.view(2, 4, 4, 192), scale_factor=0.5).reshape(2, 4, 768)
    assert torch.equal(pixel_shuffle(tokens, 0.5), expected)


def test_tower_features_match_transformers_before_the_projector(make_stage, make_model, squares):
    stage = make_stage()
    vlm = make_model(stage).encoder.vlm.eval()
    images = squares(stage.config, [3]).images.flatten(0, 2)
    features = tower_features(vlm.vision_tower, images, stage.config.vision).float()
    with torch.no_grad():
        ours = vlm.multi_modal_projector(features)
        theirs = vlm.get_image_features(preprocess(images, 32)).pooler_output
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)  # float16 rounding


def test_vision_tower_is_frozen_and_apart_from_the_training_seed(make_stage, make_model):
    one, other = (make_model(make_stage(seed=seed), seed) for seed in (0, 1))
    for name, value in one.state_dict().items():
        if "vision_tower" in name:
            assert torch.equal(value, other.state_dict()[name])
    assert not any(p.requires_grad for p in one.encoder.vlm.vision_tower.parameters())
    assert not torch.equal(one.encoder.motion_queries, other.encoder.motion_queries)


def test_published_size_has_every_published_name_and_shape():
    if not COMPAT.is_dir():
        pytest.skip("the lists of published names lie in ../shared/compat, which is not here")
    with torch.device("meta"):
        encoder = LatentActionEncoder(LatBotConfig())
    ours = {f"encoder.{name}": list(value.shape) for name, value in encoder.state_dict().items()}
    published = json.loads((COMPAT / "internvl35_2b_hf_keys.json").read_text())
    hub, memory = {}, {}
    for name, shape in ours.items():
        names = published_names(name)
        if names and name.startswith("encoder.vlm."):
            memory[names[0]], hub[names[1]] = shape, shape
    without_head = {name: shape for name, shape in published.items() if name != "lm_head.weight"}
    assert memory == without_head
    assert "language_model.model.layers.0.mlp.up_proj.weight" in hub
    assert "vision_tower.embeddings.cls_token" in hub
    assert {name for name in ours if not published_names(name)} == {"encoder.scene_queries", "encoder.motion_queries"}


def test_impossible_sizes_stop_with_the_field_and_a_fix():
    with pytest.raises(ValueError, match="vision.image_size=50"):
        VisionConfig(image_size=50, patch_size=8)
    with pytest.raises(ValueError, match="num_frames=1"):
        replace(nano(), num_frames=1)
    small = replace(nano(), language=LanguageConfig(vocab_size=200))
    with pytest.raises(ValueError, match="language.vocab_size=200"):
        tokenizer_for(small, [])
