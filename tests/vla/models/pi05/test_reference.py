"""Parity with the published model: recorded numbers of openpi's implementation, and the published layout."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vla.models.pi05.config import GemmaConfig, Pi05Config, VisionConfig
from vla.models.pi05.convert import WeightFile, our_name
from vla.models.pi05.model import NoisyActions, Pi05, Prefix
from vla.models.pi05.sample import sample_actions
from vla.nn.flow_matching import interpolate, velocity_target

COMPAT = Path(__file__).parents[5] / "shared" / "compat"
needs_compat = pytest.mark.skipif(not COMPAT.is_dir(), reason="needs ../shared/compat, which is not in the repository")
DEAD_HEAD = "paligemma_with_expert.gemma_expert.lm_head.weight"
EMBEDDING = "paligemma_with_expert.paligemma.lm_head.weight"

REDUCED = Pi05Config(
    vision=VisionConfig(width=48, depth=2, mlp_dim=96, num_heads=4, patch_size=14, image_size=56),
    vlm=GemmaConfig(width=64, depth=3, mlp_dim=128, num_heads=8, num_kv_heads=1, head_dim=16),
    expert=GemmaConfig(width=32, depth=3, mlp_dim=64, num_heads=8, num_kv_heads=1, head_dim=16),
    vocab_size=512,
    horizon=10,
)


class Case:
    """The reduced model and its recorded inputs and outputs."""

    def __init__(self) -> None:
        arrays = np.load(COMPAT / "pi05_tiny.npz")
        self.names = [str(name) for name in arrays["grad_names"]]
        self.recorded = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != "grad_names"}
        self.model = Pi05(REDUCED)
        weights = WeightFile(COMPAT / "pi05_tiny.safetensors")
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(weights.read(name, tuple(parameter.shape)))

    def prefix(self, cameras: int = 3) -> Prefix:
        r = self.recorded
        images, mask = r["images"].transpose(0, 1)[:, :cameras], r["img_masks"].T[:, :cameras]
        return Prefix(images, mask, r["tokens"], r["masks"])

    def losses(self, prefix: Prefix) -> torch.Tensor:
        r = self.recorded
        x_t = interpolate(r["actions"], r["noise"], r["time"])
        velocity = self.model(prefix, noisy=NoisyActions(x_t, r["time"]))["velocity"]
        return (velocity - velocity_target(r["actions"], r["noise"])).square()


@pytest.fixture
def case() -> Case:
    return Case()


@needs_compat
def test_losses(case: Case):
    losses = case.losses(case.prefix())
    torch.testing.assert_close(losses, case.recorded["losses"], atol=1e-5, rtol=1e-6)
    assert losses.mean().item() == pytest.approx(case.recorded["loss"].item(), rel=1e-6)


@needs_compat
def test_dropping_masked_cameras_and_padding_changes_nothing(case: Case):
    prefix = case.prefix(cameras=2)
    longest = int(prefix.token_mask.sum(1).max())
    assert longest < prefix.tokens.shape[1]
    short = Prefix(prefix.images, prefix.image_mask, prefix.tokens[:, :longest], prefix.token_mask[:, :longest])
    torch.testing.assert_close(case.losses(short), case.recorded["losses"], atol=1e-5, rtol=1e-6)


@needs_compat
def test_gradient_norms(case: Case):
    case.losses(case.prefix()).mean().backward()
    ours = {name: p.grad for name, p in case.model.named_parameters()}
    for name, recorded in zip(case.names, case.recorded["grad_norms"].tolist(), strict=True):
        grad = ours.pop(our_name(name) or "")
        norm = 0.0 if grad is None else grad.norm().item()
        # Key biases have no gradient but rounding: softmax does not see them.
        assert norm == pytest.approx(recorded, rel=1e-4, abs=1e-6), name
    assert [name for name, grad in ours.items() if grad is not None] == []


@needs_compat
def test_sampled_actions(case: Case):
    with torch.no_grad():
        actions = sample_actions(case.model, case.prefix(), case.recorded["sample_noise"])
    torch.testing.assert_close(actions, case.recorded["sampled_actions"], atol=2e-4, rtol=0)


@needs_compat
def test_prefix_embeddings(case: Case):
    with torch.no_grad():
        embedded, valid = case.model.embed_prefix(case.prefix(), queries=False)
    assert torch.equal(valid, case.recorded["prefix_pad_masks"])
    torch.testing.assert_close(embedded[valid], case.recorded["prefix_embs"][valid], atol=1e-5, rtol=1e-5)


def test_published_size_builds_on_meta():
    with torch.device("meta"):
        model = Pi05(Pi05Config())
    parts = {
        "vision": sum(p.numel() for p in model.vision.parameters()),
        "projector": sum(p.numel() for p in model.projector.parameters()),
        "embedding": sum(p.numel() for p in model.embedding.parameters()),
    }
    assert parts == {"vision": 412_442_352, "projector": 2_361_344, "embedding": 526_647_296}
    assert sum(p.numel() for p in model.parameters()) == 3_353_433_872
    assert len(model.state_dict()) == 811


@needs_compat
def test_published_names_and_shapes():
    published = json.loads((COMPAT / "pi05_keys.json").read_text())["tensors"]
    with torch.device("meta"):
        ours = {name: list(value.shape) for name, value in Pi05(Pi05Config()).state_dict().items()}
    assert len(published) == 812
    assert published.pop(DEAD_HEAD)
    assert ours == {name: entry["shape"] for name, entry in published.items()}


@needs_compat
def test_tiny_file_has_no_other_name():
    names = set(load_file(COMPAT / "pi05_tiny.safetensors"))
    assert names - set(Pi05(REDUCED).state_dict()) == {DEAD_HEAD}
    assert EMBEDDING in names
