"""Stage 2: behaviour cloning of latent actions, or of recorded ones."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import draccus
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from data_mixtures.batch import Batch
from data_mixtures.spaces.embodiments import Embodiment
from lam.clam.config import EncoderConfig, LamConfig, PolicyConfig
from lam.clam.dynamo import StateEncoder
from lam.clam.initialise import initial_value
from lam.clam.model import LatentActionModel, Sizes
from lam.clam.networks.chunk_policy import published_value
from lam.clam.policy import ClonedPolicy, LatentSizes, observed_moments
from lam.clam.policy_files import POLICY_FILE
from lam.clam.standard import Statistics
from vla.nn.randomness import batch_seed, drawing_from
from vla.train.checkpoint import settings_of
from vla.train.export import WEIGHTS_FILE
from vla.train.stage import Metrics

_DROPOUT = 503


@dataclass(frozen=True)
class Imitated:
    """Latents a policy imitates.

    Attributes:
        mean: float32 [z] over the demonstrations; `std` their spread. 0 and 1 leave latents as they are.
        model: Where they come from; its decoder travels with the policy.
    """

    mean: Tensor
    std: Tensor
    model: LatentActionModel

    @classmethod
    def of(cls, latents: Tensor, model: LatentActionModel, standardise: bool) -> "Imitated":
        """The spread of latents [n, L, z]."""
        flat = latents.flatten(0, 1)
        if not standardise:
            return cls(torch.zeros(flat.shape[1]), torch.ones(flat.shape[1]), model)
        std = flat.std(0)
        return cls(flat.mean(0), std.clamp(min=max(1e-4 * float(std.max()), 1e-6)), model)  # all alike: a collapse

    @property
    def sizes(self) -> LatentSizes:
        """What the policy must know of them."""
        decoder = self.model.decoder
        return LatentSizes(len(self.mean), None if decoder is None else self.model.config.decoder)


class PolicyStage:
    """Mean squared error of predicted latents or actions (section 3.2, L_pi).

    Args:
        config: Sizes, and what is imitated.
        sizes: What the data decide.
        statistics: Of states and actions.
        imitated: The latents; None to imitate recorded actions.
        robot: Whose numbers it speaks; saved with the weights.
        control_hz: Actions a second; saved with the weights.
        features: A frozen encoder of observations (DynaMo); None for the observations themselves.
        cameras: Names of those it looks through; saved with the weights.
        seed: Of dropout, together with the sample ids.
        start: `model` folder of a policy to go on from with a fresh last layer (LAPA); None to start afresh.
    """

    def __init__(
        self,
        config: PolicyConfig,
        sizes: Sizes,
        statistics: Statistics,
        imitated: Imitated | None,
        robot: Embodiment | None,
        control_hz: float,
        features: StateEncoder | None = None,
        start: Path | None = None,
        cameras: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.config, self.sizes, self.statistics, self.seed = config, sizes, statistics, seed
        self.imitated, self.robot, self.control_hz, self.features = imitated, robot, control_hz, features
        self.cameras = tuple(cameras)
        self._start = {} if start is None else _all_but_the_last_layer(start, config)
        self._decoder = (
            {} if imitated is None or imitated.model.decoder is None else imitated.model.decoder.state_dict()
        )
        with torch.device("meta"):
            self._layers = self._policy()

    def _policy(self) -> ClonedPolicy:
        latent = None if self.imitated is None else self.imitated.sizes
        return ClonedPolicy(self.config, self.sizes, latent, self._encoder_config, self._lam_config)

    @property
    def _lam_config(self) -> LamConfig | None:
        """Of the stage 1 whose eyes the policy has."""
        return None if self.config.pretrained is None or self.imitated is None else self.imitated.model.config

    @property
    def _encoder_config(self) -> EncoderConfig | None:
        return None if self.features is None else self.features.config

    def settings(self) -> dict[str, object]:
        """All of its configuration, under the names a recipe has for it."""
        return settings_of(self.config, "policy") | {"seed": self.seed}

    def build(self) -> ClonedPolicy:
        """The policy; its decoder stays as stage 1 left it."""
        policy = self._policy()
        if policy.decoder is not None:
            policy.decoder.requires_grad_(False)
        return policy

    def init_parameter(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """What it starts from, the statistics, the decoder, encoder and eyes as they are; the rest fresh."""
        owner, _, own = name.partition(".")
        published = (
            None
            if self.config.chunk is None
            else published_value(name.removeprefix("network."), shape, self.config.chunk)
        )
        if published is not None:
            return published
        if owner == "eyes" and self._lam_config is not None:
            assert self.imitated is not None
            return self.imitated.model.state_dict()[own].clone()
        if name in self._start:
            return self._start[name].clone()
        if owner == "features":
            assert self.features is not None
            return self.features.state_dict()[own].clone()
        if owner == "standard":
            return getattr(self.statistics, own).clone()
        if owner == "decoder":
            return self._decoder[own].clone()
        if self.imitated is not None and name in ("latent_mean", "latent_std"):
            return (self.imitated.mean if name == "latent_mean" else self.imitated.std).clone()
        return initial_value(self._layers, name, generator)

    def init_buffers(self, module: nn.Module) -> None:
        """There are none that are not saved."""

    def parallelize(self, module: nn.Module, mesh: DeviceMesh | None) -> list[nn.Module]:
        """The networks."""
        return cast(ClonedPolicy, module).networks

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        """The error of the steps of each chunk that lie in the episode."""
        assert batch.steps_mask is not None
        before = self.config.frame_stack - 1
        with drawing_from(batch_seed(batch.sample_ids, self.seed, _DROPOUT), batch.sample_ids.device):
            predicted = module(*observed_moments(batch, self.config.frame_stack))
        if self.imitated is None:
            target = self._layers_standard(batch.actions[:, before:])
        else:
            assert batch.latents is not None
            mean, std = (part.to(batch.latents.device) for part in (self.imitated.mean, self.imitated.std))
            target = (batch.latents - mean) / std
        inside = batch.steps_mask[:, before:, None].expand_as(predicted)
        if self.imitated is None:  # within an episode too, some steps may have no label
            inside = inside & batch.action_mask[:, before:][..., self.sizes.action_columns]
        squares = (predicted - target).square() * inside
        loss = (squares.sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)).mean()
        return loss, {"imitation": loss.detach()}

    def _layers_standard(self, actions: Tensor) -> Tensor:
        low, high = (part.to(actions.device) for part in (self.statistics.action_low, self.statistics.action_high))
        span = (high - low).clamp(min=1e-6)
        return (2 * (actions[..., self.sizes.action_columns] - low) / span - 1).clamp(-1, 1)

    def save_assets(self, folder: Path) -> None:
        """Write clam_policy.json: configuration, sizes, the robot and its cameras."""
        folder.mkdir(parents=True, exist_ok=True)
        latent = None if self.imitated is None else draccus.encode(self.imitated.sizes)
        saved = {
            "policy": draccus.encode(self.config),
            "sizes": draccus.encode(self.sizes),
            "latent": latent,
            "features": None if self._encoder_config is None else draccus.encode(self._encoder_config),
            "robot": None if self.robot is None else draccus.encode(self.robot),
            "control_hz": self.control_hz,
            "lam": None if self._lam_config is None else draccus.encode(self._lam_config),
            "cameras": list(self.cameras),
        }
        (folder / POLICY_FILE).write_text(json.dumps(saved, indent=2) + "\n")


def _all_but_the_last_layer(folder: Path, config: PolicyConfig) -> dict[str, Tensor]:
    """A trained policy's weights and statistics, without what names its targets."""
    last = f"network.layers.{len(config.hidden_dims)}."
    return {name: value for name, value in load_file(folder / WEIGHTS_FILE).items() if not name.startswith(last)}
