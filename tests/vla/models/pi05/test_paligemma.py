"""transformers' own PaliGemma, saved as it saves itself, through our loader: the same prefix, the same scores."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla.models.pi05.config import GemmaConfig, Pi05Config, VisionConfig
from vla.models.pi05.convert import EXPERT_PARTS, WeightFile
from vla.models.pi05.load import load_published
from vla.models.pi05.model import Pi05, Prefix, TextTokens
from vla.models.pi05.start import Start
from vla.nn.torchvision_ops import ensure_torchvision_operators
from vla.train.initialise import generator_for

ROWS, IMAGE_TOKEN, TOLERANCE = 257_152, 257_152, 1e-5  # PaliGemma's own file has 64 rows more
CONFIG = Pi05Config(
    vision=VisionConfig(width=24, depth=2, mlp_dim=40, num_heads=3, patch_size=14, image_size=28),
    vlm=GemmaConfig(width=16, depth=3, mlp_dim=32, num_heads=2, num_kv_heads=1, head_dim=8),
    expert=GemmaConfig(width=12, depth=3, mlp_dim=20, num_heads=2, num_kv_heads=1, head_dim=8),
    vocab_size=ROWS,
    action_dim=7,
    horizon=5,
)


def paligemma_config() -> dict[str, Any]:
    """CONFIG's PaliGemma in transformers' words."""
    vision, vlm = CONFIG.vision, CONFIG.vlm
    return {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp_dim,
            "num_hidden_layers": vision.depth,
            "num_attention_heads": vision.num_heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "vision_use_head": False,
        },
        "text_config": {
            "model_type": "gemma",
            "hidden_size": vlm.width,
            "intermediate_size": vlm.mlp_dim,
            "num_hidden_layers": vlm.depth,
            "num_attention_heads": vlm.num_heads,
            "num_key_value_heads": vlm.num_kv_heads,
            "head_dim": vlm.head_dim,
            "vocab_size": ROWS + 64,
        },
        "projection_dim": vlm.width,
        "image_token_id": IMAGE_TOKEN,
    }


@pytest.fixture(scope="module")
def theirs() -> Any:
    ensure_torchvision_operators()
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

    torch.manual_seed(0)
    model: Any = PaliGemmaForConditionalGeneration(PaliGemmaConfig(**paligemma_config()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (parameter.shape[-1] if parameter.dim() > 1 else 16) ** -0.5)
    return model.eval()


@pytest.fixture(scope="module")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paligemma")
    theirs.save_pretrained(folder, max_shard_size="10MB")
    assert len(list(folder.glob("model-*.safetensors"))) == 2
    return folder


def ours_from(path: Path) -> tuple[Pi05, Start]:
    """A student that starts from PaliGemma, as training fills it."""
    start = Start(CONFIG, str(path))
    model = Pi05(CONFIG)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(start.value(name, parameter.shape, generator_for(0, name)))
    return model.eval(), start


def prompt() -> Prefix:
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    return Prefix(
        images=torch.rand(2, 1, 3, 28, 28, generator=generator) * 2 - 1,
        image_mask=torch.ones(2, 1, dtype=torch.bool),
        tokens=torch.randint(2, ROWS, (2, 6), generator=generator) * mask,
        token_mask=mask,
    )


@torch.no_grad()
def their_answer(model: Any, prefix: Prefix) -> tuple[Tensor, Tensor]:
    """Hidden states after the final norm and the scores of every token, the image's first."""
    patches = CONFIG.vision.num_tokens
    ids = torch.cat([torch.full((2, patches), IMAGE_TOKEN), prefix.tokens], dim=1)
    mask = torch.cat([torch.ones(2, patches), prefix.token_mask], dim=1).long()
    out = model(
        input_ids=ids, pixel_values=prefix.images[:, 0], attention_mask=mask, token_type_ids=torch.zeros_like(ids),
        output_hidden_states=True,
    )  # fmt: skip
    return out.hidden_states[-1], out.logits[..., :ROWS]


def assert_close(ours: Tensor, theirs: Tensor, valid: Tensor) -> None:
    torch.testing.assert_close(ours[valid], theirs[valid], atol=TOLERANCE, rtol=TOLERANCE)


def assert_same_answers(model: Pi05, theirs: Any) -> None:
    prefix = prompt()
    hidden, scores = their_answer(theirs, prefix)
    with torch.no_grad():
        encoded = model.encode(prefix, needs_hidden=True)
        assert encoded.hidden is not None
        assert_close(encoded.hidden, hidden, encoded.prefix_valid)
        assert_close(model.embedding(encoded.hidden), scores, encoded.prefix_valid)
        text = TextTokens(torch.tensor([[7], [8]]), torch.ones(2, 1, dtype=torch.bool))
        first = model(prefix, text=text)["text_logits"][:, 0]
    last = CONFIG.vision.num_tokens + prefix.token_mask.sum(1) - 1
    torch.testing.assert_close(first, scores[torch.arange(2), last], atol=TOLERANCE, rtol=TOLERANCE)


def test_a_saved_paligemma_answers_alike(theirs: Any, folder: Path):
    model, start = ours_from(folder)
    assert_same_answers(model, theirs)
    assert start.report is not None
    assert (start.report.missing, start.report.unexpected, start.report.ignored) == ((), (), ())
    assert all(name.startswith(EXPERT_PARTS) for name in start.report.new)
    assert len(start.report.loaded) + len(start.report.new) == len(list(model.parameters()))


@pytest.mark.parametrize("layout", ["new", "old with a head"])
def test_both_layouts_of_names(theirs: Any, folder: Path, tmp_path: Path, layout: str):
    state = {name: v.contiguous() for file in folder.glob("*.safetensors") for name, v in load_file(file).items()}
    embedding = state["language_model.model.embed_tokens.weight"]
    if layout == "new":
        written = {
            f"model.{name.replace('language_model.model.', 'language_model.')}": value for name, value in state.items()
        }
        written["lm_head.weight"] = embedding.clone()
    else:
        written = {name.replace("vision_tower.", "vision_tower.vision_model."): v for name, v in state.items()}
        written["language_model.lm_head.weight"] = embedding.clone()
        written["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(4)[None]
    save_file(written, tmp_path / "model.safetensors")
    model, start = ours_from(tmp_path)
    assert_same_answers(model, theirs)
    assert start.report is not None
    assert len(start.report.ignored) == (0 if layout == "new" else 1)


def test_bfloat16_files_give_the_rounded_numbers(theirs: Any, folder: Path, tmp_path: Path):
    for file in folder.glob("*.safetensors"):
        save_file({name: value.bfloat16() for name, value in load_file(file).items()}, tmp_path / file.name)
    (tmp_path / "model.safetensors.index.json").write_text((folder / "model.safetensors.index.json").read_text())
    start = Start(CONFIG, str(tmp_path))
    name = "paligemma_with_expert.paligemma.lm_head.weight"
    value = start.value(name, torch.Size((ROWS, 16)), generator_for(0, name))
    assert value.dtype == torch.float32
    assert torch.equal(value, theirs.model.language_model.embed_tokens.weight[:ROWS].bfloat16().float())


def test_a_plain_paligemma_is_no_policy(folder: Path):
    with torch.device("meta"):
        model = Pi05(CONFIG)
    with pytest.raises(ValueError, match=r"missing: action_in_proj\.bias, action_in_proj\.weight, action_out"):
        load_published(model, WeightFile(folder))


def test_a_lost_layer_of_paligemma_is_named(folder: Path, tmp_path: Path):
    state = {name: v.contiguous() for file in folder.glob("*.safetensors") for name, v in load_file(file).items()}
    state.pop("language_model.model.layers.1.mlp.up_proj.weight")
    save_file({**state, "vision_tower.vision_model.head.probe": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 missing: .*layers\.1\.mlp\.up_proj\.weight; 1 unexpected: .*head\.probe"):
        Start(CONFIG, str(tmp_path))
