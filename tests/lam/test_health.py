"""Health figures against latents and pictures whose health is known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
from data_mixtures.lerobot.writer import LeRobotWriter
from data_mixtures.mixture import Mixture
from lam.clam.config import DecoderConfig
from lam.health import HealthConfig, HealthEvaluator, check_alive, measure, write_health
from lam.latbot.config import GroundingConfig, nano
from lam.probes import effective_rank, relative_variance, ridge_r2


def test_effective_rank_of_known_clouds():
    torch.manual_seed(0)
    assert effective_rank(torch.randn(5000, 16)) == pytest.approx(16, rel=0.01)
    assert effective_rank(torch.randn(500, 3) @ torch.randn(3, 32)) < 3.01
    assert effective_rank(torch.randn(500, 1) @ torch.ones(1, 32)) == pytest.approx(1.0, abs=1e-6)


def test_relative_variance_tells_a_constant_from_a_cloud():
    torch.manual_seed(0)
    assert relative_variance(torch.ones(50, 8)) == 0
    assert relative_variance(torch.randn(5000, 8)) == pytest.approx(1.0, rel=0.01)
    assert relative_variance(10 + torch.randn(5000, 8)) == pytest.approx(1 / 101, rel=0.05)


def test_probe_reads_a_linear_code_and_nothing_from_noise():
    torch.manual_seed(0)
    y = torch.randn(600, 5)
    x = torch.cat([y @ torch.randn(5, 20), 0.1 * torch.randn(600, 20)], dim=1)
    assert ridge_r2(x, y) > 0.99
    assert abs(ridge_r2(torch.randn(600, 20), y)) < 0.1
    # More values than samples: a probe without a held-out part would read anything from noise.
    assert ridge_r2(torch.randn(600, 700), y) < 0.1
    with pytest.raises(ValueError, match="do not move"):
        ridge_r2(x, torch.ones(600, 5))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    """A bright square that the first two actions move over a still background."""
    root = tmp_path_factory.mktemp("data") / "square"
    rng = np.random.default_rng(0)
    features = {"observation.state": 4, "action": 4}
    with LeRobotWriter(root, 10, "metaworld_sawyer", {"corner": (32, 32)}, features) as writer:
        for episode in range(8):
            place, frames, actions = rng.uniform(6, 18, 2), [], []
            for _ in range(16):
                action = rng.uniform(-1, 1, 4)
                frame = np.full((32, 32, 3), 90, dtype=np.uint8)
                row, column = place.round().astype(int)
                frame[row : row + 8, column : column + 8] = 220
                frames.append(frame)
                actions.append(action)
                place = np.clip(place + action[:2], 0, 24)
            columns = {name: np.array(actions, dtype=np.float32) for name in features}
            writer.add_episode({"corner": np.stack(frames)}, columns, f"task {episode % 2}", [], {})
    config = nano()
    window = WindowConfig(config.num_frames, config.horizon)
    return Mixture(MixtureConfig([DatasetConfig(str(root))], ["corner"], window, 32), 0)


SMALL = HealthConfig(num_windows=48, num_probe_windows=96, num_steps=2, num_pictures=3, batch_size=24)


WHOLE = HealthConfig(num_windows=24, num_probe_windows=128, num_steps=1, num_pictures=1, batch_size=64)


def test_figures_and_pictures_of_a_fresh_teacher(make_stage, make_model, mixture):
    stage = make_stage()
    figures, pictures = measure(stage, make_model(stage).eval(), mixture, SMALL)
    assert all(np.isfinite(value) for value in figures.values())
    assert figures["num_values_scene"] == 4 * 16
    assert {"probe_r2_motion", "probe_r2_scene", "swap_moves_like_donor_motion"} <= figures.keys()
    assert pictures.current.shape == pictures.true.shape == pictures.predicted.shape == (3, 32, 32, 3)
    assert pictures.current.dtype == np.uint8
    assert not np.array_equal(pictures.current, pictures.true)
    assert len(pictures.captions) == 3


class Oracle(torch.nn.Module):
    """Stands in for a teacher: latents and predictions as the test wants them."""

    def __init__(self, stage, scene, motion, draw) -> None:
        super().__init__()
        self.config, self.scene, self.motion, self.draw = stage.config, scene, motion, draw

    def forward(self, inputs, task, num_steps=1):
        if task == "encode":
            return {"scene": self.scene(inputs), "motion": self.motion(inputs)}
        return {"frame": self.draw(inputs), "actions": inputs.action_noise[:, 0]}


def codes(inputs) -> torch.Tensor:
    """The window's whole change, folded into 4 tokens: [B, 4, 16]."""
    change = (inputs.images[:, -1, 0].float() - inputs.images[:, 0, 0].float()).flatten(1)
    projection = torch.randn(change.shape[1], 64, generator=torch.Generator().manual_seed(0))
    return (change @ projection / 1000).unflatten(1, (4, 16))


def frame(inputs, index) -> torch.Tensor:
    return inputs.images[:, index, 0].float() / 127.5 - 1


def places(inputs) -> torch.Tensor:
    """Where the square is in every frame, among zeros: [B, 4, 16]."""
    bright = (inputs.images[:, :, 0].float().mean(dim=2) > 150).float()
    row, column = (bright.sum(dim=dim) for dim in (3, 2))
    axis = torch.arange(32.0)
    place = torch.stack([(part * axis).sum(dim=2) / 64 for part in (row, column)], dim=2).flatten(1)
    return torch.nn.functional.pad(place, (0, 64 - place.shape[1])).unflatten(1, (4, 16))


def test_probe_finds_the_actions_in_a_code_of_the_places(make_stage, mixture):
    """The square moves as two of four actions say: its places tell part of them, and a constant nothing."""
    stage = make_stage()

    def constant(inputs):
        return torch.ones(len(inputs.images), 4, 16)

    figures, _ = measure(stage, Oracle(stage, constant, places, lambda i: frame(i, 0)), mixture, WHOLE)
    assert figures["probe_r2_motion"] > 0.1
    assert figures["probe_r2_scene"] < 0.05


def test_a_perfect_teacher_and_a_copying_one_are_told_apart(make_stage, mixture):
    stage = make_stage()
    perfect, _ = measure(stage, Oracle(stage, codes, codes, lambda i: frame(i, -1)), mixture, SMALL)
    copying, _ = measure(stage, Oracle(stage, codes, codes, lambda i: frame(i, 0)), mixture, SMALL)
    assert perfect["reconstruction_ratio_one_step"] == pytest.approx(0.0, abs=1e-6)
    assert copying["reconstruction_ratio_one_step"] == pytest.approx(1.0)
    assert copying["reconstruction_ratio_sampled"] == pytest.approx(1.0)


def test_decoded_actions_are_held_against_their_mean(make_stage, mixture):
    grounding = GroundingConfig(decoder=DecoderConfig(8, (8,)))
    stage = make_stage(replace(nano(), grounding=grounding))
    rows = torch.from_numpy(mixture.spread(WHOLE.num_probe_windows)).split(WHOLE.batch_size)
    actions, mask = (
        torch.cat([getattr(mixture.batch_at(r.tolist()), n) for r in rows]) for n in ("actions", "action_mask")
    )
    true = stage.normalisation.normalise_action(actions) * mask
    mean = (true.sum(dim=(0, 1)) / mask.sum(dim=(0, 1)).clamp(min=1)).expand_as(true)

    class Reader(Oracle):
        """Gives `answer`'s rows in the order they are asked for."""

        def __init__(self, answer) -> None:
            super().__init__(stage, codes, codes, lambda i: frame(i, 0))
            self.answer, self.place = answer, 0

        def forward(self, inputs, task, num_steps=1):
            result = super().forward(inputs, task, num_steps)
            if task == "encode":
                first, self.place = self.place, self.place + len(inputs.images)
                result["actions"] = self.answer[first : self.place]
            return result

    def error(answer) -> float:
        return measure(stage, Reader(answer), mixture, WHOLE)[0]["grounded_action_error"]

    assert error(true) == 0
    assert error(mean) == pytest.approx(1.0)
    assert error((true + mean) / 2) == pytest.approx(0.25, rel=1e-4)
    assert error(true.where(mask, 1e3)) == 0, "a masked action counts for nothing"


def test_a_decoder_that_was_not_trained_has_no_figure(make_stage, make_model, mixture):
    flow = replace(nano().flow, action_weight=0.0)
    for config, found in ((nano(), {"flow_action_error"}), (replace(nano(), flow=flow), set())):
        stage = make_stage(config)
        figures, _ = measure(stage, make_model(stage).eval(), mixture, SMALL)
        assert {name for name in figures if name.endswith("_action_error")} == found


def test_swap_test_sees_who_moves_the_picture(make_stage, mixture):
    stage = make_stage()
    offset = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)

    def from_motion(inputs):
        return frame(inputs, 0) + inputs.latents[:, 4:].sum(dim=(1, 2)).view(-1, 1, 1, 1).sign() * offset

    def from_scene(inputs):
        return frame(inputs, 0) + inputs.latents[:, :4].sum(dim=(1, 2)).view(-1, 1, 1, 1).sign() * offset

    by_motion = measure(stage, Oracle(stage, codes, codes, from_motion), mixture, SMALL)[0]
    by_scene = measure(stage, Oracle(stage, codes, codes, from_scene), mixture, SMALL)[0]
    assert by_motion["swap_moves_like_donor_motion"] > by_motion["swap_moves_like_donor_scene"] == 0
    assert by_scene["swap_moves_like_donor_scene"] > by_scene["swap_moves_like_donor_motion"] == 0
    assert by_scene["swap_background_kept"] < 0.5


def test_collapse_stops_with_a_message(make_stage, mixture, tmp_path: Path):
    stage = make_stage()

    def constant(inputs):
        return torch.ones(len(inputs.images), 4, 16)

    dead = Oracle(stage, codes, constant, lambda i: frame(i, 0))
    with pytest.raises(ValueError, match="motion tokens have collapsed"):
        write_health(tmp_path, stage, dead, mixture, SMALL)
    assert json.loads((tmp_path / "health.json").read_text())["relative_variance_motion"] == 0
    evaluator = HealthEvaluator(stage, mixture, SMALL)
    assert dict(evaluator.run(dead))["health/relative_variance_motion"] == 0
    with pytest.raises(ValueError, match="collapsed"):
        list(HealthEvaluator(stage, mixture, SMALL, stop_on_collapse=True).run(dead))


def test_health_is_written_for_the_report(make_stage, make_model, mixture, tmp_path: Path):
    stage = make_stage()
    figures = write_health(tmp_path, stage, make_model(stage).eval(), mixture, SMALL)
    check_alive(figures)
    assert json.loads((tmp_path / "health.json").read_text()) == figures
    with np.load(tmp_path / "pictures.npz", allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["captions", "current", "predicted", "swapped", "true"]
        assert arrays["captions"].tolist()[0].startswith("task")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["health.json", "pictures.npz"]
