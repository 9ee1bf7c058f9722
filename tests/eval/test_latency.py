"""The latency benchmark: turns, comparisons, peers that cannot run, and the floor's arithmetic."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eval import latency_peers
from eval.latency import Report, Settings, Timing, measure, take_turns
from eval.latency_cases import Case, case_inputs, reduced, write_random_weights
from eval.latency_floor import Limits, measured_limits, work
from tests.vla.models.pi05.recorded_cases import OTHER
from vla.models.pi05.config import Pi05Config
from vla.models.pi05.convert import WeightFile
from vla.models.pi05.load import load_published
from vla.models.pi05.model import Pi05, Prefix
from vla.models.pi05.sample import sample_actions

CONFIG = replace(OTHER, max_text_tokens=9)
CASE = Case(batch=2, cameras=2, text_tokens=5)

# Answers what it finds beside itself; the real runners are tested where the peers are installed.
RUNNER = """
import json, shutil, sys
from pathlib import Path
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if order["order"] == "case":
        shutil.copy(Path(__file__).with_suffix(".npy"), order["outputs"])
    print(json.dumps({"seconds": 0.25}), flush=True)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    write_random_weights(CONFIG, path, torch.float32)
    return path


@torch.no_grad()
def exact_actions(weights: Path) -> np.ndarray:
    with torch.device("meta"):
        model = Pi05(CONFIG)
    load_published(model, WeightFile(weights))
    inputs = case_inputs(CONFIG, CASE)
    prefix = Prefix(inputs["images"].transpose(0, 1), inputs["img_masks"].T, inputs["tokens"], inputs["masks"])
    return sample_actions(model, prefix, inputs["sample_noise"]).numpy()


def run(weights: Path, folder: Path, **settings: object) -> Report:
    return measure(weights, CONFIG, [CASE], Settings(rounds=3, **settings), folder, lambda _: None)  # pyright: ignore


def test_a_peer_is_timed_if_its_actions_are_ours(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    actions = exact_actions(weights)
    for name, shift in (("lerobot", 1e-5), ("openpi", 1e-3)):
        (tmp_path / f"{name}_runner.py").write_text(RUNNER)
        np.save(tmp_path / f"{name}_runner.npy", actions + np.float32(shift))
        monkeypatch.setenv(f"VLA_{name.upper()}_PYTHON", sys.executable)
    monkeypatch.setattr(latency_peers, "RUNNERS", tmp_path)
    result = run(weights, tmp_path).results[0]
    ours, lerobot, openpi = result.timings
    assert len(ours.seconds) == 3
    assert lerobot.seconds == [0.25] * 3
    assert 5e-6 < lerobot.difference < 2e-5
    assert openpi.seconds == []
    assert openpi.skipped == "computes something else: its actions differ from ours by 1.0e-03"
    assert set(result.parts) == set(result.floor) == {"vision", "prefix", "steps"}


def test_peers_that_cannot_run_are_skipped_with_a_word(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "openpi_runner.py").write_text("raise SystemExit('no openpi here')")
    monkeypatch.setattr(latency_peers, "RUNNERS", tmp_path)
    monkeypatch.delenv("VLA_LEROBOT_PYTHON", raising=False)
    monkeypatch.setenv("VLA_OPENPI_PYTHON", sys.executable)
    report = run(weights, tmp_path)
    skipped = {timing.name: timing.skipped for timing in report.results[0].timings}
    assert skipped["ours"] is None
    assert "set VLA_LEROBOT_PYTHON" in str(skipped["lerobot"])
    assert skipped["openpi"] == "it stopped: no openpi here"
    json.dumps(report.json())


def test_contestants_take_turns_and_warming_up_does_not_count():
    order = []

    def run(name: str, taken: float) -> float:
        order.append(name)
        return taken

    timings = [(Timing("a"), lambda: run("a", 1.0)), (Timing("b"), lambda: run("b", 2.0))]
    take_turns(timings, rounds=2, warm_up=1)
    assert order == ["a", "b"] * 3
    assert [timing.seconds for timing, _ in timings] == [[1.0, 1.0], [2.0, 2.0]]
    assert Timing("c", [1.0, 2.0, 3.0, 4.0, 10.0]).median == 3.0
    assert Timing("c", [1.0, 2.0, 3.0, 4.0, 10.0]).p90 == pytest.approx(7.6)


@pytest.mark.parametrize(("cameras", "milliseconds"), [(2, 5.5), (3, 7.08)])
def test_the_published_floor(cameras: int, milliseconds: float):
    h200 = Limits(790e12, 4.3e12, "")
    parts = work(Pi05Config(), cameras, 200, 1, 2)
    assert sum(part.seconds(h200) for part in parts.values()) * 1e3 == pytest.approx(milliseconds, abs=0.01)
    assert parts["steps"].bytes / 10 == pytest.approx(0.64e9, rel=0.01)


def test_limits_can_be_measured():
    limits = measured_limits(torch.device("cpu"), torch.float32, 256)
    assert 1e8 < limits.flops < 1e15
    assert 1e8 < limits.bytes < 1e13


def test_reduced_models_keep_the_published_proportions():
    assert reduced(18, 2048) == Pi05Config()
    small = reduced(4, 256)
    assert (small.vision.width, small.vision.num_heads, small.vlm.head_dim, small.expert.width) == (144, 2, 32, 128)
    with pytest.raises(ValueError, match="--width 200"):
        reduced(4, 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lerobot", "openpi"])
def test_the_real_peers_compute_what_we_compute(name: str, tmp_path: Path):
    import os

    if f"VLA_{name.upper()}_PYTHON" not in os.environ:
        pytest.skip(f"VLA_{name.upper()}_PYTHON is not set")
    config, path = reduced(2, 128), tmp_path / "w.safetensors"
    write_random_weights(config, path, torch.float32)
    settings = Settings(rounds=1, peers=(name,))
    report = measure(path, config, [Case(2, 2, 70), Case(1, 3, 200)], settings, tmp_path, lambda _: None)
    for result in report.results:
        assert result.timings[1].skipped is None
        assert result.timings[1].difference < {"lerobot": 1e-5, "openpi": 2e-4}[name]
        assert len(result.timings[1].seconds) == 1
