"""Stage 3: fine-tuning student and action expert by flow matching. Behaviour cloning from scratch is the same stage."""

import logging
from collections.abc import Iterable, Sequence
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
from vla.models.pi05 import parallelize
from vla.models.pi05.config import Pi05Config
from vla.models.pi05.images import Augmentation
from vla.models.pi05.model import NoisyActions, Pi05
from vla.models.pi05.processor import make_processor
from vla.models.pi05.start import Start
from vla.nn.flow_matching import beta_time, interpolate, velocity_target
from vla.nn.randomness import normal_like_ids, uniform_like_ids
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
        freeze_vision: Keep the vision tower as it starts.
        augment: Train-time changes of the images.
        seed: Of noise, times and augmentation, together with each sample's id.
    """

    model: Pi05Config = field(default_factory=Pi05Config.nano)
    loss: Literal["flow", "latbot"] = "flow"
    flow_samples: int = 1
    init_from: str | None = None
    fresh: tuple[str, ...] = ()
    tokenizer: str | None = None
    freeze_vision: bool = False
    augment: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.flow_samples < 1:
            raise ValueError(f"flow_samples is {self.flow_samples}: give 1 or more")


class ActionStage:
    """Flow matching of action chunks, given the first frame, the instruction and the state.

    Args:
        config: What to train.
        normalisation: Of the labelled data; saved with the weights.
        cameras: Names, in the Batch's order; saved with the weights.
        texts: Instructions and sub-tasks a small tokenizer is trained from, if one must be.
        robot: The one robot of the data, if it is one; saved, so that the policy speaks its numbers.
        frame_size: Pixels of a side of the data's frames; saved, so that the policy sees them alike.
    """

    def __init__(
        self,
        config: ActionConfig,
        normalisation: Normalisation,
        cameras: Sequence[str],
        texts: Iterable[str],
        robot: Embodiment | None = None,
        frame_size: int | None = None,
    ) -> None:
        model = replace(config.model, gripper_logit=config.loss == "latbot")
        self.config = config
        if config.loss == "latbot" and normalisation.space != "unified":
            raise ValueError(
                "objective.loss is 'latbot', which scores the grippers of the unified spaces, but the data's columns "
                "are read as recorded: use `loss: flow`, or describe the robot's arms instead of `embodiment.recorded`"
            )
        tokenizer, init_from = config.tokenizer, config.init_from
        self.processor = make_processor(model, normalisation, cameras, texts, tokenizer, init_from, robot, frame_size)
        self.start = Start(model, config.init_from, config.fresh)

    def build(self) -> Pi05:
        """The student, with gradients only where the flow loss reaches."""
        module = Pi05(self.processor.model)
        parallelize.freeze(module, expert=False, last_vlm_layer=True, vision=self.config.freeze_vision)
        if module.latent_readout is not None:
            module.latent_readout.requires_grad_(module.config.keep_latent_tokens)
            module.latent_readout.proj.requires_grad_(False)
        return module

    def init_parameter(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """From `init_from` where it has the name, else fresh."""
        return self.start.value(name, shape, generator)

    def init_buffers(self, module: nn.Module) -> None:
        """The student has no buffers: rotary tables follow from the positions. Says where its weights came from."""
        self.start.log(_log)

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
        velocity = module(prefix, noisy=NoisyActions(x_t, time))["velocity"]
        if config.loss == "latbot":
            parts = latbot_losses(velocity, x_t, time, actions, noise, mask)
        else:
            parts = {"flow_loss": masked_mean((velocity - velocity_target(actions, noise)).square(), mask)}
        metrics = {name: value.mean() for name, value in parts.items()}
        loss = torch.stack(list(metrics.values())).sum()
        return loss, {name: value.detach() for name, value in metrics.items()}

    def draw(self, sample_ids: Tensor, shape: torch.Size, draws: int) -> tuple[Tensor, Tensor]:
        """Noise [B * draws, S, A] and times [B * draws] of these samples, sample-major."""
        noise = normal_like_ids(sample_ids, (draws, *shape), self.config.seed, _NOISE).flatten(0, 1)
        uniform = uniform_like_ids(sample_ids, (draws,), self.config.seed, _TIME).flatten()
        return noise, beta_time(uniform)

    def save_assets(self, folder: Path) -> None:
        """Config, tokenizer, normalisation and camera names."""
        self.processor.save(folder)


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
