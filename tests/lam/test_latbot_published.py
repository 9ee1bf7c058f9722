"""Published weights in and out, at nano size: the same names, shapes and file layouts as the real ones."""

import json
from dataclasses import replace
from pathlib import Path

import draccus
import pytest
import torch
from safetensors.torch import save_file

from lam.latbot.autoencoder import DCAE, PixelCodec, to_codec_frames, to_uint8
from lam.latbot.config import CodecConfig, LatBotConfig, PretrainedConfig, nano
from lam.latbot.convert import PATCH_EMBED, published_names, published_source, to_published


def write_published(model: torch.nn.Module, folder: Path, layout: int) -> PretrainedConfig:
    """Files as published, in two shards; layout 0 is transformers' names, 1 the hub's."""
    shards: dict[str, dict[str, torch.Tensor]] = {}
    for index, (name, value) in enumerate(model.state_dict().items()):
        source, names = published_source(name), published_names(name)
        written = to_published(name, value)
        if source is None or written is None:
            continue
        file = f"{source}/model-{index % 2}.safetensors"
        shards.setdefault(file, {})[names[layout] if len(names) > 1 else names[0]] = written[1].contiguous()
    for file, tensors in shards.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / file)
    return PretrainedConfig(internvl=str(folder / "internvl"), sana=str(folder / "sana"))


@pytest.mark.parametrize("layout", [0, 1])
def test_published_weights_come_back_and_new_parts_start_fresh(make_stage, make_model, tmp_path, layout):
    source = make_model(make_stage(seed=5), seed=5)
    config = replace(nano(), pretrained=write_published(source, tmp_path, layout))
    loaded, fresh = make_model(make_stage(config)), make_model(make_stage())
    for name, value in loaded.state_dict().items():
        theirs = source.state_dict()[name] if published_source(name) else fresh.state_dict()[name]
        if name == PATCH_EMBED:
            channels = nano().codec.channels
            assert torch.equal(value[:, :channels], theirs[:, :channels])
            assert not value[:, channels:].any()
        else:
            assert torch.equal(value, theirs), name


def test_wrong_files_say_what_is_wrong(make_stage, make_model, tmp_path):
    stage = make_stage()
    pretrained = write_published(make_model(stage), tmp_path, 0)
    shape, generator = torch.Size((3, 3)), torch.Generator()
    empty = make_stage(replace(nano(), pretrained=PretrainedConfig(sana=str(tmp_path / "nowhere"))))
    with pytest.raises(ValueError, match=r"pretrained\.sana=.*holds no \.safetensors"):
        empty.init_parameter("decoder.proj_out.bias", shape, generator)
    given = make_stage(replace(nano(), pretrained=pretrained))
    with pytest.raises(ValueError, match=r"pretrained\.internvl.*no tensor model\.language_model\.layers\.9"):
        given.init_parameter("encoder.vlm.language_model.layers.9.mlp.up_proj.weight", shape, generator)
    with pytest.raises(ValueError, match=r"decoder\.proj_out\.bias is \[192\], the recipe's model needs \[3, 3\]"):
        given.init_parameter("decoder.proj_out.bias", shape, generator)


def test_dcae_has_the_published_size():
    with torch.device("meta"):
        codec = DCAE(CodecConfig())
    parts = codec.autoencoder.encoder, codec.autoencoder.decoder
    millions = [sum(p.numel() for p in part.parameters()) / 1e6 for part in parts]
    assert millions == [pytest.approx(153.0, abs=0.1), pytest.approx(159.2, abs=0.1)]
    assert not any(p.requires_grad for p in codec.parameters())
    with torch.device("meta"):
        latents = codec.encode(torch.zeros(2, 3, 256, 256))
    assert latents.shape == (2, 32, 8, 8)
    assert codec.decode(latents).shape == (2, 3, 256, 256)


def test_pixel_codec_loses_nothing():
    config = CodecConfig("pixel", 64, 8, 0.5)
    images = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    codec = PixelCodec(config)
    latents = codec.encode(to_codec_frames(images, config))
    assert latents.shape == (4, config.channels, config.grid, config.grid) == (4, 192, 8, 8)
    assert torch.equal(to_uint8(codec.decode(latents)), images)


def test_published_teacher_builds_on_meta_with_the_papers_numbers(make_stage):
    config = LatBotConfig()
    assert (config.scene_tokens, config.motion_tokens, config.num_frames, config.latent_dim) == (64, 64, 16, 2048)
    assert (config.vision.num_tokens, config.vision.feature_width) == (256, 4096)
    stage = make_stage(replace(config, language=replace(config.language, vocab_size=151936)))
    with torch.device("meta"):
        model = stage.build()
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    vision = sum(p.numel() for p in model.encoder.vlm.vision_tower.parameters())
    embedding = model.encoder.vlm.language_model.embed_tokens.weight.numel()
    codec = sum(p.numel() for p in model.codec.parameters())
    assert frozen == vision + embedding + codec
    assert vision / 1e6 == pytest.approx(304.0, abs=0.1)
    assert embedding / 1e6 == pytest.approx(311.2, abs=0.1)
    assert len(stage.parallelize(model, None)) == 24 + 28 + 20


def test_configuration_survives_its_file(make_stage, tmp_path):
    stage = make_stage()
    stage.save_assets(tmp_path)
    saved = json.loads((tmp_path / "teacher.json").read_text())
    assert draccus.decode(LatBotConfig, saved["config"]) == stage.config
