"""`vla parity` on the shipped case, on models of other sizes in every published layout, and on what does not fit."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recipes.cli import main
from tests.vla.models.pi05.lerobot_cases import CONFIG as PEER_SIZES
from tests.vla.models.pi05.recorded_cases import (
    DEAD_HEAD,
    EMBED,
    HEAD,
    OTHER,
    PALIGEMMA,
    published,
    record,
    student,
    write,
)
from vla.models.pi05.config import GemmaConfig
from vla.models.pi05.parity import openpi_times
from vla.nn.flow_matching import euler_times

GOLDEN = Path(__file__).parents[1] / "vla/models/pi05/golden"
RECORDER = Path(__file__).parents[2] / "benchmarks/peers/record_case.py"
COMPAT = Path(__file__).parents[2].parent / "shared" / "compat"
State = dict[str, torch.Tensor]
UP_PROJ = PALIGEMMA + "model.language_model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def state() -> State:
    return published(student())


@pytest.fixture(scope="module")
def case() -> dict[str, Any]:
    return record(student())


@pytest.mark.skipif(not COMPAT.is_dir(), reason="needs ../shared/compat, which is not in the repository")
def test_the_shipped_case(capsys: pytest.CaptureFixture):
    files = ["--weights", str(COMPAT / "pi05_tiny.safetensors"), "--case", str(COMPAT / "pi05_tiny.npz")]
    assert main(["parity", *files]) == 0
    out = capsys.readouterr().out
    assert "vision  2 x 48, MLP 96, 4 heads, 56 px in patches of 14" in out
    assert "heads   8, 1 for keys, 16 wide" in out
    assert f"ignored     1: {DEAD_HEAD}" in out
    for quantity in ("prefix mask", "prefix embeddings", "losses", "loss", "gradient norms", "sampled actions"):
        assert any(line.startswith(quantity + "  ") and "  ok  " in line for line in out.splitlines()), quantity


def lerobot(state: State) -> State:
    return {f"model.{name}": value for name, value in state.items()}


def tied_twice(state: State) -> State:
    return {**state, EMBED: state[HEAD].clone()}


def tied_by_the_other_name(state: State) -> State:
    return {EMBED if name == HEAD else name: value for name, value in state.items()}


def aliases(state: State) -> State:
    renamed = {name.replace("time_mlp_", "action_time_mlp_"): value for name, value in state.items()}
    return {**renamed, "state_proj.weight": torch.ones(2, 2), "state_proj.bias": torch.ones(2)}


@pytest.mark.parametrize(
    "layout", [dict, lerobot, tied_twice, tied_by_the_other_name, aliases, lambda s: lerobot(aliases(tied_twice(s)))]
)
def test_other_sizes_in_every_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture, state: State, case: dict, layout: Callable[[State], State]
):
    assert main(write(tmp_path, layout(state), case)) == 0
    out = capsys.readouterr().out
    assert "vision  3 x 24, MLP 40, 3 heads, 24 px in patches of 8" in out
    assert "VLM     2 x 40, MLP 72, vocabulary 97" in out
    assert "expert  2 x 28, MLP 44, 5 actions of 7" in out
    assert "heads   3, 1 for keys, 12 wide" in out
    assert out.count("  ok  ") == 6


@pytest.mark.parametrize("recorded", [("losses",), ("loss",), ("sampled_actions",), ("losses", "prefix_embs")])
def test_heads_are_found_whatever_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture, recorded: tuple[str, ...]):
    two = GemmaConfig(width=40, depth=2, mlp_dim=72, num_heads=4, num_kv_heads=2, head_dim=8)
    config = replace(OTHER, vlm=two, expert=replace(two, width=28, mlp_dim=44))
    model = student(config)
    answers = {"losses", "loss", "sampled_actions", "prefix_embs", "grad_names", "grad_norms"} - set(recorded)
    case = {name: value for name, value in record(model, cameras=1).items() if name not in answers}
    assert main(write(tmp_path, published(model), case)) == 0
    out = capsys.readouterr().out
    assert ", 3 heads, 24 px" in out
    assert "heads   4, 2 for keys, 8 wide" in out


def test_stated_heads_and_steps(tmp_path: Path, capsys: pytest.CaptureFixture):
    model = student(replace(OTHER, num_steps=4))
    case = {**record(model), "vision_heads": np.int64(3), "head_dim": np.int64(12)}
    assert main(write(tmp_path, published(model), {**case, "num_steps": np.int64(4), "note": np.array("mine")})) == 0
    out = capsys.readouterr().out
    assert "choices" not in out
    assert "not read: note" in out
    assert main(write(tmp_path, published(model), case)) == 1  # ten steps
    assert "beyond tolerance: sampled actions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "quantities"),
    [
        (UP_PROJ.replace("layers.1", "layers.0"), {"losses", "gradient norms", "sampled actions"}),
        ("action_out_proj.bias", {"losses", "loss", "sampled actions"}),
        (PALIGEMMA + "model.multi_modal_projector.linear.bias", {"prefix embeddings", "losses"}),
    ],
)
def test_a_changed_weight_is_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture, state: State, case: dict, name: str, quantities: set[str]
):
    assert main(write(tmp_path, {**state, name: state[name] + 0.02}, case)) == 1
    told = capsys.readouterr()
    beyond = {line.split("  ")[0] for line in told.out.splitlines() if "BEYOND" in line}
    assert quantities <= beyond
    assert all(quantity in told.err for quantity in beyond)
    if "multi_modal" not in name:
        assert "prefix embeddings" not in beyond


def test_what_is_not_a_number_is_beyond(tmp_path: Path, state: State, case: dict, capsys: pytest.CaptureFixture):
    broken = state["action_out_proj.bias"].clone()
    broken[2] = float("nan")
    assert main(write(tmp_path, {**state, "action_out_proj.bias": broken}, case)) == 1
    assert "losses nan" in capsys.readouterr().err


def without(state: State, name: str) -> State:
    return {other: value for other, value in state.items() if other != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: without(s, UP_PROJ), f"1 missing: {UP_PROJ}"),
        (lambda s: without(s, HEAD), f"there is no {HEAD}"),
        (lambda s: {**s, "model.surprise": torch.ones(1)}, "1 unexpected: model.surprise"),
        (lambda s: {**s, UP_PROJ: torch.ones(72, 41)}, f"{UP_PROJ} is (72, 41) and not (72, 40)"),
        (lambda s: {**s, UP_PROJ.replace("1.mlp", "0.mlp"): torch.ones(72)}, "2 sizes there"),
        (lambda s: {**s, EMBED: s[HEAD] + 1}, "but differ"),
        (lambda s: {name: v for name, v in s.items() if "gemma_expert.model.layers.1." not in name}, "11 missing: "),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    state: State,
    case: dict,
    change: Callable[[State], State],
    words: str,
):
    assert main(write(tmp_path, change(state), case)) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"noise": None}, "records `losses` but not `noise`"),
        ({"noise": np.zeros((3, 5, 8), np.float32)}, "`noise` has shape (3, 5, 8), but must be [B, S, A] = [3, 5, 7]"),
        ({"images": np.zeros((2, 3, 3, 16, 16), np.float32)}, "for images of 24 px, but the images have 16 px"),
        ({"images": np.zeros((2, 3, 3, 24, 24), np.uint8)}, "`images` holds uint8, but must hold floating numbers"),
        ({"tokens": np.full((3, 6), 97)}, "`tokens` reach 97, but the weights know 0 to 96"),
        ({"prefix_embs": np.zeros((3, 24, 41), np.float32)}, "`prefix_embs` has 41 numbers a token, but the weights"),
        ({"grad_names": np.array(["a"]), "grad_norms": np.ones(1)}, "`grad_names` has a, which is no parameter"),
        ({"head_dim": np.int64(7)}, "head_dim 7 does not fit"),
        ({"vision_heads": np.int64(0)}, "`vision_heads` is 0"),
        ({"clock": np.array("mine")}, "`clock` is 'mine'; it must be one of lerobot, openpi, or be left out"),
        ({"clock": np.array(10)}, "`clock` holds int64, but must hold text"),
        ({"time": np.array([None] * 3)}, "not a case in an .npz file of plain arrays"),
    ],
)
def test_cases_that_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture, state: State, case: dict, change: dict, words: str
):
    changed = {name: value for name, value in {**case, **change}.items() if value is not None}
    assert main(write(tmp_path, state, changed)) == 2
    assert words in capsys.readouterr().err


def test_files_that_are_not_what_they_should_be(
    tmp_path: Path, capsys: pytest.CaptureFixture, state: State, case: dict
):
    arguments = write(tmp_path, state, case)
    weights, recorded = Path(arguments[2]), Path(arguments[4])
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert main(arguments) == 2
    assert "not a whole .safetensors file" in capsys.readouterr().err
    weights.write_bytes(whole)
    recorded.write_bytes(recorded.read_bytes()[:1000])
    assert main(arguments) == 2
    assert "not a case in an .npz file" in capsys.readouterr().err
    recorded.unlink()
    assert main(arguments) == 2
    assert f"--case {recorded}: there is no such file" in capsys.readouterr().err
    assert main([*arguments, "--atol", "1"]) == 2


@pytest.mark.parametrize("project", ["lerobot", "openpi"])
def test_recorded_peers(tmp_path: Path, capsys: pytest.CaptureFixture, project: str):
    """Recorded by benchmarks/peers/record_case.py from public code, at a size of our own."""
    case = dict(np.load(GOLDEN / f"{project}_case.npz"))
    state = published(student(PEER_SIZES, seed=11))
    assert main(write(tmp_path, state, case)) == 0
    out = capsys.readouterr().out
    assert "heads   8, 1 for keys, 8 wide\n" in out
    (line,) = (line for line in out.splitlines() if line.startswith("sampled actions"))
    assert line.startswith(f"sampled actions ({project} clock)")
    assert "  1e-05      ok  " in line
    state["time_mlp_out.bias"] = state["time_mlp_out.bias"] + 1e-3
    assert main(write(tmp_path, state, case)) == 1
    assert "sampled actions" in capsys.readouterr().err


def test_clocks_differ():
    ours, theirs = euler_times(10), openpi_times(10)
    assert torch.equal(ours[:2], theirs[:2])
    assert 1e-8 < (ours - theirs).abs().max() < 1e-6  # a rounding a step


PEERS = {name: os.environ.get(f"VLA_{name.upper()}_PYTHON", "") for name in ("lerobot", "openpi")}


@pytest.mark.parametrize("project", PEERS)
def test_a_peer_recorded_now(tmp_path: Path, capsys: pytest.CaptureFixture, project: str):
    """At a size that is nobody's: other widths, one camera, a ragged batch of three, seven steps."""
    if not PEERS[project]:
        pytest.skip(f"set VLA_{project.upper()}_PYTHON to a Python that imports {project} (docs/parity.md)")
    sizes = replace(
        PEER_SIZES,
        vision=replace(PEER_SIZES.vision, width=20, num_heads=5, depth=1, image_size=16),
        vlm=replace(PEER_SIZES.vlm, width=24, head_dim=6),
        expert=replace(PEER_SIZES.expert, width=20, head_dim=6),
        vocab_size=61,
        action_dim=3,
    )
    arguments = write(tmp_path, {f"model.{n}": v.bfloat16() for n, v in published(student(sizes)).items()}, {})
    weights, case = arguments[2], arguments[4]
    order = f"--horizon=4 --vision-heads=5 --head-dim=6 --steps=7 --cameras=1 --batch=3 --text=5 --seed=3 --case={case}"
    told = subprocess.run(
        [PEERS[project], str(RECORDER), project, "--weights", weights, *order.split()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-3000:]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.count("  ok  ") == 6
    assert f"sampled actions ({project} clock)" in out


def test_help_does_not_wait_for_torch():
    code = "import sys; from recipes.cli import main\ntry: main(['parity', '--help'])\nexcept SystemExit: pass\n"
    told = subprocess.run(
        [sys.executable, "-c", code + "print(sorted({'torch', 'safetensors'} & set(sys.modules)))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "vla parity --weights pi05_base --case recorded.npz" in told.stdout
    assert told.stdout.strip().endswith("[]")
