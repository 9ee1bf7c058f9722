"""The latent action model: what reaches which part, what is predicted, and the paper's parameter counts."""

import pytest
import torch
from torch import nn

from data_mixtures.transitions import Grounding, Transitions, Windows
from lam.clam.config import DecoderConfig, LamConfig, MlpConfig, TransformerConfig
from lam.clam.decoder import ActionDecoder
from lam.clam.initialise import initial_value
from lam.clam.model import LatentActionModel, Sizes
from lam.clam.stage import reading
from lam.clam.standard import Statistics
from tests.lam.clam.worlds import pushed_points

SMALL = DecoderConfig(embedding_dim=8, hidden_dims=(8,))
SIZES = Sizes([0, 1, 2], [0, 1], context=1)


def config(**changed: object) -> LamConfig:
    given = {"mlp": MlpConfig((16, 16)), "latent_dim": 4, "decoder": SMALL} | changed
    return LamConfig(**given)  # type: ignore[arg-type]


def model_of(config: LamConfig, sizes: Sizes = SIZES) -> LatentActionModel:
    model = LatentActionModel(config, sizes)
    generator = torch.Generator().manual_seed(0)
    statistics = Statistics.of(pushed_points(0), pushed_points(1), floor=0.01)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name.startswith("standard."):
                tensor.copy_(getattr(statistics, name.removeprefix("standard.")))
            else:
                tensor.copy_(initial_value(model, name, generator))
    return model


def batch_of(context: int = 1, future: int = 1, every: int = 1) -> object:
    windows, labelled = Windows(pushed_points(0), context, future), Windows(pushed_points(1), context, future)
    source = Transitions(windows, 0, grounding=Grounding(labelled, every, 6) if every else None, batch_size=4)
    return source.batch(range(4))


def reached(model: nn.Module, loss: torch.Tensor) -> set[str]:
    """Which of the model's parts a loss has a gradient in."""
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {
        name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and bool((p.grad != 0).any())
    }


def test_the_decoders_error_shapes_the_latents_and_no_prediction() -> None:
    model = model_of(config())
    found = model(reading(batch_of()))  # type: ignore[arg-type]
    assert reached(model, found["reconstruction"].sum()) == {"inverse", "forward_model"}
    assert reached(model, found["action"].sum()) == {"inverse", "decoder"}
    assert found["reconstruction"].shape == (4,)
    assert found["action"].shape == (6,)


def test_updates_without_labels_still_reach_every_parameter_with_a_zero() -> None:
    model = model_of(config())
    found = model(reading(batch_of(every=2)))  # type: ignore[arg-type]
    assert "action" not in found
    assert found["idle"].item() == 0
    (found["reconstruction"].sum() + found["idle"]).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_error_of_standing_still_is_the_mean_square_of_the_scaled_change() -> None:
    model, batch = model_of(config()), batch_of()
    windows = reading(batch)  # type: ignore[arg-type]
    found = model(windows)
    change = (windows.states[:4, 2, :3] - windows.states[:4, 1, :3]) / model.standard.change_std
    assert torch.allclose(found["copy"], change.square().mean(1))


def test_predicting_the_change_itself_has_no_error() -> None:
    model, windows = model_of(config()), reading(batch_of())  # type: ignore[arg-type]

    class Oracle(nn.Module):
        def forward(self, frames: object, latents: torch.Tensor) -> torch.Tensor:
            return model.standard.changes(windows.states[:4])[:, -1:]

    model.forward_model = Oracle()
    assert float(model(windows)["reconstruction"].detach().abs().max()) < 1e-10


@pytest.mark.parametrize("inputs", ["raw", "change"])
def test_several_steps_ahead_predict_from_predictions(inputs: str) -> None:
    ahead = model_of(config(predicted_steps=3, inputs=inputs))
    windows = reading(batch_of(future=3))  # type: ignore[arg-type]
    found = ahead(windows)
    single = model_of(config(inputs=inputs))
    assert not torch.allclose(found["reconstruction"], single(reading(batch_of()))["reconstruction"])  # type: ignore[arg-type]
    columns = model_of(config(inputs=inputs)).standard
    truth = windows.states

    class Oracle(nn.Module):
        calls = 0

        def forward(self, frames: object, latents: torch.Tensor) -> torch.Tensor:
            span = truth[:4, Oracle.calls : Oracle.calls + 3]
            Oracle.calls += 1
            return (columns.states(span[:, 1:]) if inputs == "raw" else columns.changes(span))[:, -1:]

    ahead.forward_model = Oracle()
    assert float(ahead(windows)["reconstruction"].detach().abs().max()) < 1e-8
    assert Oracle.calls == 3


def test_held_frames_before_an_episode_count_for_nothing() -> None:
    transformer = TransformerConfig(1, 1, 8, 16, 2, 0.0)
    model = model_of(config(mlp=None, transformer=transformer), Sizes([0, 1, 2], [0, 1], context=2))
    windows = Windows(pushed_points(0), context=2)
    first = Transitions(windows, 0)._at(torch.tensor([0]), torch.tensor([0]))
    assert first.steps_mask is not None
    assert first.steps_mask.tolist() == [[False, False, True]]
    found = model(reading(first))
    change = model.standard.changes(first.states)[:, -1]  # type: ignore[arg-type]
    assert torch.allclose(found["copy"], change.square().mean(1))


def test_actions_survive_the_way_to_their_units_and_back() -> None:
    standard = model_of(config()).standard
    actions = torch.randn(5, 44)
    assert torch.allclose(standard.physical(standard.actions(actions)), actions[:, :2], atol=1e-6)


def test_a_dimension_that_does_not_move_is_not_blown_up() -> None:
    statistics = Statistics.of(pushed_points(0), pushed_points(1), floor=0.01)
    assert float(statistics.std[2]) == pytest.approx(0.01 * float(statistics.std.max()))
    assert float(statistics.change_std[2]) == pytest.approx(0.01 * float(statistics.change_std.max()))


def test_changes_between_episodes_are_no_changes() -> None:
    world = pushed_points(0)
    statistics = Statistics.of(world, world, floor=0.01)
    assert float(statistics.change_std[:2].max()) < 0.1  # of 0.1 times a uniform; episodes start a unit apart


def test_the_papers_parameter_counts() -> None:
    with torch.device("meta"):
        decoder = ActionDecoder(16, 4, DecoderConfig())
        sizes = Sizes(list(range(39)), list(range(4)), context=2)
        lam = LatentActionModel(LamConfig(transformer=TransformerConfig(), inputs="raw"), sizes)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in lam.named_children()}
    assert sum(p.numel() for p in decoder.parameters()) == 2_637_316
    assert count["inverse"] + count["forward_model"] == 8_874_551


def test_one_network_is_named() -> None:
    with pytest.raises(ValueError, match="name exactly one of mlp"):
        LamConfig()
