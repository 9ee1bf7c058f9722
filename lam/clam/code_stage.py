"""LAPA's latent pre-training: a policy learns which codes follow an observation, by cross-entropy (Ye 2024)."""

import json
from pathlib import Path
from typing import cast

import draccus
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from data_mixtures.batch import Batch
from lam.clam.config import PolicyConfig
from lam.clam.initialise import initial_value
from lam.clam.model import Sizes
from lam.clam.policy import ObservationNetwork, observed_moments
from lam.clam.standard import Statistics
from vla.train.checkpoint import settings_of
from vla.train.stage import Metrics


class CodePolicy(ObservationNetwork):
    """A policy whose last layer names codes; fine-tuning puts another layer in its place.

    Args:
        config: Sizes of the policy to be.
        sizes: What the data decide.
        code_sizes: How many values each code of a latent has.
    """

    def __init__(self, config: PolicyConfig, sizes: Sizes, code_sizes: tuple[int, ...]) -> None:
        super().__init__(config, sizes, sum(code_sizes))
        self.code_sizes = code_sizes

    def forward(self, states: Float[Tensor, "batch T 46"], images: Tensor) -> tuple[Tensor, ...]:
        """Logits [B, values] of each code."""
        return self.observed(states, images)[:, 0].split(self.code_sizes, dim=1)


class CodeStage:
    """Cross-entropy of each observation's codes, which `Batch.latents` holds: int64 [B, 1, G].

    Args:
        config: Sizes of the policy to be.
        sizes: What the data decide.
        statistics: Of states and actions; fine-tuning goes on with the same.
        code_sizes: How many values each of the G codes has.
    """

    def __init__(self, config: PolicyConfig, sizes: Sizes, statistics: Statistics, code_sizes: tuple[int, ...]) -> None:
        self.config, self.sizes, self.statistics, self.code_sizes = config, sizes, statistics, code_sizes
        with torch.device("meta"):
            self._layers = self.build()

    def settings(self) -> dict[str, object]:
        """All of its configuration, under the names a recipe has for it."""
        return settings_of(self.config, "policy") | {"code_sizes": list(self.code_sizes)}

    def build(self) -> CodePolicy:
        """The policy with its codes' layer."""
        return CodePolicy(self.config, self.sizes, self.code_sizes)

    def init_parameter(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """The statistics, or fresh as torch's layers start."""
        if name.startswith("standard."):
            return getattr(self.statistics, name.removeprefix("standard.")).clone()
        return initial_value(self._layers, name, generator)

    def init_buffers(self, module: nn.Module) -> None:
        """There are none that are not saved."""

    def parallelize(self, module: nn.Module, mesh: DeviceMesh | None) -> list[nn.Module]:
        """The networks."""
        return cast(CodePolicy, module).networks

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        """Mean over the codes; metric `accuracy` beside it."""
        assert batch.latents is not None
        logits = cast(tuple[Tensor, ...], module(*observed_moments(batch, self.config.frame_stack)))
        codes = batch.latents[:, 0].unbind(1)
        pairs = list(zip(logits, codes, strict=True))
        loss = torch.stack([nn.functional.cross_entropy(of, code) for of, code in pairs]).mean()
        right = torch.stack([(of.argmax(1) == code).float().mean() for of, code in pairs]).mean()
        return loss, {"cross_entropy": loss.detach(), "accuracy": right}

    def save_assets(self, folder: Path) -> None:
        """Write codes.json: the configuration and the sizes."""
        folder.mkdir(parents=True, exist_ok=True)
        saved = {
            "policy": draccus.encode(self.config),
            "sizes": draccus.encode(self.sizes),
            "code_sizes": list(self.code_sizes),
        }
        (folder / "codes.json").write_text(json.dumps(saved, indent=2) + "\n")
