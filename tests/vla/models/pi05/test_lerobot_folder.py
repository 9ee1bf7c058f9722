"""A folder of ours through LeRobot's own loader and pipelines, and a folder of LeRobot's through ours.

With VLA_LEROBOT_PYTHON (docs/parity.md) LeRobot runs here; without it, what it answered and wrote is compared with.
"""

import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.spaces.recorded_columns import RecordedColumns
from data_mixtures.statistics.normalisation import Guard
from tests.vla.models.pi05.lerobot_cases import (
    ACTION_DIM,
    CONFIG,
    GOLDEN,
    SEEDS,
    STATE_DIM,
    WRITTEN,
    ask_lerobot,
    normalisation,
    observations,
    processor,
    rewrite,
    student,
    write_folder,
)
from tests.vla.models.pi05.peer_cases import GOLDEN as GOLDENS
from tests.vla.models.pi05.students import LATENT
from vla.models.pi05 import lerobot_folder
from vla.models.pi05.convert import WeightFile
from vla.models.pi05.dead_head import NAME as DEAD_HEAD
from vla.models.pi05.dead_head import add_dead_head
from vla.models.pi05.lerobot_read import read
from vla.models.pi05.lerobot_statistics import to_normalisation, to_statistics
from vla.models.pi05.prompt import discretise_state
from vla.models.pi05.sizes import Heads
from vla.models.pi05.stage import ActionConfig, ActionStage
from vla.models.pi05.tokenizer import PromptTokenizer
from vla.policy import Policy

PEER = os.environ.get("VLA_LEROBOT_PYTHON", "")
needs_lerobot = pytest.mark.skipif(not PEER, reason="set VLA_LEROBOT_PYTHON to a Python that imports LeRobot")
HEADS = Heads(CONFIG.vision.num_heads, CONFIG.vlm.head_dim)
# Actions are degrees up to 120: float32 has a step of 8e-6 there.
CLOSE: Any = {"rtol": 1e-6, "atol": 1e-5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("model"), processor())


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """What LeRobot writes when it saves `folder`'s model: its recorded files, and the weights under its names."""
    shutil.copytree(WRITTEN, tmp_path / "written")
    state = {f"model.{name}": value.contiguous() for name, value in student().state_dict().items()}
    save_file(state, tmp_path / "written" / "model.safetensors")
    processor().tokenizer.save(tmp_path / "written")
    return tmp_path / "written"


def actions(policy: Policy) -> np.ndarray:
    return policy.act_many(observations(), SEEDS)


def test_actions_are_those_lerobot_gave(folder: Path):
    golden = np.load(GOLDEN)
    np.testing.assert_allclose(actions(Policy.from_pretrained(folder)), golden["actions"], **CLOSE)
    assert np.abs(np.diff(golden["actions"], axis=0)).max() > 1, "the observations must matter"


def test_files_are_those_lerobot_writes(folder: Path):
    for name in (lerobot_folder.PREPROCESSOR, lerobot_folder.POSTPROCESSOR):
        assert json.loads((folder / name).read_text()) == json.loads((WRITTEN / name).read_text()), name
    for path in WRITTEN.glob("*.safetensors"):
        ours, theirs = load_file(folder / path.name), load_file(path)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    ours, theirs = (json.loads((place / "config.json").read_text()) for place in (folder, WRITTEN))
    assert ours == {name: theirs[name] for name in ours}


@needs_lerobot
@pytest.mark.parametrize("guard", ["still", "lerobot", "openpi"])
def test_lerobot_acts_alike(guard: Guard, tmp_path: Path):
    (tmp_path / "model").mkdir()
    made = processor(guard)
    if guard == "openpi":  # and the other kind of tokenizer
        made = replace(made, tokenizer=PromptTokenizer.load(GOLDENS / "tokenizer.model"))
    answers = ask_lerobot(PEER, write_folder(tmp_path / "model", made), tmp_path)
    assert "All keys loaded successfully!" in str(answers["printed"])
    np.testing.assert_allclose(answers["actions"], actions(Policy.from_pretrained(tmp_path / "model")), **CLOSE)
    limit = CONFIG.max_text_tokens
    for row, seen in enumerate(observations()):
        state = torch.from_numpy(np.pad(seen.state, (0, 46 - STATE_DIM)))
        bins = discretise_state(made.normalisation.normalise_state(state))[:STATE_DIM].tolist()
        task = seen.instruction.strip().replace("_", " ").replace("\n", " ")
        prompt = f"Task: {task}, State: {' '.join(map(str, bins))};\nAction: "
        ids = made.tokenizer.with_bos(made.tokenizer.encode(prompt), limit)
        assert answers["tokens"][row][answers["mask"][row]].tolist() == ids


@needs_lerobot
def test_what_lerobot_saves_again_is_read(folder: Path, tmp_path: Path):
    rewrite(PEER, folder, tmp_path / "again")
    again = read(tmp_path / "again", heads=HEADS)
    assert again.cameras == ("front", "wrist")
    state = WeightFile(tmp_path / "again")
    assert torch.equal(state.read("action_in_proj.bias", (24,)), student().action_in_proj.bias)


def test_a_folder_of_lerobots_is_read(written: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vla.models.pi05.lerobot_read.head_choices", lambda weights: [HEADS])
    policy = Policy.from_pretrained(written)
    assert (policy.cameras, policy.state_dim, policy.action_dim) == (("front", "wrist"), STATE_DIM, ACTION_DIM)
    assert policy.processor.model == CONFIG
    np.testing.assert_allclose(actions(policy), actions(Policy.from_pretrained(folder)), **CLOSE)


def test_heads_of_odd_sizes_must_be_told(written: Path):
    with pytest.raises(ValueError, match="their heads cannot be told"):
        read(written)


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_renamed_cameras_keep_the_names_they_are_given_under(written: Path):
    renamed = {"observation.images.top": "observation.images.front"}
    edit(written / lerobot_folder.PREPROCESSOR, lambda c: c["steps"][0]["config"].update(rename_map=renamed))
    assert read(written, heads=HEADS).cameras == ("top", "wrist")


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.json", lambda c: c.update(type="act"), "is of a 'act' policy, and only 'pi05'"),
        ("config.json", lambda c: c.update(use_relative_actions=True), "use_relative_actions is True; only False"),
        ("config.json", lambda c: c.update(use_visual_memory=True), "use_visual_memory is True"),
        ("config.json", lambda c: c.update(image_resolution=[24, 32]), "image_resolution is 24 x 32"),
        ("config.json", lambda c: c["input_features"].pop("observation.state"), "no feature observation.state"),
        ("policy_preprocessor.json", lambda c: c["steps"].append({"registry_name": "odd_step"}), r"\['odd_step'\]"),
        ("policy_preprocessor.json", lambda c: c["steps"].pop(3), "no normalizer_processor"),
        (
            "policy_preprocessor.json",
            lambda c: c["steps"][2]["config"].update(enabled=True),
            "enabled of relative_actions_processor is True; only False",
        ),
        (
            "policy_preprocessor.json",
            lambda c: c["steps"][3]["config"]["norm_map"].update(VISUAL="MEAN_STD"),
            "normalises images by MEAN_STD",
        ),
        (
            "policy_postprocessor.json",
            lambda c: c["steps"][0]["config"]["norm_map"].update(ACTION="MIN_MAX"),
            "no action.min among the statistics",
        ),
        (
            "policy_postprocessor.json",
            lambda c: c["steps"][0].update(state_file="lost.safetensors"),
            "lost.safetensors",
        ),
        (
            "policy_preprocessor.json",
            lambda c: c["steps"][5]["config"].update(max_length=3),
            "max_length of tokenizer_processor is 3; it must be 64",
        ),
        (
            "policy_preprocessor.json",
            lambda c: c["steps"][5]["config"].pop("max_length"),
            "max_length of tokenizer_processor is None; it must be 64",
        ),
        (
            "policy_preprocessor.json",
            lambda c: c["steps"][5]["config"].update(padding_side="left"),
            "padding_side of tokenizer_processor is 'left'",
        ),
        (
            "policy_preprocessor.json",
            lambda c: c["steps"][5]["config"].update(truncation=False),
            "truncation of tokenizer_processor is False; only True",
        ),
        (
            "policy_preprocessor.json",
            lambda c: c["steps"][3]["config"].update(eps=1.0),
            "eps of normalizer_processor is 1.0; only 1e-08",
        ),
        (
            "policy_preprocessor.json",
            lambda c: c["steps"][3]["config"].update(normalize_observation_keys=[]),
            "normalize_observation_keys of normalizer_processor is",
        ),
        (
            "policy_postprocessor.json",
            lambda c: c["steps"][0]["config"].update(eps=1e-3),
            "eps of unnormalizer_processor is 0.001",
        ),
        (
            "policy_preprocessor.json",
            lambda c: c["steps"][3].update(state_file="../x.safetensors"),
            "state_file is '../x.safetensors', but must be the name",
        ),
        (
            "policy_postprocessor.json",
            lambda c: c["steps"][0].update(state_file="/x.safetensors"),
            "state_file is '/x.safetensors'",
        ),
        ("policy_postprocessor.json", lambda c: c["steps"][0].pop("state_file"), "no action.q01 among the statistics"),
        ("policy_preprocessor.json", lambda c: c["steps"].reverse(), "in the order"),
        ("policy_preprocessor.json", lambda c: c["steps"].append(c["steps"][0]), "in the order"),
        ("policy_preprocessor.json", lambda c: c["steps"].pop(4), "no pi05_prepare_state_tokenizer_processor_step"),
        ("policy_preprocessor.json", lambda c: c.pop("steps"), "steps is no list"),
        ("config.json", lambda c: c.pop("chunk_size"), "chunk_size is 'missing'"),
        ("config.json", lambda c: c.pop("num_inference_steps"), "num_inference_steps is 'missing'"),
        ("config.json", lambda c: c.pop("image_resolution"), "image_resolution is 'missing'"),
        ("config.json", lambda c: c.pop("tokenizer_max_length"), "tokenizer_max_length is 'missing'"),
        ("config.json", lambda c: c.pop("input_features"), "input_features is 'missing'"),
        ("config.json", lambda c: c.pop("output_features"), "output_features is 'missing'"),
    ],
)
def test_what_cannot_be_run_is_named(written: Path, file: str, change: Any, words: str):
    edit(written / file, change)
    with pytest.raises(ValueError, match=words):
        read(written, heads=HEADS)


def test_a_missing_tokenizer_is_named(written: Path):
    (written / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="found neither.*takes it from the Hub as 'tokenizer'"):
        read(written, heads=HEADS)
    assert read(written, tokenizer=GOLDENS / "tokenizer.model", heads=HEADS).tokenizer.vocab_size == 500


def lerobots_quantiles(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    width = torch.where(high == low, torch.tensor(1e-8), high - low)
    return 2.0 * (x - low) / width - 1.0


@pytest.mark.parametrize("guard", ["still", "lerobot", "openpi"])
def test_statistics_mean_the_same(guard: Guard):
    ours = normalisation(guard)
    statistics = to_statistics(ours, STATE_DIM, ACTION_DIM)
    assert set(statistics) == {"observation.state.q01", "observation.state.q99", "action.q01", "action.q99"}
    state = torch.randn(50, STATE_DIM, generator=torch.Generator().manual_seed(0)) * 60
    state[:, 2] = 7.25
    theirs = lerobots_quantiles(state, statistics["observation.state.q01"], statistics["observation.state.q99"])
    mine = ours.normalise_state(torch.nn.functional.pad(state, (0, 46 - STATE_DIM)))[:, :STATE_DIM]
    torch.testing.assert_close(theirs, mine, atol=1e-6, rtol=1e-6)
    assert torch.equal(discretise_state(theirs), discretise_state(mine))
    assert theirs[0, 2] == (0 if guard == "still" else -1)
    y = torch.randn(50, ACTION_DIM, generator=torch.Generator().manual_seed(1))
    low, high = statistics["action.q01"], statistics["action.q99"]
    width = torch.where(high == low, torch.tensor(1e-8), high - low)
    mine = ours.unnormalise_action(torch.nn.functional.pad(y, (0, 44 - ACTION_DIM)))[:, :ACTION_DIM]
    torch.testing.assert_close((y + 1) * width / 2 + low, mine, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("mode", ["QUANTILES", "QUANTILE10", "MIN_MAX", "MEAN_STD", "IDENTITY"])
def test_every_mode_of_lerobots_is_a_line(mode: str):
    draw = torch.Generator().manual_seed(2)
    x, y = torch.randn(20, 3, generator=draw) * 4, torch.randn(20, 2, generator=draw)
    names = {"QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90"), "MIN_MAX": ("min", "max")}
    first, second = names.get(mode, ("mean", "std"))
    low, high = torch.tensor([-3.0, 1.0, 5.0]), torch.tensor([2.0, 1.5, 0.0 if mode == "MEAN_STD" else 9.0])
    statistics = {"observation.state." + first: low, "observation.state." + second: high,
                  "action." + first: low[:2], "action." + second: high[:2]}  # fmt: skip
    ours = to_normalisation(statistics, {"STATE": mode, "ACTION": mode}, 3, 2)
    if mode == "MEAN_STD":
        x[:, 2] = 5.0  # a state that never moved
        expected, back = (x - low) / (high + 1e-8), y * high[:2] + low[:2]
    elif mode == "IDENTITY":
        expected, back = x, y
    else:
        expected, back = lerobots_quantiles(x, low, high), (y + 1) * (high - low)[:2] / 2 + low[:2]
    pad = torch.nn.functional.pad
    torch.testing.assert_close(ours.normalise_state(pad(x, (0, 43)))[:, :3], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.unnormalise_action(pad(y, (0, 42)))[:, :2], back, atol=1e-5, rtol=1e-5)


def test_statistics_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"action.q01 has \[4\] numbers, but the feature has 2"):
        to_normalisation({"action.q01": torch.zeros(4), "action.q99": torch.ones(4)}, {"ACTION": "QUANTILES"}, 3, 2)
    with pytest.raises(ValueError, match="'ZSCORE': known are IDENTITY, QUANTILES"):
        to_normalisation({}, {"STATE": "ZSCORE"}, 3, 2)
    with pytest.raises(ValueError, match=r"no observation\.state\.q01 among"):
        to_normalisation({}, {"STATE": "QUANTILES"}, 3, 2)


@pytest.mark.parametrize(
    ("mode", "low", "high", "words"),
    [
        ("QUANTILES", [0.0, 1.0], [1.0, float("nan")], r"action\.q99\[1\] is nan"),
        ("QUANTILES", [float("-inf"), 1.0], [1.0, 2.0], r"action\.q01\[0\] is -inf"),
        ("MIN_MAX", [0.0, 3.0], [1.0, 2.0], r"action\.max\[1\] is 2, below action\.min\[1\], which is 3"),
        ("MEAN_STD", [0.0, 3.0], [1.0, -2.0], r"action\.std\[1\] is -2, below 0"),
    ],
)
def test_statistics_that_scale_nothing_are_named(mode: str, low: list[float], high: list[float], words: str):
    first, second = {"QUANTILES": ("q01", "q99"), "MIN_MAX": ("min", "max")}.get(mode, ("mean", "std"))
    statistics = {f"action.{first}": torch.tensor(low), f"action.{second}": torch.tensor(high)}
    with pytest.raises(ValueError, match=words):
        to_normalisation(statistics, {"ACTION": mode}, 3, 2)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": replace(CONFIG, latent=LATENT)}, "latent read-out"),
        ({"model": replace(CONFIG, gripper_logit=True)}, "use `loss: flow`"),
        ({"model": replace(CONFIG, state_in_prompt=False)}, "model.state_in_prompt: true"),
        ({"model": replace(CONFIG, noisy_padding=False)}, "model.noisy_padding: true"),
        ({"robot": None}, "one robot's own columns"),
        ({"normalisation": replace(normalisation("still"), space="unified")}, "unified spaces"),
        ({"robot": Embodiment("six", recorded=RecordedColumns([1, 0], [0]))}, r"the places \[1, 0\] of a column"),
        (
            {"robot": Embodiment("six", recorded=RecordedColumns([0, 1], [2, 0, 1]))},
            r"its action is the places \[2, 0, 1\] of a column",
        ),
        (
            {"robot": replace(processor().robot or Embodiment(), action_range=[-1.0, 1.0])},
            "cut to `action_range`",
        ),
    ],
)
def test_what_lerobot_cannot_run_is_said(fields: dict[str, Any], words: str, tmp_path: Path):
    made = processor(**fields)
    with pytest.raises(ValueError, match=words):
        lerobot_folder.write(tmp_path, made)
    assert not list(tmp_path.iterdir())


def test_noise_in_every_dimension_is_no_matter_where_all_move():
    spread = normalisation("still")
    made = processor(model=replace(CONFIG, action_dim=ACTION_DIM, noisy_padding=False))
    assert lerobot_folder.unrepresentable(made) is None
    assert bool(replace(made, normalisation=spread).action_dims.all())


def test_a_trained_stage_leaves_lerobots_files(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    made = processor()
    tokenizer = GOLDENS / "tokenizer.model"
    for config in (CONFIG, replace(CONFIG, noisy_padding=False)):
        stage = ActionStage(
            ActionConfig(model=config, tokenizer=str(tokenizer)), made.normalisation, made.cameras, [], robot=made.robot
        )
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        with caplog.at_level(logging.INFO):
            stage.save_assets(tmp_path)
        assert (tmp_path / "config.json").exists() == config.noisy_padding
        assert ("is not for LeRobot" in caplog.text) != config.noisy_padding


def test_the_dead_head_is_added_once_and_the_rest_stays(tmp_path: Path):
    state = {"b": torch.arange(5.0), "a": torch.randn(3, 4).bfloat16(), "c": torch.ones(())}
    path = tmp_path / "model.safetensors"
    save_file(state, path, metadata={"format": "pt"})
    add_dead_head(path, 7, 3)
    once = path.read_bytes()
    add_dead_head(path, 7, 3)
    assert path.read_bytes() == once
    loaded = load_file(path)
    head = loaded.pop(DEAD_HEAD)
    assert torch.equal(head, torch.zeros(7, 3, dtype=torch.uint8))
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    assert WeightFile(path).left_out == [DEAD_HEAD]
    assert [item.name for item in tmp_path.iterdir()] == ["model.safetensors"]
