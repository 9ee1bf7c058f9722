"""Published names in and out."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vla.models.pi05.convert import WeightFile, our_name, to_lerobot

P = "paligemma_with_expert.paligemma."


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("action_in_proj.weight", "action_in_proj.weight"),
        ("model.action_in_proj.weight", "action_in_proj.weight"),
        ("model." + P + "lm_head.weight", P + "lm_head.weight"),
        (P + "model.language_model.embed_tokens.weight", P + "lm_head.weight"),
        ("action_time_mlp_in.bias", "time_mlp_in.bias"),
        ("model.action_time_mlp_out.weight", "time_mlp_out.weight"),
        ("state_proj.weight", None),
        ("model.state_proj.bias", None),
        ("paligemma_with_expert.gemma_expert.lm_head.weight", None),
        ("language_model.model.layers.3.mlp.up_proj.weight", P + "model.language_model.layers.3.mlp.up_proj.weight"),
        ("language_model.model.embed_tokens.weight", P + "lm_head.weight"),
        ("language_model.lm_head.weight", P + "lm_head.weight"),
        ("vision_tower.vision_model.post_layernorm.bias", P + "model.vision_tower.vision_model.post_layernorm.bias"),
        (
            "vision_tower.encoder.layers.0.mlp.fc1.bias",
            P + "model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias",
        ),
        ("model.vision_tower.post_layernorm.bias", P + "model.vision_tower.vision_model.post_layernorm.bias"),
        (f"model.{P}model.vision_tower.post_layernorm.bias", P + "model.vision_tower.vision_model.post_layernorm.bias"),
        ("multi_modal_projector.linear.weight", P + "model.multi_modal_projector.linear.weight"),
        ("model.language_model.embed_tokens.weight", P + "lm_head.weight"),
        ("model.vision_tower.vision_model.embeddings.position_ids", None),
        ("latent_readout.proj.weight", "latent_readout.proj.weight"),
    ],
)
def test_names(foreign: str, ours: str | None):
    assert our_name(foreign) == ours


def test_paligemma_embedding_is_cut_and_other_shapes_are_errors(tmp_path: Path):
    save_file({"language_model.model.embed_tokens.weight": torch.ones(257_216, 1)}, tmp_path / "model.safetensors")
    weights = WeightFile(tmp_path)
    assert weights.read(P + "lm_head.weight", (257_152, 1)).shape == (257_152, 1)
    with pytest.raises(ValueError, match=r"lm_head.weight is \(257216, 1\) and not \(1024, 1\)"):
        weights.read(P + "lm_head.weight", (1024, 1))


def test_sharded_files_and_dtypes(tmp_path: Path):
    save_file({"time_mlp_in.bias": torch.ones(3, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    save_file({"time_mlp_out.bias": torch.zeros(3)}, tmp_path / "b.safetensors")
    index = {"weight_map": {"time_mlp_in.bias": "a.safetensors", "time_mlp_out.bias": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    weights = WeightFile(tmp_path)
    assert sorted(weights) == ["time_mlp_in.bias", "time_mlp_out.bias"]
    assert torch.equal(weights.read("time_mlp_in.bias", (3,)), torch.ones(3))
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"names b\.safetensors, not there: fetch the folder whole"):
        WeightFile(tmp_path)


def test_what_lerobot_reads_comes_back(tmp_path: Path):
    state = {"action_in_proj.bias": torch.arange(3.0), P + "model.language_model.norm.weight": torch.ones(2)}
    written = to_lerobot(state)
    assert set(written) == {"model.action_in_proj.bias", "model." + P + "model.language_model.norm.weight"}
    save_file(written, tmp_path / "model.safetensors")
    weights = WeightFile(tmp_path / "model.safetensors")
    assert set(weights) == set(state)


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no model\.safetensors there"):
        WeightFile(tmp_path)
