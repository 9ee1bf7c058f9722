"""Stage 1: the latent action model and its action decoder, and what is trained of them when not all is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast

import draccus
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from data_mixtures.batch import Batch
from data_mixtures.transitions import Transitions
from lam.clam.config import LamConfig
from lam.clam.initialise import initial_value
from lam.clam.model import LatentActionModel, Sizes, Windows
from lam.clam.standard import Statistics
from vla.nn.randomness import batch_seed, drawing_from, normal_like_ids
from vla.train.checkpoint import settings_of
from vla.train.export import WEIGHTS_FILE, load_weights
from vla.train.stage import Metrics

CONFIG_FILE = "clam.json"
_NOISE, _DROPOUT = 501, 502


class ClamStage:
    """Reconstruction of the next frame through a latent action, and its decoding to actions on labelled windows.

    Args:
        config: Networks, latents, weights.
        sizes: What the data decide.
        statistics: Saved with the weights.
        seed: Of noise and dropout, together with the sample ids.
        start: `model` folder of a trained latent action model to start from.
        trains: `all`, or the `decoder` alone, on latents as they are (methods without joint training).
    """

    def __init__(
        self,
        config: LamConfig,
        sizes: Sizes,
        statistics: Statistics,
        seed: int = 0,
        start: Path | None = None,
        trains: Literal["all", "decoder"] = "all",
    ) -> None:
        self.config, self.sizes, self.statistics, self.seed = config, sizes, statistics, seed
        self.trains = trains
        self._weights = None if start is None else load_file(start / WEIGHTS_FILE)
        with torch.device("meta"):
            self._layers = LatentActionModel(config, sizes)

    def settings(self) -> dict[str, object]:
        """All of its configuration, under the names a recipe has for it."""
        return settings_of(self.config, "lam") | {"seed": self.seed, "trains": self.trains}

    def build(self) -> LatentActionModel:
        """The model; a decoder that is trained afterwards learns nothing while the latents do, and the reverse."""
        model = LatentActionModel(self.config, self.sizes)
        if self.trains == "decoder":
            model.requires_grad_(False)
        if model.decoder is not None:
            model.decoder.requires_grad_(self.config.joint or self.trains == "decoder")
        return model

    def init_parameter(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """From the weights it starts from, the statistics, or fresh as torch's layers start."""
        if self._weights is not None:
            return self._weights[name]
        if name.startswith("standard."):
            return getattr(self.statistics, name.removeprefix("standard.")).clone()
        return initial_value(self._layers, name, generator)

    def init_buffers(self, module: nn.Module) -> None:
        """There are none that are not saved."""

    def parallelize(self, module: nn.Module, mesh: DeviceMesh | None) -> list[nn.Module]:
        """The networks."""
        model = cast(LatentActionModel, module)
        return [part for part in (model.inverse, model.forward_model, model.decoder) if part is not None]

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        """L_recon + beta L_action-decoder (section 3.1), each a mean over its own windows.

        Metrics: `reconstruction` against `copy`, what predicting no change would err by; `action`, the squared error
        of decoded actions in [-1, 1], with the updates that see labelled windows.
        """
        with drawing_from(batch_seed(batch.sample_ids, self.seed, _DROPOUT), batch.sample_ids.device):
            result = module(reading(batch), self._noise(batch))
        idle = result.pop("idle", None)
        metrics = {name: value.mean() for name, value in result.items()}
        parts = [metrics[name] for name in ("reconstruction", "latent_loss") if name in metrics]
        if "action" in metrics:
            parts.append(self.config.action_weight * metrics["action"])
        if idle is not None:
            parts.append(idle)
        return torch.stack(parts).sum(), {name: value.detach() for name, value in metrics.items()}

    def _noise(self, batch: Batch) -> Tensor | None:
        if not self.config.prior_weight:
            return None
        shape = (self.config.num_latents(self.sizes.context), self.config.latent_dim)
        return normal_like_ids(batch.sample_ids, shape, self.seed, _NOISE)

    def save_assets(self, folder: Path) -> None:
        """Write clam.json: the configuration and the sizes."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"lam": draccus.encode(self.config), "sizes": draccus.encode(self.sizes)}, indent=2)
        (folder / CONFIG_FILE).write_text(text + "\n")


def reading(batch: Batch) -> Windows:
    """What the model reads of a batch: windows without action labels are reconstructed, and come first."""
    assert batch.states is not None, "a batch of data_mixtures.transitions"
    assert batch.steps_mask is not None
    labelled = batch.action_mask.flatten(1).any(1)
    count = int((~labelled).sum())
    assert not labelled[:count].any(), "labelled windows come after the others"
    return Windows(
        batch.states, batch.actions, batch.action_mask, batch.steps_mask, batch.sample_ids, count, batch.images
    )


class ActionError:
    """Squared error of decoded actions, in [-1, 1], on held-out labelled windows: what a model is chosen by.

    Args:
        heldout: Labelled windows.
    """

    def __init__(self, heldout: Transitions) -> None:
        self._heldout = heldout

    def run(self, module: nn.Module) -> Iterator[tuple[str, float]]:
        """`action_error`: the mean over windows."""
        batches = self._heldout.in_order(self._heldout.windows.at_once)
        device = next(module.parameters()).device
        errors = [module(reading(batch.to(device)))["action"] for batch in batches]
        yield "action_error", float(torch.cat(errors).mean())


def load_lam(folder: Path, device: torch.device | str = "cpu") -> LatentActionModel:
    """A trained latent action model from its `model` folder, in eval mode.

    Raises:
        ValueError: There is none.
    """
    config, sizes = lam_config(folder)
    with torch.device("meta"):
        model = LatentActionModel(config, sizes)
    load_weights(model, folder, device)
    return model.eval().requires_grad_(False)


def lam_config(folder: Path) -> tuple[LamConfig, Sizes]:
    """What `save_assets` wrote."""
    path = folder / CONFIG_FILE
    if not path.is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise ValueError(f"{folder} holds no latent action model ({CONFIG_FILE}): give the `model` folder of its run")
    saved = json.loads(path.read_text())
    return draccus.decode(LamConfig, saved["lam"]), draccus.decode(Sizes, saved["sizes"])
