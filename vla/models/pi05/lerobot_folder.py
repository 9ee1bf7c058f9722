"""A model folder as LeRobot writes and reads it: config.json, two pipelines of processor steps, their statistics.

Written for LeRobot 0.6.1, its newest release, and for its development head, which also keeps the tokenizer in the
folder. LeRobot builds two sizes of either Gemma by name and refuses others, so `config.json` names the published ones
whatever the weights are: at other sizes its own lookups must be replaced first (benchmarks/peers/lerobot_model.py).
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from data_mixtures.storage.json_object import read_object
from data_mixtures.storage.whole_file import write_whole
from vla.models.pi05.dead_head import add_dead_head
from vla.models.pi05.lerobot_statistics import to_statistics
from vla.models.pi05.processor import Processor
from vla.train.export import WEIGHTS_FILE

CONFIG, PREPROCESSOR, POSTPROCESSOR = "config.json", "policy_preprocessor.json", "policy_postprocessor.json"
TOKENIZER = "tokenizer"
CAMERA = "observation.images."
# Where LeRobot finds PaliGemma's tokenizer if the folder has none; its development head prefers the folder's.
PALIGEMMA = "google/paligemma-3b-pt-224"
_PALIGEMMA_VOCABULARY = 257_152
_MODES = {"VISUAL": "IDENTITY", "STATE": "QUANTILES", "ACTION": "QUANTILES"}


def unrepresentable(processor: Processor) -> str | None:
    """Why LeRobot cannot run a model as we do, and what would let it; None where it can."""
    model, robot = processor.model, processor.robot
    if model.latent is not None:
        return "it has a latent read-out (`model.latent`), for which LeRobot has no place"
    if model.gripper_logit:
        return (
            "its gripper is a logit (`loss: latbot`), which LeRobot would take for the gripper itself: use `loss: flow`"
        )
    if processor.centre_crop:
        return "it acts on the middle of its frames (`augment.acting: centre`), for which LeRobot has no step"
    if not model.state_in_prompt:
        return "its prompt has no state, and LeRobot always writes one: set `model.state_in_prompt: true`"
    if processor.normalisation.space != "recorded" or robot is None or robot.recorded is None:
        return (
            "its numbers are in the unified spaces, and LeRobot has no step from a robot's columns to those: train on "
            "one robot's own columns (`embodiment: {recorded: {}}`)"
        )
    for name, places in (("state", robot.recorded.state), ("action", robot.recorded.action)):
        if places != list(range(len(places or []))):
            return f"its {name} is the places {places} of a column, and LeRobot takes columns whole and in their order"
    if robot.action_range is not None:
        return "its actions are cut to `action_range`, for which LeRobot has no step"
    if not model.noisy_padding and not bool(processor.action_dims.all()):
        return (
            "the action dimensions its robot lacks, or never moves, are held at zero, where LeRobot has noise: train "
            "with `model.noisy_padding: true`"
        )
    return None


def write(folder: Path, processor: Processor) -> None:
    """Write LeRobot's files beside the weights in `folder`, and into the weights the head it insists on.

    Raises:
        ValueError: The model is `unrepresentable`.
    """
    if reason := unrepresentable(processor):
        raise ValueError(f"{folder} cannot be a LeRobot folder: {reason}")
    state_dim, action_dim = widths(processor)
    features = _input_features(processor, state_dim), _feature("ACTION", action_dim)
    _write_json(folder / CONFIG, _config(processor, *features))
    _write_tokenizer(folder / TOKENIZER, processor)
    statistics = to_statistics(processor.normalisation, state_dim, action_dim)
    for name, steps in (
        (PREPROCESSOR, _input_steps(processor, *features)),
        (POSTPROCESSOR, _output_steps(features[1])),
    ):
        pipeline = name.removesuffix(".json")
        for index, step in enumerate(steps):
            if step["registry_name"].endswith("normalizer_processor"):
                step["state_file"] = f"{pipeline}_step_{index}_{step['registry_name']}.safetensors"
                write_whole(folder / step["state_file"], save(statistics))
        _write_json(folder / name, {"name": pipeline, "steps": steps})
    if (folder / WEIGHTS_FILE).is_file():
        add_dead_head(folder / WEIGHTS_FILE, processor.model.vocab_size, processor.model.expert.width)


def widths(processor: Processor) -> tuple[int, int]:
    """Numbers of the robot's state and of its actions."""
    assert processor.robot is not None
    return processor.robot.state_width, processor.robot.action_width


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=2))


def _feature(kind: str, *shape: int) -> dict[str, Any]:
    return {"type": kind, "shape": list(shape)}


def _input_features(processor: Processor, state_dim: int) -> dict[str, Any]:
    size = processor.frame_size or processor.model.vision.image_size
    cameras = {CAMERA + camera: _feature("VISUAL", 3, size, size) for camera in processor.cameras}
    return {**cameras, "observation.state": _feature("STATE", state_dim)}


def _config(processor: Processor, inputs: dict[str, Any], action: dict[str, Any]) -> dict[str, Any]:
    """The fields that release and head both know; one that either lacks stops it."""
    model = processor.model
    return {
        "type": "pi05",
        "n_obs_steps": 1,
        "input_features": inputs,
        "output_features": {"action": action},
        # Both of LeRobot's files must name one device, and this is the one that every machine has; its own commands
        # override both.
        "device": "cpu",
        "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m",
        "dtype": "float32",
        "chunk_size": model.horizon,
        "n_action_steps": model.horizon,
        "max_state_dim": max(32, *inputs["observation.state"]["shape"]),
        "max_action_dim": model.action_dim,
        "num_inference_steps": model.num_steps,
        "image_resolution": [model.vision.image_size] * 2,
        "empty_cameras": 0,
        "tokenizer_max_length": model.max_text_tokens,
        "normalization_mapping": _MODES,
    }


def _input_steps(processor: Processor, inputs: dict[str, Any], action: dict[str, Any]) -> list[dict[str, Any]]:
    paligemma = processor.tokenizer.vocab_size == _PALIGEMMA_VOCABULARY
    words = {
        "max_length": processor.model.max_text_tokens,
        "task_key": "task",
        "padding_side": "right",
        "padding": "max_length",
        "truncation": True,
        "tokenizer_name": PALIGEMMA if paligemma else TOKENIZER,
    }
    relative = {"enabled": False, "exclude_joints": ["gripper"], "action_names": None}
    return [
        _step("rename_observations_processor", rename_map={}),
        _step("to_batch_processor"),
        _step("relative_actions_processor", **relative),
        _step("normalizer_processor", eps=1e-8, features={**inputs, "action": action}, norm_map=_MODES),
        _step("pi05_prepare_state_tokenizer_processor_step"),
        {**_step("tokenizer_processor", **words), "artifacts": {"tokenizer_name": TOKENIZER}},
        _step("device_processor", device="cpu", float_dtype=None),
    ]


def _output_steps(action: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        _step("unnormalizer_processor", eps=1e-8, features={"action": action}, norm_map=_MODES),
        _step("absolute_actions_processor", enabled=False),
        _step("device_processor", device="cpu", float_dtype=None),
    ]


def _step(name: str, **config: Any) -> dict[str, Any]:
    return {"registry_name": name, "config": config}


def _write_tokenizer(folder: Path, processor: Processor) -> None:
    """Our tokenizer as transformers reads it: with BOS in front, and the class that its file is of."""
    folder.mkdir(exist_ok=True)
    processor.tokenizer.save(folder)
    config: dict[str, Any] = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": True,
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
    file = folder / "tokenizer.json"
    if file.is_file():
        config = {**config, "tokenizer_class": "PreTrainedTokenizerFast"}
        backend = read_object(file, "write the tokenizer again")
        backend["post_processor"] = _BOS_IN_FRONT
        write_whole(file, json.dumps(backend, ensure_ascii=False))
    _write_json(folder / "tokenizer_config.json", config)


_BOS_IN_FRONT = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
}
