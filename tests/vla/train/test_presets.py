"""The optimisers of openpi and LeRobot: learning rates recorded from their own code, what decays, and the average."""

import draccus
import pytest
import torch
from tiny_stage import Network

from vla.train.config import OptimConfig
from vla.train.ema import Ema
from vla.train.optim import build_adamw, decayed_names, learning_rate

# Of openpi's scripts/train_pytorch.py::lr_schedule and of LeRobot's CosineDecayWithWarmupSchedulerConfig, both with
# peak 2.5e-5, 1,000 warm-up, 30,000 decay, end 2.5e-6: the rate update n is made with, n from 1.
OPENPI = {
    1: 2.4975024975024977e-08, 2: 4.9950049950049954e-08, 500: 1.2487512487512488e-05, 1000: 2.4975024975024975e-05,
    1001: 2.5e-05, 1002: 2.4999999933987485e-05, 5000: 2.3960735139172614e-05, 15001: 1.4359062721585949e-05,
    30000: 2.5000000660125143e-06, 30001: 2.5e-06, 40000: 2.5e-06,
}  # fmt: skip
LEROBOT = {
    1: 2.4975024975024977e-08, 2: 4.995004995004826e-08, 500: 1.2487512487512488e-05, 1000: 2.497502497502498e-05,
    1001: 2.4938371322893075e-05, 1002: 2.4938248116851582e-05, 5000: 2.3493374787775603e-05, 15001: 1.375e-05,
    30000: 2.5000000616850276e-06, 30001: 2.5e-06, 40000: 2.5e-06,
}  # fmt: skip
LEROBOT_3000_STEPS = {
    1: 2.4752475247524754e-07, 2: 4.950495049504955e-07, 50: 1.2376237623762377e-05, 99: 2.4504950495049507e-05,
    100: 2.4752475247524754e-05, 101: 2.4938371322893075e-05, 102: 2.4937133741461562e-05, 1500: 1.3761780970297752e-05,
    3000: 2.500006168502187e-06,
}  # fmt: skip
LEROBOT_20_STEPS = {1: 2.5e-05, 2: 2.48614938316953e-05, 20: 2.6385061683047016e-06}


@pytest.mark.parametrize(
    ("preset", "steps", "recorded"),
    [
        ("openpi", 60_000, OPENPI),
        ("openpi", 3_000, {n: rate for n, rate in OPENPI.items() if n <= 3_000}),  # it never shortens its cosine
        ("lerobot", 60_000, LEROBOT),
        ("lerobot", 3_000, LEROBOT_3000_STEPS),
        ("lerobot", 20, LEROBOT_20_STEPS),
    ],
)
def test_learning_rates_are_theirs(preset: str, steps: int, recorded: dict[int, float]) -> None:
    config = OptimConfig(preset=preset)  # pyright: ignore[reportArgumentType]
    found = {n: learning_rate(config, n, steps) for n in recorded}
    assert found == pytest.approx(recorded, rel=1e-12)


def test_numbers_and_overrides() -> None:
    openpi, lerobot = OptimConfig(preset="openpi"), OptimConfig(preset="lerobot")
    for config in (openpi, lerobot):
        assert (config.lr, config.final_lr, config.betas, config.eps) == (2.5e-5, 2.5e-6, (0.9, 0.95), 1e-8)
        assert (config.clip_norm, config.warmup_steps, config.decay_steps) == (1.0, 1000, 30_000)
    assert (openpi.weight_decay, lerobot.weight_decay) == (1e-10, 0.01)
    changed = OptimConfig(preset="openpi", lr=1e-4, weight_decay=0.0)
    assert (changed.lr, changed.weight_decay, changed.final_lr) == (1e-4, 0.0, 2.5e-6)


def test_a_recipe_shows_the_numbers_and_reads_them_back() -> None:
    config = draccus.decode(OptimConfig, {"preset": "lerobot", "lr": 1e-4})
    shown = draccus.dump(config)
    assert shown is not None
    assert "weight_decay: 0.01" in shown
    assert draccus.decode(OptimConfig, draccus.encode(config)) == config


def test_a_preset_that_is_none_of_them_and_a_missing_rate_are_named() -> None:
    with pytest.raises(ValueError, match=r"optim\.preset is 'jax': choose one of plain, openpi, lerobot"):
        OptimConfig(preset="jax")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"optim\.lr is None: give one, or a preset"):
        OptimConfig()
    with pytest.raises(ValueError, match=r"optim\.decay_steps is 500: it must be more than optim\.warmup_steps"):
        OptimConfig(preset="openpi", decay_steps=500)


def test_both_projects_decay_everything() -> None:
    with torch.device("meta"):
        module = Network()
    parameters = dict(module.named_parameters())
    for preset in ("openpi", "lerobot"):
        config = OptimConfig(preset=preset)  # pyright: ignore[reportArgumentType]
        assert decayed_names(module, config) == set(parameters)
    plain = OptimConfig(lr=1e-3, weight_decay=0.1)
    assert decayed_names(module, plain) < set(parameters)
    groups = build_adamw(parameters, decayed_names(module, OptimConfig(preset="lerobot")), plain).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1]


def test_the_average_is_openpis() -> None:
    """It starts at the starting weights; after update n it is decay * average + (1 - decay) * weights."""
    start = torch.tensor([1.0, -2.0])
    weights = {"w": start.clone()}
    ema, by_hand = Ema(weights, 0.99), start.double()
    assert torch.equal(ema.averages["w"], start)
    for step in range(1, 50):
        weights["w"] = start + step
        ema.update(weights)
        by_hand = 0.99 * by_hand + 0.01 * weights["w"].double()
    torch.testing.assert_close(ema.averages["w"].double(), by_hand, rtol=1e-6, atol=0)
