"""A folder that LeRobot wrote, as a Processor: sizes, statistics, cameras in their order, tokenizer."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.spaces.recorded_columns import RecordedColumns
from vla.models.pi05.config import Pi05Config
from vla.models.pi05.convert import WeightFile
from vla.models.pi05.lerobot_folder import CAMERA, CONFIG, POSTPROCESSOR, PREPROCESSOR
from vla.models.pi05.lerobot_statistics import to_normalisation
from vla.models.pi05.processor import Processor
from vla.models.pi05.sizes import Heads, config_of, head_choices
from vla.models.pi05.tokenizer import PromptTokenizer

# Fields of config.json that must have the value pi0.5 was published with: they change arithmetic that is fixed here.
_FIXED = {
    "n_obs_steps": 1,
    "use_peft": False,
    "use_relative_actions": False,
    "use_visual_memory": False,
    "use_proprioceptive_memory": False,
    "rtc_training_max_delay": 0,
    "min_period": 4e-3,
    "max_period": 4.0,
    "empty_cameras": 0,
}
_INPUT_STEPS = {
    "rename_observations_processor",
    "to_batch_processor",
    "relative_actions_processor",
    "normalizer_processor",
    "pi05_prepare_state_tokenizer_processor_step",
    "tokenizer_processor",
    "device_processor",
}
_OUTPUT_STEPS = {"unnormalizer_processor", "absolute_actions_processor", "device_processor"}


def is_lerobot_folder(folder: Path) -> bool:
    """Whether LeRobot's own files are there."""
    return (folder / CONFIG).is_file() and (folder / PREPROCESSOR).is_file()


def read(folder: Path, tokenizer: Path | None = None, heads: Heads | None = None) -> Processor:
    """The processor of a folder that LeRobot wrote.

    Args:
        folder: With config.json, the two pipelines, their statistics and model.safetensors.
        tokenizer: PaliGemma's tokenizer.model or tokenizer.json, where the folder holds none: LeRobot's release
            leaves it on the Hub.
        heads: Where the weights are not of a published size.

    Raises:
        ValueError: It is another policy's, or has a setting or step that is not pi0.5's; the message names it.
    """
    config = _json(folder / CONFIG)
    if config.get("type") != "pi05":
        raise ValueError(f"{folder / CONFIG} is of a {config.get('type')!r} policy, and only 'pi05' can be read")
    for name, value in _FIXED.items():
        if config.get(name, value) != value:
            raise ValueError(f"{folder / CONFIG}: {name} is {config[name]!r}; only {value!r} can be run here")
    inputs, outputs = _steps(folder / PREPROCESSOR, _INPUT_STEPS), _steps(folder / POSTPROCESSOR, _OUTPUT_STEPS)
    state_dim = _width(config["input_features"], "observation.state", folder)
    action_dim = _width(config["output_features"], "action", folder)
    normalisation = to_normalisation(
        {
            **_of("action", _statistics(folder, outputs["unnormalizer_processor"])),
            **_of("observation.state", _statistics(folder, inputs["normalizer_processor"])),
        },
        _modes(folder, config, inputs, outputs),
        state_dim,
        action_dim,
    )
    robot = Embodiment("", recorded=RecordedColumns(list(range(state_dim)), list(range(action_dim))))
    return Processor(
        model=_model(folder, config, heads),
        tokenizer=_tokenizer(folder, inputs["tokenizer_processor"], tokenizer),
        normalisation=normalisation,
        cameras=_cameras(config["input_features"], inputs),
        robot=robot,
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist: a LeRobot policy has it; fetch the folder whole")
    return json.loads(path.read_text())


def _steps(path: Path, known: set[str]) -> dict[str, dict[str, Any]]:
    """Steps of a pipeline by name."""
    steps = {step.get("registry_name") or step.get("class", "?"): step for step in _json(path)["steps"]}
    if unknown := sorted(set(steps) - known):
        raise ValueError(f"{path} has the steps {unknown}, which pi0.5 has not; they cannot be run here")
    for name in sorted(known & {"normalizer_processor", "unnormalizer_processor", "tokenizer_processor"}):
        if name not in steps:
            raise ValueError(f"{path} has no {name}, which every pi0.5 of LeRobot's has")
    for name in ("relative_actions_processor", "absolute_actions_processor"):
        if steps.get(name, {"config": {}})["config"].get("enabled"):
            raise ValueError(f"{path}: {name} is enabled, and actions relative to the state cannot be run here")
    return steps


def _width(features: Mapping[str, Any], name: str, folder: Path) -> int:
    if name not in features:
        raise ValueError(f"{folder / CONFIG} has no feature {name}; there are {sorted(features)}")
    return int(features[name]["shape"][0])


def _statistics(folder: Path, step: Mapping[str, Any]) -> dict[str, Tensor]:
    if "state_file" not in step:
        return {}
    path = folder / step["state_file"]
    if not path.is_file():
        raise ValueError(f"{path} does not exist, and holds the statistics: fetch the folder whole")
    return load_file(path)


def _of(key: str, statistics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in statistics.items() if name.rpartition(".")[0] == key}


def _modes(
    folder: Path, config: Mapping[str, Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> dict[str, str]:
    """The modes the pipelines run, which are what counts; actions come out through the second."""
    state, action = (
        {**config.get("normalization_mapping", {}), **step["config"].get("norm_map", {})}
        for step in (inputs["normalizer_processor"], outputs["unnormalizer_processor"])
    )
    if state.get("VISUAL", "IDENTITY") != "IDENTITY":
        raise ValueError(
            f"{folder / PREPROCESSOR} normalises images by {state['VISUAL']}: only IDENTITY can be run here"
        )
    return {"STATE": state.get("STATE", "IDENTITY"), "ACTION": action.get("ACTION", "IDENTITY")}


def _cameras(features: Mapping[str, Any], inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """The cameras in the network's order, under the names a data set has before LeRobot renames it."""
    renamed = inputs.get("rename_observations_processor", {"config": {}})["config"].get("rename_map", {})
    before = {new: old for old, new in renamed.items()}
    keys = [key for key, feature in features.items() if feature["type"] == "VISUAL"]
    return tuple(before.get(key, key).removeprefix(CAMERA) for key in keys)


def _model(folder: Path, config: Mapping[str, Any], heads: Heads | None) -> Pi05Config:
    weights = WeightFile(folder)
    if heads is None:
        choices = head_choices(weights)
        if len(choices) > 1:
            raise ValueError(f"{folder}: the weights are of no published size, so that their heads cannot be told")
        heads = choices[0]
    side, other = config["image_resolution"]
    if side != other:
        raise ValueError(f"{folder / CONFIG}: image_resolution is {side} x {other}; pi0.5 reads squares")
    model = config_of(weights, heads, side, config["chunk_size"], config["num_inference_steps"])
    return replace(model, max_text_tokens=config["tokenizer_max_length"], noisy_padding=True)


def _tokenizer(folder: Path, step: Mapping[str, Any], given: Path | None) -> PromptTokenizer:
    try:
        return PromptTokenizer.load(given or folder)
    except ValueError as error:
        name = step["config"].get("tokenizer_name")
        raise ValueError(f"{error}. LeRobot takes it from the Hub as {name!r}: put its file into the folder") from None
