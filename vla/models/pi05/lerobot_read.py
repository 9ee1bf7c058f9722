"""A folder that LeRobot wrote, as a Processor: sizes, statistics, cameras in their order, tokenizer."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.spaces.recorded_columns import RecordedColumns
from data_mixtures.statistics.normalisation import Normalisation
from data_mixtures.storage.json_object import read_object
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
# The steps that can be run, in the order they are, and whether a pipeline must have each.
_INPUT_STEPS = {
    "rename_observations_processor": False,
    "to_batch_processor": False,
    "relative_actions_processor": False,
    "normalizer_processor": True,
    "pi05_prepare_state_tokenizer_processor_step": True,
    "tokenizer_processor": True,
    "device_processor": False,
}
_OUTPUT_STEPS = {"unnormalizer_processor": True, "absolute_actions_processor": False, "device_processor": False}
# What a step's settings must be. One that is not there has LeRobot's default, which is the same.
_NORMALISER = {"eps": 1e-8, "normalize_observation_keys": None}
_SETTINGS: dict[str, dict[str, Any]] = {
    "relative_actions_processor": {"enabled": False},
    "absolute_actions_processor": {"enabled": False},
    "normalizer_processor": _NORMALISER,
    "unnormalizer_processor": _NORMALISER,
    "tokenizer_processor": {"task_key": "task", "padding_side": "right", "truncation": True},
    "device_processor": {"float_dtype": None},
}
_WHOLE = "fetch the folder whole"


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
    config = read_object(folder / CONFIG, _WHOLE)
    if config.get("type") != "pi05":
        raise ValueError(f"{folder / CONFIG} is of a {config.get('type')!r} policy, and only 'pi05' can be read")
    for name, value in _FIXED.items():
        if config.get(name, value) != value:
            raise ValueError(f"{folder / CONFIG}: {name} is {config[name]!r}; only {value!r} can be run here")
    inputs, outputs = _steps(folder / PREPROCESSOR, _INPUT_STEPS), _steps(folder / POSTPROCESSOR, _OUTPUT_STEPS)
    _check_length(folder, config, inputs["tokenizer_processor"])
    state_dim = _width(_features(folder, config, "input_features"), "observation.state", folder)
    action_dim = _width(_features(folder, config, "output_features"), "action", folder)
    normalisation = _normalisation(folder, config, inputs, outputs, (state_dim, action_dim))
    robot = Embodiment("", recorded=RecordedColumns(list(range(state_dim)), list(range(action_dim))))
    return Processor(
        model=_model(folder, config, heads),
        tokenizer=_tokenizer(folder, inputs["tokenizer_processor"], tokenizer),
        normalisation=normalisation,
        cameras=_cameras(config["input_features"], inputs),
        robot=robot,
    )


def _steps(path: Path, known: Mapping[str, bool]) -> dict[str, dict[str, Any]]:
    """Steps of a pipeline by name, each with its `config`; ValueError unless all can be run, in this order."""
    listed = read_object(path, _WHOLE).get("steps")
    if not isinstance(listed, list) or not all(isinstance(step, dict) for step in listed):
        raise ValueError(f"{path}: steps is no list of steps: {_WHOLE}")
    names = [str(step.get("registry_name") or step.get("class", "?")) for step in listed]
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"{path} has the steps {unknown}, which pi0.5 has not; they cannot be run here")
    for name, needed in known.items():
        if needed and name not in names:
            raise ValueError(f"{path} has no {name}, which every pi0.5 of LeRobot's has")
    if names != [name for name in known if name in names]:
        raise ValueError(f"{path} has the steps in the order {names}; only the order {list(known)} can be run here")
    steps = {name: {**step, "config": step.get("config", {})} for name, step in zip(names, listed, strict=True)}
    for name, step in steps.items():
        _check_settings(path, name, step["config"])
    return steps


def _check_settings(path: Path, name: str, config: object) -> None:
    if not isinstance(config, dict):
        raise ValueError(f"{path}: config of {name} is {config!r}, and no object: {_WHOLE}")
    for setting, value in _SETTINGS.get(name, {}).items():
        if config.get(setting, value) != value:
            raise ValueError(f"{path}: {setting} of {name} is {config[setting]!r}; only {value!r} can be run here")
    for setting in ("norm_map", "rename_map"):
        words = config.get(setting, {})
        if not isinstance(words, dict) or not all(isinstance(word, str) for word in words.values()):
            raise ValueError(f"{path}: {setting} of {name} is {words!r}, but must hold a word for each: {_WHOLE}")


def _check_length(folder: Path, config: Mapping[str, Any], step: Mapping[str, Any]) -> None:
    length, wanted = step["config"].get("max_length"), _number(folder, config, "tokenizer_max_length")
    if length != wanted:
        raise ValueError(
            f"{folder / PREPROCESSOR}: max_length of tokenizer_processor is {length!r}; it must be {wanted}, the "
            f"tokenizer_max_length of {CONFIG}"
        )


def _number(folder: Path, config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if type(value) is not int or value < 1:
        raise ValueError(
            f"{folder / CONFIG}: {name} is {config.get(name, 'missing')!r}, but must be a whole number from 1 on"
        )
    return value


def _features(folder: Path, config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Features by name, each with its type and shape."""
    features = config.get(name)
    if not isinstance(features, dict):
        raise ValueError(f"{folder / CONFIG}: {name} is {config.get(name, 'missing')!r}, but must be an object")
    for key, feature in features.items():
        shape = feature.get("shape") if isinstance(feature, dict) else None
        if not isinstance(shape, list) or not shape or not all(type(size) is int and size > 0 for size in shape):
            raise ValueError(f"{folder / CONFIG}: {name}.{key} is {feature!r}, but must have a type and a shape")
    return features


def _width(features: Mapping[str, Any], name: str, folder: Path) -> int:
    if name not in features:
        raise ValueError(f"{folder / CONFIG} has no feature {name}; there are {sorted(features)}")
    return int(features[name]["shape"][0])


def _normalisation(
    folder: Path,
    config: Mapping[str, Any],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    widths: tuple[int, int],
) -> Normalisation:
    modes = _modes(folder, config, inputs, outputs)
    state, action = inputs["normalizer_processor"], outputs["unnormalizer_processor"]
    statistics = {
        **_of("action", _statistics(folder, POSTPROCESSOR, action)),
        **_of("observation.state", _statistics(folder, PREPROCESSOR, state)),
    }
    try:
        return to_normalisation(statistics, modes, *widths)
    except ValueError as error:
        raise ValueError(
            f"{folder}: {error}. A state's statistics are in {state.get('state_file', PREPROCESSOR)}, an action's in "
            f"{action.get('state_file', POSTPROCESSOR)}"
        ) from error


def _statistics(folder: Path, pipeline: str, step: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a step's state file holds; nothing where it names none."""
    if "state_file" not in step:
        return {}
    name = step["state_file"]
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"{folder / pipeline}: state_file is {name!r}, but must be the name of a file beside it")
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{path} does not exist, and holds the statistics: {_WHOLE}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole .safetensors file ({error}); fetch it again") from error


def _of(key: str, statistics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in statistics.items() if name.rpartition(".")[0] == key}


def _modes(
    folder: Path, config: Mapping[str, Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> dict[str, str]:
    """The modes the pipelines run, which are what counts; actions come out through the second."""
    state, action = (
        {**(config.get("normalization_mapping") or {}), **step["config"].get("norm_map", {})}
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
    keys = [key for key, feature in features.items() if feature.get("type") == "VISUAL"]
    return tuple(before.get(key, key).removeprefix(CAMERA) for key in keys)


def _model(folder: Path, config: Mapping[str, Any], heads: Heads | None) -> Pi05Config:
    weights = WeightFile(folder)
    if heads is None:
        choices = head_choices(weights)
        if len(choices) > 1:
            raise ValueError(f"{folder}: the weights are of no published size, so that their heads cannot be told")
        heads = choices[0]
    horizon, steps = _number(folder, config, "chunk_size"), _number(folder, config, "num_inference_steps")
    model = config_of(weights, heads, _side(folder, config), horizon, steps)
    return replace(model, max_text_tokens=_number(folder, config, "tokenizer_max_length"), noisy_padding=True)


def _side(folder: Path, config: Mapping[str, Any]) -> int:
    """Pixels of a side of an image."""
    sides = config.get("image_resolution")
    if not isinstance(sides, list) or len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(
            f"{folder / CONFIG}: image_resolution is {config.get('image_resolution', 'missing')!r}, but must be two "
            "numbers of pixels"
        )
    if sides[0] != sides[1]:
        raise ValueError(f"{folder / CONFIG}: image_resolution is {sides[0]} x {sides[1]}; pi0.5 reads squares")
    return sides[0]


def _tokenizer(folder: Path, step: Mapping[str, Any], given: Path | None) -> PromptTokenizer:
    try:
        return PromptTokenizer.load(given or folder)
    except ValueError as error:
        name = step["config"].get("tokenizer_name")
        raise ValueError(f"{error}. LeRobot takes it from the Hub as {name!r}: put its file into the folder") from None
