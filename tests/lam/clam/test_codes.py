"""Discrete latents on the one loop, as LAPO and LAPA have them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data_mixtures.transitions import Transitions, Windows
from lam.clam.code_stage import CodeStage
from lam.clam.config import LamConfig, PolicyConfig, QuantiserConfig
from lam.clam.policy import observed_moments
from lam.clam.policy_stage import PolicyStage
from lam.clam.relabel import coded, relabelled
from lam.clam.stage import load_lam
from lam.clam.standard import Statistics
from tests.lam.clam import codes_worker
from tests.lam.clam.test_model import SIZES, config
from tests.lam.clam.test_training import LABELLED, LOOP, OPTIM, PLAY, fit, lam_stage
from tests.lam.clam.worlds import ROBOT
from tests.vla.train.launch import finish, start
from vla.train.config import ParallelConfig
from vla.train.loop import train

VQ = QuantiserConfig(num_codes=8, num_codebooks=2, decay=0.9)
SHORT = replace(LOOP, steps=12, save_every=6, log_every=1)
POLICY = PolicyConfig("action", "labelled", 16, (16,))


class StopError(Exception):
    pass


class Stops(Transitions):
    """Ends a run in its 9th update."""

    def batch(self, sample_ids):  # noqa: ANN001, ANN201
        """As `Transitions`, so long as it lasts."""
        if sample_ids[0] >= 32 * 8:
            raise StopError
        return super().batch(sample_ids)


@pytest.fixture(scope="module")
def discrete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(config(joint=False, quantiser=VQ), tmp_path_factory.mktemp("discrete"), replace(LOOP, steps=100))


@pytest.mark.parametrize("kind", ["vq", "hybrid"])
def test_codes_resume_to_the_bit(kind: str, tmp_path: Path) -> None:
    lam = config(joint=False, quantiser=QuantiserConfig(kind=kind, num_codes=8, num_codebooks=1, rest_dim=2))  # type: ignore[arg-type]
    source = Transitions(Windows(PLAY, 1), 0)
    train(lam_stage(lam), source, SHORT, OPTIM, ParallelConfig(), tmp_path / "whole")
    with pytest.raises(StopError):
        train(lam_stage(lam), Stops(Windows(PLAY, 1), 0), SHORT, OPTIM, ParallelConfig(), tmp_path / "stopped")
    train(lam_stage(lam), source, SHORT, OPTIM, ParallelConfig(), tmp_path / "stopped")
    one, other = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "stopped"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    averages = "quantiser.totals" if kind == "vq" else "quantiser.quantiser.totals"
    assert not torch.equal(
        one[averages], lam_stage(lam).init_parameter(averages, one[averages].shape, torch.Generator())
    )


def test_codes_of_two_ranks_are_those_of_one(tmp_path: Path) -> None:
    finish(start([{"out": str(tmp_path)}], ranks=2, worker=Path(codes_worker.__file__)))
    alone = codes_worker.followed(0, 1)
    for rank in range(2):
        found = load_file(tmp_path / f"{rank}.safetensors")
        assert all(torch.equal(found[name], alone[name]) for name in alone)


def test_a_decoder_trained_afterwards_leaves_codes_and_latents_alone(discrete: Path, tmp_path: Path) -> None:
    lam = config(joint=False, quantiser=VQ)
    stage = lam_stage(lam, start=discrete, trains="decoder")
    train(stage, Transitions(Windows(LABELLED, 1), 0, labelled=True), SHORT, OPTIM, ParallelConfig(), tmp_path)
    before, after = (load_file(f / "model.safetensors") for f in (discrete, tmp_path / "model"))
    assert {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])} == {"decoder"}


def test_a_latent_is_its_codes(discrete: Path) -> None:
    model, windows = load_lam(discrete), Windows(LABELLED, 1)
    codes, latents = coded(model, windows), relabelled(model, windows, 1)
    books = model.quantiser.codebook()  # type: ignore[union-attr]
    named = torch.cat([books[place][codes[..., place]] for place in range(2)], dim=-1)
    assert torch.equal(latents, named)
    assert len(codes.flatten(0, 1).unique(dim=0)) > 4


@pytest.mark.parametrize("passes_on", ["quantised", "before"])
def test_what_policies_imitate_is_as_the_quantiser_passes_it_on(discrete: Path, passes_on: str) -> None:
    model = load_lam(discrete)
    model.config = replace(model.config, quantiser=replace(VQ, passes_on=passes_on))  # type: ignore[arg-type]
    windows = Windows(LABELLED, 1)
    latents, codes = relabelled(model, windows, 1)[:, 0], coded(model, windows)[:, 0]
    distinct = len(latents.unique(dim=0))
    assert distinct == (len(codes.unique(dim=0)) if passes_on == "quantised" else len(latents))


def test_lapa_learns_codes_then_goes_on_with_a_fresh_last_layer(discrete: Path, tmp_path: Path) -> None:
    statistics = Statistics.of(PLAY, LABELLED, 0.01)
    # Codes that follow the observation: which quarter of the plane it is in, and which half.
    states = PLAY.states[Windows(PLAY, 0).frame]
    quarter = (states[:, 0] > 0).long() * 2 + (states[:, 1] > 0)
    codes = torch.stack([quarter, quarter // 2], dim=1)[:, None]
    source = Transitions(Windows(PLAY, 0), 0, latents=codes)
    stage = CodeStage(POLICY, SIZES, statistics, (4, 2))
    train(stage, source, LOOP, OPTIM, ParallelConfig(), tmp_path / "codes")
    model = stage.build()
    model.load_state_dict(load_file(tmp_path / "codes" / "model" / "model.safetensors"))
    loss, metrics = stage.loss(model, source.batch(range(200)))
    assert float(metrics["accuracy"]) > 0.9
    first, second = model(*observed_moments(source.batch(range(200)), 1))
    drawn = source.batch(range(200)).latents[:, 0]  # type: ignore[index]
    by_hand = -(first.log_softmax(1).gather(1, drawn[:, :1]) + second.log_softmax(1).gather(1, drawn[:, 1:])).mean() / 2
    torch.testing.assert_close(loss, by_hand)

    other = Statistics.of(LABELLED, LABELLED, 0.01)
    tuning = PolicyStage(POLICY, SIZES, other, None, ROBOT, 10.0, start=tmp_path / "codes" / "model")
    learned, fresh = model.state_dict(), torch.Generator().manual_seed(0)
    for name, tensor in tuning.build().state_dict().items():
        value = tuning.init_parameter(name, tensor.shape, fresh)
        assert torch.equal(value, learned[name]) == (not name.startswith("network.layers.1."))
    assert all(parameter.requires_grad for parameter in tuning.build().parameters())


def test_codes_beside_a_prior_are_refused() -> None:
    with pytest.raises(ValueError, match=r"leave it out beside lam.supervised or lam.prior_weight"):
        LamConfig(mlp=config().mlp, quantiser=VQ, prior_weight=0.1)
