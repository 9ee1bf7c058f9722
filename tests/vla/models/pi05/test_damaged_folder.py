"""What is wrong with a model folder, its weights or a recorded case is said with the file and the field."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from data_mixtures.statistics.normalisation import Normalisation
from tests.vla.models.pi05.students import TASKS, normalisation, tiny_config
from vla.models.pi05.convert import WeightFile
from vla.models.pi05.load import check_fit, compare_names
from vla.models.pi05.processor import Processor
from vla.models.pi05.recorded import RecordedCase
from vla.models.pi05.tokenizer import PromptTokenizer

HEAD = "paligemma_with_expert.paligemma.lm_head.weight"
TIED = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    Processor(tiny_config(), PromptTokenizer.train(TASKS, 1024), normalisation(), ("front", "wrist")).save(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("file", ["pi05.json", "processor.json", "normalisation.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null"])
def test_a_damaged_file_is_named(folder: Path, file: str, content: str):
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=rf"{file}(:| cannot be read| holds a| is damaged)"):
        Processor.load(folder)


def quantile(name: str, values: list[Any]) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["action"][name][: len(values)] = values

    return change


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("pi05.json", lambda c: c.update(foo=1), "foo is no field"),
        ("pi05.json", lambda c: c["vlm"].update(foo=1), r"vlm\.foo is no field"),
        ("pi05.json", lambda c: c.update(horizon="4"), "horizon is '4', but must be a whole number from 1"),
        ("pi05.json", lambda c: c.update(num_steps=0), "num_steps is 0"),
        ("pi05.json", lambda c: c.update(noisy_padding=1), "noisy_padding is 1, but must be true or false"),
        ("pi05.json", lambda c: c.update(vision=None), "vision is None"),
        ("processor.json", lambda c: c.update(cameras="front"), "cameras is 'front'"),
        (
            "processor.json",
            lambda c: c.update(cameras=["front", "front"]),
            r"cameras is \[.*, but must be a list of different names",
        ),
        ("processor.json", lambda c: c.update(frame_size=0), "frame_size is 0"),
        ("processor.json", lambda c: c.pop("subtask_after"), "subtask_after is 'missing'"),
        ("processor.json", lambda c: c.update(robot={"legs": 2}), "robot cannot be read"),
        ("processor.json", lambda c: c.update(centre_crop={"front": 1.5}), "centre_crop is {'front': 1.5}"),
        ("processor.json", lambda c: c.update(centre_crop={"nobody": 0.9}), "centre_crop is {'nobody': 0.9}"),
        ("normalisation.json", lambda c: c["state"].pop("q99"), "state must hold q01 and q99"),
        ("normalisation.json", quantile("q99", [float("nan")]), r"action\.q99\[0\] is nan"),
        ("normalisation.json", quantile("q01", [0, float("-inf")]), r"action\.q01\[1\] is -inf"),
        ("normalisation.json", quantile("q99", [None]), r"action\.q99\[0\] is None"),
        ("normalisation.json", quantile("q99", [-5]), r"action\.q01\[0\] is -0\.0.*, above q99, which is -5"),
        ("normalisation.json", lambda c: c.update(guard="odd"), "guard is 'odd'"),
    ],
)
def test_a_field_that_cannot_be_is_named(folder: Path, file: str, change: Callable[..., Any], words: str):
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{file}: {words}"):
        Processor.load(folder)


def test_quantiles_that_swallow_are_read(folder: Path):
    content = json.loads((folder / "normalisation.json").read_text())
    content["state"]["q01"][0], content["state"]["q99"][0] = -1e30, 1e30
    (folder / "normalisation.json").write_text(json.dumps(content))
    assert Normalisation.load(folder).state.q99[0] == 1e30


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({}, "weight_map is None"),
        ([], "holds a list"),
        ({"weight_map": ["a"]}, r"weight_map is \['a'\]"),
        ({"weight_map": {"a": 3}}, "weight_map has 3 for a"),
        ({"weight_map": {"a": "../a.safetensors"}}, "names ../a.safetensors, not there"),
        ({"weight_map": {"a": ".."}}, "not there"),
    ],
)
def test_an_index_that_names_no_files_is_named(tmp_path: Path, index: object, words: str):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=rf"index\.json.*{words}"):
        WeightFile(tmp_path)


def test_weights_that_are_not_floating_are_named_and_dead_ones_may_be(tmp_path: Path):
    dead = "paligemma_with_expert.gemma_expert.lm_head.weight"
    state = {"weight": torch.ones(2, 3, dtype=torch.int8), "bias": torch.ones(2), dead: torch.ones(1).byte()}
    save_file(state, tmp_path / "model.safetensors")
    weights, module = WeightFile(tmp_path), torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match="1 not of floating numbers, .*: weight is I8$"):
        check_fit(module, weights, compare_names(module, weights))
    with pytest.raises(ValueError, match="weight is I8, and not of floating"):
        weights.read("weight", (2, 3))
    save_file({**state, "weight": torch.ones(2, 3).half()}, tmp_path / "model.safetensors")
    weights = WeightFile(tmp_path)
    check_fit(module, weights, compare_names(module, weights))


def test_tied_copies_are_compared_by_value(tmp_path: Path):
    path, values = tmp_path / "model.safetensors", torch.tensor([[1.5, float("nan")], [float("inf"), 0.25]])
    save_file({HEAD: values, TIED: values.bfloat16()}, path)
    assert set(WeightFile(path)) == {HEAD}
    for changed in (1.25, float("nan")):
        other = values.clone()
        other[0, 0] = changed
        save_file({HEAD: values, TIED: other}, path)
        with pytest.raises(ValueError, match="but differ"):
            WeightFile(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_case_is_a_value_error(tmp_path: Path, save: Callable[..., None]):
    path, draw = tmp_path / "case.npz", random.Random(1)
    save(path, images=np.zeros((1, 1, 3, 4, 4), np.float32), tokens=np.arange(40).reshape(1, 40), loss=np.float32(1))
    whole = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"case\.npz"):  # whole, it lacks what its loss was computed from
            RecordedCase.load(path)
