"""Stage 3: fine-tuning student and action expert by flow matching. Behaviour cloning from scratch is the same stage."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import functional as F

from data_mixtures.batch import Batch
from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.spaces.unified import ACTION_GRIPPER_DIMS
from data_mixtures.statistics.normalisation import Normalisation
from data_mixtures.statistics.seen import Seen
from vla.models.pi05 import lerobot_folder, parallelize
from vla.models.pi05.config import Pi05Config
from vla.models.pi05.continuation import continuation, fit_fast_tokens
from vla.models.pi05.fast_tokens import FastTokens
from vla.models.pi05.images import Augmentation
from vla.models.pi05.model import NoisyActions, Pi05
from vla.models.pi05.processor import make_processor
from vla.models.pi05.start import Start
from vla.models.pi05.trainable import Frozen, LoraTargets, Train, freeze, keep_frozen_in_bfloat16, log_frozen
from vla.nn.flow_matching import beta_time, interpolate, velocity_target
from vla.nn.next_token import next_token_loss
from vla.nn.randomness import normal_like_ids, uniform_like_ids
from vla.train.checkpoint import settings_of
from vla.train.lora import adapter_value, is_adapter, plain_name
from vla.train.stage import Metrics

_NOISE, _TIME = 301, 302
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ActionConfig:
    """What stage 3 trains, and how.

    Attributes:
        model: Sizes of the student.
        loss: `flow` is pi0.5's own (velocity MSE on every valid dimension); `latbot` is velocity MSE on the
            end-effector dimensions plus BCE on the gripper logit of the clean estimate x_t - t * v.
        flow_samples: Draws of (noise, time) an observation; they share one pass of the prefix.
        init_from: `model` folder of another run or of a published checkpoint to start from.
        fresh: Beginnings of parameter names that start fresh although `init_from` has them.
        tokenizer: PaliGemma's tokenizer.model or a tokenizer.json; None takes `init_from`'s, or trains a small one.
        train: What learns: `full`; `frozen_vision`: all but the vision tower; `frozen_vlm`: the action expert and its
            projections; `lora`: low-rank adapters, merged into the weights of the model the run leaves.
        lora: Where adapters go, with `train: lora`.
        frozen_dtype: What frozen matrices are held in; `bfloat16`, half the memory, needs `loop.dtype: bfloat16`.
        insulate: Knowledge insulation: no gradient of the action expert's loss reaches the VLM, which learns from
            `text_weight` and `fast_weight` alone.
        text_weight: Of the next-token loss on the sub-task, read after the action prompt.
        fast_weight: Of the next-token loss on the chunk as FAST action tokens, read after that.
        fast_tokens: Folder of a FAST tokenizer, such as the published one; None fits one to the data.
        augment: Train-time changes of the images.
        seed: Of noise, times and augmentation, together with each sample's id.
    """

    model: Pi05Config = field(default_factory=Pi05Config.nano)
    loss: Literal["flow", "latbot"] = "flow"
    flow_samples: int = 1
    init_from: str | None = None
    fresh: tuple[str, ...] = ()
    tokenizer: str | None = None
    train: Train = "full"
    lora: LoraTargets = field(default_factory=LoraTargets)
    frozen_dtype: Literal["float32", "bfloat16"] = "float32"
    insulate: bool = False
    text_weight: float = 0.0
    fast_weight: float = 0.0
    fast_tokens: str | None = None
    augment: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.flow_samples < 1:
            raise ValueError(f"flow_samples is {self.flow_samples}: give 1 or more")
        for name in ("text_weight", "fast_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give 0 or more")
        if self.reads_on and self.train == "frozen_vlm":
            raise ValueError("train is 'frozen_vlm', so nothing learns from text_weight or fast_weight: set both to 0")
        if self.reads_on and self.train == "lora" and not (self.lora.vlm or self.lora.vision):
            raise ValueError(
                "train is 'lora' without lora.vlm or lora.vision, so nothing learns from text_weight or fast_weight: "
                "set both to 0, or name targets in lora.vlm"
            )
        if self.insulate and not self.reads_on:
            raise ValueError(
                "insulate is true, but text_weight and fast_weight are 0, so the VLM would learn nothing: give one of "
                "them, or use `train: frozen_vlm`"
            )
        if self.fast_tokens is not None and not self.fast_weight:
            raise ValueError(
                f"fast_tokens is {self.fast_tokens!r}, but fast_weight is 0: give a weight, or leave it out"
            )

    @property
    def reads_on(self) -> bool:
        """Whether the VLM reads, and is asked to predict, anything after the prompt."""
        return self.text_weight > 0 or self.fast_weight > 0


class ActionStage:
    """Flow matching of action chunks, given the first frame, the instruction and the state.

    Args:
        config: What to train.
        normalisation: Of the labelled data; saved with the weights.
        cameras: Names, in the Batch's order; saved with the weights.
        texts: Instructions and sub-tasks a small tokenizer is trained from, if one must be.
        robot: The one robot of the data, if it is one; saved, so that the policy speaks its numbers.
        frame_size: Pixels of a side of the data's frames; saved, so that the policy sees them alike.
        windows: The data, which FAST tokens are fitted to if they must be; read then only.
        seen: Measures what the data's pictures look like; asked when the model is written, which keeps it.
    """

    def __init__(
        self,
        config: ActionConfig,
        normalisation: Normalisation,
        cameras: Sequence[str],
        texts: Iterable[str],
        robot: Embodiment | None = None,
        frame_size: int | None = None,
        windows: Iterable[Batch] = (),
        seen: Callable[[], Seen] | None = None,
    ) -> None:
        model = replace(config.model, gripper_logit=config.loss == "latbot")
        self.config, self.seen = config, seen
        if config.loss == "latbot" and normalisation.space != "unified":
            raise ValueError(
                "objective.loss is 'latbot', which scores the grippers of the unified spaces, but the data's columns "
                "are read as recorded: use `loss: flow`, or describe the robot's arms instead of `embodiment.recorded`"
            )
        tokenizer, init_from = config.tokenizer, config.init_from
        self.processor = make_processor(model, normalisation, cameras, texts, tokenizer, init_from, robot, frame_size)
        self.processor = replace(self.processor, centre_crop=config.augment.centre_crop(cameras))
        if config.text_weight > 0:
            self.processor = replace(self.processor, subtask_after="action")
        self.start = Start(model, config.init_from, config.fresh)
        self.fast = self._fast_tokens(windows) if config.fast_weight else None
        self._frozen, self._rows = Frozen((), ()), None  # `build` finds them out

    def _fast_tokens(self, windows: Iterable[Batch]) -> FastTokens:
        if self.config.fast_tokens is not None:
            return FastTokens.load(Path(self.config.fast_tokens), self.processor.model.vocab_size)
        return fit_fast_tokens(self.processor, windows)

    def settings(self) -> dict[str, object]:
        """All of its configuration, under the names a recipe has for it."""
        return settings_of(self.config, "objective")

    def build(self) -> Pi05:
        """The student, with gradients only where `train` asks for them and a loss reaches."""
        module = Pi05(self.processor.model)
        config = self.config
        self._frozen, self._rows = freeze(module, config.train, config.lora, config.reads_on)
        if config.frozen_dtype == "bfloat16":
            keep_frozen_in_bfloat16(module)
        return module

    def init_parameter(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """From `init_from` where it has the name, else fresh."""
        if is_adapter(name):
            return adapter_value(name, shape, generator)
        return self.start.value(plain_name(name), shape, generator)

    def init_buffers(self, module: nn.Module) -> None:
        """The student has no buffers: rotary tables follow from the positions. Says what it starts from and learns."""
        self.start.log(_log)
        log_frozen(module, self._frozen, self.config.train, _log)

    def parallelize(self, module: nn.Module, mesh: DeviceMesh | None) -> list[nn.Module]:
        """Layers of the vision tower, the VLM and the expert."""
        return parallelize.blocks(module)

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        """Mean over samples of the mean over draws and valid elements; a sample without actions adds 0."""
        config = self.config
        prefix = self.processor.prefix(batch, "action", config.augment if module.training else None, config.seed)
        actions, mask = self.processor.actions(batch)
        noise, time = self.draw(batch.sample_ids, actions.shape[1:], config.flow_samples)
        actions, mask = (x.repeat_interleave(config.flow_samples, dim=0) for x in (actions, mask))
        if not self.processor.model.noisy_padding:
            noise = noise * mask.any(1, keepdim=True)
        x_t = interpolate(actions, noise, time)
        if self._rows is not None:
            self._rows.sample_ids = batch.sample_ids
        more = continuation(self.processor, batch, config.text_weight > 0, self.fast) if config.reads_on else None
        text = None if more is None else more.inputs
        out = module(prefix, noisy=NoisyActions(x_t, time), text=text, insulate=config.insulate)
        velocity = out["velocity"]
        if config.loss == "latbot":
            parts = latbot_losses(velocity, x_t, time, actions, noise, mask)
        else:
            parts = {"flow_loss": masked_mean((velocity - velocity_target(actions, noise)).square(), mask)}
        metrics = {name: value.mean() for name, value in parts.items()}
        loss = torch.stack(list(metrics.values())).sum()
        if more is not None:
            for name, weight, labelled in (
                ("text_loss", config.text_weight, more.text_mask),
                ("fast_loss", config.fast_weight, more.fast_mask),
            ):
                if weight:
                    metrics[name] = next_token_loss(out["text_logits"], more.labels, labelled).mean()
                    loss = loss + weight * metrics[name]
        return loss, {name: value.detach() for name, value in metrics.items()}

    def draw(self, sample_ids: Tensor, shape: torch.Size, draws: int) -> tuple[Tensor, Tensor]:
        """Noise [B * draws, S, A] and times [B * draws] of these samples, sample-major."""
        noise = normal_like_ids(sample_ids, (draws, *shape), self.config.seed, _NOISE).flatten(0, 1)
        uniform = uniform_like_ids(sample_ids, (draws,), self.config.seed, _TIME).flatten()
        return noise, beta_time(uniform)

    def save_assets(self, folder: Path) -> None:
        """Config, tokenizer, normalisation, cameras, what was seen; LeRobot's files if it can run it; FAST tokens."""
        self.processor.save(folder)
        if self.seen is not None:
            self.seen().save(folder)
        if reason := lerobot_folder.unrepresentable(self.processor):
            _log.info("%s is not for LeRobot: %s", folder.name, reason)
        else:
            lerobot_folder.write(folder, self.processor)
        if self.fast is not None:
            (folder / "fast").mkdir(exist_ok=True)
            self.fast.save(folder / "fast")


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Per sample, the mean of values [B, S, A] where the mask holds: [B]; 0 where it holds nowhere."""
    return (values * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)


def latbot_losses(
    velocity: Tensor, x_t: Tensor, time: Tensor, actions: Tensor, noise: Tensor, mask: Tensor
) -> dict[str, Tensor]:
    """LatBot's two terms per sample, each [B]: velocity MSE off the grippers, BCE on the grippers.

    A gripper's logit is the clean estimate x_t - t * v; its target is 0 (closed) or 1 (open).
    """
    gripper = torch.zeros_like(mask)
    gripper[..., [dim for dim in ACTION_GRIPPER_DIMS if dim < mask.shape[-1]]] = True
    logit = x_t - time[:, None, None] * velocity
    bce = F.binary_cross_entropy_with_logits(logit, actions.clamp(0, 1), reduction="none")
    return {
        "ee_loss": masked_mean((velocity - velocity_target(actions, noise)).square(), mask & ~gripper),
        "gripper_loss": masked_mean(bce, mask & gripper),
    }
