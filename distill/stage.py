"""Stage 2: the student learns to see the teacher's latents in the first frame, and to name the sub-task."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from data_mixtures.batch import Batch
from data_mixtures.statistics.normalisation import Normalisation
from distill.alignment import Divergence, divergence, explained_variance, squared_error
from vla.models.pi05 import parallelize
from vla.models.pi05.config import LatentConfig, Pi05Config
from vla.models.pi05.images import Augmentation
from vla.models.pi05.model import Pi05
from vla.models.pi05.processor import make_processor
from vla.models.pi05.start import Start
from vla.models.pi05.trainable import freeze_expert
from vla.nn.next_token import next_token_loss, token_accuracy
from vla.train.checkpoint import settings_of
from vla.train.stage import Metrics

Teacher = Callable[[Batch], Tensor]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DistillConfig:
    """What stage 2 trains, and how.

    Attributes:
        model: Sizes of the student; `latent` must be the teacher's tokens and width.
        kl: How latents become distributions: see distill/alignment.py.
        kl_weight: Of the divergence beside the squared error (the paper prints 1).
        reasoning_weight: lambda_r, of the next-token loss on sub-task text; 0 leaves the text out.
        standardise_latents: Subtract each latent element's mean and divide by its deviation before both losses.
        init_from: `model` folder of another run, or of a published checkpoint, to start from.
        fresh: Beginnings of parameter names that start fresh although `init_from` has them.
        tokenizer: PaliGemma's tokenizer.model or a tokenizer.json; None takes `init_from`'s, or trains a small one.
        augment: Train-time changes of the images.
        seed: Of the augmentation, together with each sample's id.
    """

    model: Pi05Config = field(default_factory=lambda: Pi05Config.nano(LatentConfig(8, 8, 64)))
    kl: Divergence = "softmax"
    kl_weight: float = 1.0
    reasoning_weight: float = 0.5
    standardise_latents: bool = False
    init_from: str | None = None
    fresh: tuple[str, ...] = ()
    tokenizer: str | None = None
    augment: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model.latent is None:
            raise ValueError("model.latent is not set: give scene_tokens, motion_tokens and width of the teacher")
        for name in ("kl_weight", "reasoning_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give 0 or more")


@dataclass(frozen=True)
class LatentStatistics:
    """Mean and standard deviation of every latent element over the data, each float32 [L, D]."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, latents: Iterable[Tensor]) -> "LatentStatistics":
        """From batches [n, L, D], in float64 sums."""
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for batch in latents:
            values = batch.double()
            count, total, squares = count + len(batch), total + values.sum(0), squares + values.square().sum(0)
        mean = total / count
        return cls(mean.float(), (squares / count - mean.square()).clamp(min=0).sqrt().float())

    def standardise(self, latents: Tensor) -> Tensor:
        """Latents [B, L, D] with mean 0 and deviation 1; elements that never move become 0."""
        mean, std = self.mean.to(latents.device), self.std.to(latents.device)
        return torch.where(std > 1e-6, (latents - mean) / std.clamp(min=1e-6), 0.0)


class DistillStage:
    """Latent alignment and reasoning preservation, from the first frame and the instruction alone (no state).

    Args:
        config: What to train.
        normalisation: Saved with the weights; this stage reads neither states nor actions.
        cameras: Names, in the Batch's order; saved with the weights.
        texts: Instructions and sub-tasks a small tokenizer is trained from, if one must be.
        teacher: Gives latents [B, L, D] for a batch without them; None when they come as data-set columns.
        statistics: Of the latents; needed with `standardise_latents`.
    """

    def __init__(
        self,
        config: DistillConfig,
        normalisation: Normalisation,
        cameras: Sequence[str],
        texts: Iterable[str],
        teacher: Teacher | None = None,
        statistics: LatentStatistics | None = None,
    ) -> None:
        if config.standardise_latents and statistics is None:
            raise ValueError("standardise_latents is true, but no statistics of the latents were given")
        self.config, self.teacher = config, teacher
        self.statistics = statistics if config.standardise_latents else None
        self.processor = make_processor(config.model, normalisation, cameras, texts, config.tokenizer, config.init_from)
        self.start = Start(config.model, config.init_from, config.fresh)

    def settings(self) -> dict[str, object]:
        """All of its configuration, under the names a recipe has for it."""
        return settings_of(self.config, "objective")

    def build(self) -> Pi05:
        """The student, its action expert frozen: it waits for stage 3."""
        module = Pi05(self.config.model)
        freeze_expert(module)
        return module

    def init_parameter(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """From `init_from` where it has the name, else fresh."""
        return self.start.value(name, shape, generator)

    def init_buffers(self, module: nn.Module) -> None:
        """The student has no buffers. Says where its weights came from."""
        self.start.log(_log)

    def parallelize(self, module: nn.Module, mesh: DeviceMesh | None) -> list[nn.Module]:
        """Layers of the vision tower, the VLM and the (frozen) expert."""
        return parallelize.blocks(module)

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        """`mse + kl_weight * kl + reasoning_weight * next-token loss`, each a mean over samples."""
        config = self.config
        prefix = self.processor.prefix(batch, "subtask", config.augment if module.training else None, config.seed)
        text, labels, label_mask = self.processor.subtasks(batch)
        with_text = config.reasoning_weight > 0
        out = module(prefix, read_latents=True, text=text if with_text else None)
        target = self.targets(batch)
        metrics = {
            "mse": squared_error(out["latents"], target).mean(),
            "kl": divergence(out["latents"], target, config.kl).mean(),
            "explained_variance": explained_variance(out["latents"], target),
        }
        loss = metrics["mse"] + config.kl_weight * metrics["kl"]
        if with_text:
            metrics["reasoning"] = next_token_loss(out["text_logits"], labels, label_mask).mean()
            metrics["token_accuracy"] = token_accuracy(out["text_logits"], labels, label_mask)
            loss = loss + config.reasoning_weight * metrics["reasoning"]
        return loss, {name: value.detach() for name, value in metrics.items()}

    def targets(self, batch: Batch) -> Tensor:
        """The teacher's latents [B, L, D] float32, standardised if the config says so."""
        latents = batch.latents
        if latents is None and self.teacher is not None:
            with torch.no_grad():
                latents = self.teacher(batch)
        if latents is None:
            raise ValueError("the batch has no latents: set data.latents to the columns `vla label` wrote")
        wanted = self.config.model.latent
        assert wanted is not None
        if latents.shape[1:] != (wanted.num_tokens, wanted.width):
            raise ValueError(
                f"latents are {list(latents.shape[1:])} a sample, model.latent says "
                f"{[wanted.num_tokens, wanted.width]}: give model.latent the teacher's tokens and width"
            )
        latents = latents.float()
        return self.statistics.standardise(latents) if self.statistics else latents

    def save_assets(self, folder: Path) -> None:
        """Config, tokenizer, normalisation and camera names."""
        self.processor.save(folder)
