"""Stage 1: pre-training of the latent action model."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import draccus
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from data_mixtures.batch import Batch
from data_mixtures.spaces.unified import ACTION_DIM
from data_mixtures.statistics.normalisation import Normalisation
from lam.latbot import parallelize
from lam.latbot.config import LatBotConfig
from lam.latbot.convert import PublishedWeights
from lam.latbot.initialise import initial_value
from lam.latbot.model import Inputs, LatBot
from lam.latbot.template import Template, prompt_texts
from lam.latbot.tokenizer import load_tokenizer, train_tokenizer
from vla.nn.flow_matching import beta_time, shifted_time
from vla.nn.randomness import normal_like_ids, uniform_like_ids
from vla.nn.torchvision_ops import ensure_torchvision_operators
from vla.train.checkpoint import settings_of
from vla.train.export import load_weights
from vla.train.initialise import materialise_buffers
from vla.train.stage import Metrics

ensure_torchvision_operators()

from transformers import PreTrainedTokenizerBase  # noqa: E402

_FRAME_NOISE, _ACTION_NOISE, _TIMES = 101, 102, 103


class LatBotStage:
    """Flow-matching reconstruction of the future frame and of the actions between, through latent action tokens.

    Args:
        config: Sizes and choices.
        normalisation: Of the unified actions; saved with the weights.
        tokenizer: As `tokenizer_for` makes it.
        seed: Of the noise and the flow times, together with each sample's id.
    """

    def __init__(
        self,
        config: LatBotConfig,
        normalisation: Normalisation,
        tokenizer: PreTrainedTokenizerBase,
        seed: int = 0,
    ) -> None:
        if len(tokenizer) > config.language.vocab_size:
            raise ValueError(
                f"language.vocab_size={config.language.vocab_size} is smaller than the tokenizer's {len(tokenizer)}"
            )
        self.config = config
        self.normalisation = normalisation
        self.template = Template(tokenizer, config)
        self.seed = seed
        self.published = PublishedWeights(config.pretrained)

    def settings(self) -> dict[str, object]:
        """All of its configuration, under the names a recipe has for it."""
        return settings_of(self.config, "model") | {"seed": self.seed}

    def build(self) -> LatBot:
        """The teacher; its vision tower and codec are frozen."""
        model = LatBot(self.config)
        model.codec.requires_grad_(False)
        return model

    def init_parameter(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """The published value where a file was given, else a random one."""
        value = self.published.read(name, shape)
        return initial_value(name, shape, generator, self.config) if value is None else value

    def init_buffers(self, module: nn.Module) -> None:
        """Rotary frequencies and sine positions."""
        parallelize.init_buffers(cast(LatBot, module))

    def parallelize(self, module: nn.Module, mesh: DeviceMesh | None) -> list[nn.Module]:
        """Vision, language and decoder layers."""
        return parallelize.blocks(cast(LatBot, module))

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        """Frame and action flow-matching losses and the grounding's, weighted; metrics are means over the batch.

        `frame_error` against `copy_error` is the clean target's error against copying the current frame, at the
        flow times drawn. A sample without action labels adds 0 to `action_loss` and to `grounding_loss`.
        """
        result = module(self.training_inputs(batch))
        metrics = {name: value.mean() for name, value in result.items()}
        flow = self.config.flow
        loss = flow.frame_weight * metrics["frame_loss"] + flow.action_weight * metrics["action_loss"]
        if self.config.grounding is not None:
            loss = loss + self.config.grounding.action_weight * metrics["grounding_loss"]
        return loss, {name: value.detach() for name, value in metrics.items()}

    def training_inputs(self, batch: Batch) -> Inputs:
        """The batch as the model reads it, with the noise and times of every sample's id."""
        flow = self.config.flow
        mask = batch.action_mask
        times = uniform_like_ids(batch.sample_ids, (2, flow.num_draws), self.seed, _TIMES)
        return Inputs(
            **self._seen(batch),
            actions=self.normalisation.normalise_action(batch.actions) * mask,
            action_mask=mask,
            frame_time=shifted_time(times[:, 0], flow.frame_time_shift).clamp(min=1e-3),
            action_time=beta_time(times[:, 1]),
            **self._noise(batch.sample_ids, flow.num_draws),
        )

    def encoding_inputs(self, batch: Batch) -> Inputs:
        """The batch as the "encode" task reads it."""
        return Inputs(**self._seen(batch))

    def sampling_inputs(self, batch: Batch, latents: Tensor | None = None) -> Inputs:
        """The batch as the "sample" task reads it; `latents` [B, Ns + Nm, D] replaces the encoder."""
        return Inputs(**self._seen(batch), latents=latents, **self._noise(batch.sample_ids, 1))

    def _seen(self, batch: Batch) -> dict[str, Any]:
        self._check(batch)
        prompt = self.template(batch.instruction).to(batch.images.device)
        return {"images": batch.images, "features": batch.vision_features, "prompt": prompt}

    def _noise(self, sample_ids: Tensor, draws: int) -> dict[str, Any]:
        codec = self.config.codec
        frame_shape = (draws, codec.channels, codec.grid, codec.grid)
        action_shape = (draws, self.config.horizon, ACTION_DIM)
        return {
            "frame_noise": normal_like_ids(sample_ids, frame_shape, self.seed, _FRAME_NOISE),
            "action_noise": normal_like_ids(sample_ids, action_shape, self.seed, _ACTION_NOISE),
        }

    def _check(self, batch: Batch) -> None:
        config = self.config
        frames, cameras = batch.images.shape[1:3]
        if frames != config.num_frames:
            raise ValueError(f"num_frames={config.num_frames}, but the data gives {frames}; set window.frames to match")
        if cameras < config.num_cameras:
            raise ValueError(f"num_cameras={config.num_cameras}, but the data has {cameras}; name more in cameras")
        if batch.actions.shape[1] != config.horizon:
            raise ValueError(
                f"horizon={config.horizon}, but the data gives {batch.actions.shape[1]}; set window.horizon to match"
            )
        wanted = (config.vision.num_tokens, config.vision.feature_width)
        features = batch.vision_features
        if features is not None and features.shape[3:] != wanted:
            raise ValueError(f"cached vision features are {list(features.shape[3:])}, not {list(wanted)}; cache again")

    def save_assets(self, folder: Path) -> None:
        """Write teacher.json (the configuration), the tokenizer and the normalisation."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"seed": self.seed, "config": draccus.encode(self.config)}, indent=2)
        (folder / "teacher.json").write_text(text + "\n")
        self.template.tokenizer.save_pretrained(str(folder / "tokenizer"))
        self.normalisation.save(folder)


def tokenizer_for(config: LatBotConfig, instructions: Iterable[str]) -> PreTrainedTokenizerBase:
    """The tokenizer `config` names, or a small one trained on the prompt and these instructions."""
    if config.language.tokenizer is not None:
        return load_tokenizer(config.language.tokenizer)
    texts = prompt_texts(config.num_frames, sorted(set(instructions)))
    return train_tokenizer(texts, config.language.vocab_size)


def load_teacher(folder: Path, device: torch.device | str = "cpu") -> tuple[LatBotStage, LatBot]:
    """A trained teacher from the `model` folder of a run, in eval mode."""
    if not (folder / "teacher.json").is_file():
        raise ValueError(f"{folder} holds no teacher.json; give the `model` folder of a finished stage-1 run")
    saved = json.loads((folder / "teacher.json").read_text())
    config = draccus.decode(LatBotConfig, saved["config"])
    stage = LatBotStage(config, Normalisation.load(folder), load_tokenizer(folder / "tokenizer"), saved["seed"])
    with torch.device("meta"):
        model = stage.build()
    load_weights(model, folder, device)
    materialise_buffers(model, device)
    stage.init_buffers(model)
    return stage, model.eval()
