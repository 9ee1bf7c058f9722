"""DynaMo: an observation encoder learned from dynamics alone (Cui 2024), on CLAM's parts.

    o_{t-H} .. o_{t+1} ─► encoder ─► s_{t-H} .. s_{t+1} ─► inverse, causal ─► z of every step
                                     s_{t-H} .. s_t, z ──► forward, causal ─► the embedding after each

    L = 1 - cos(predicted, stop-gradient(s))  +  0.04 x mean squared covariance of two dimensions of s

The latents are thrown away; a policy takes the frozen encoder's embedding in place of the observation.
"""

import json
from pathlib import Path
from typing import cast

import draccus
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from data_mixtures.batch import Batch
from lam.clam.config import DynamoConfig, EncoderConfig
from lam.clam.frames import Frames
from lam.clam.initialise import initial_value
from lam.clam.model import Sizes
from lam.clam.networks.mlp import LEAK, Mlp
from lam.clam.networks.transformer import EncoderLayer, TransformerForward, check_positions, later
from lam.clam.standard import Standard, Statistics
from vla.nn.randomness import batch_seed
from vla.train.checkpoint import settings_of
from vla.train.export import WEIGHTS_FILE, load_weights
from vla.train.stage import Metrics

CONFIG_FILE = "dynamo.json"
_DROPOUT = 601


class StateEncoder(nn.Module):
    """States -> embeddings, with the statistics of what it was trained on."""

    def __init__(self, config: EncoderConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.standard = Standard(sizes.state_columns, sizes.action_columns)
        self.network = Mlp([len(sizes.state_columns), *config.hidden_dims, config.embedding_dim])

    def forward(self, states: Float[Tensor, "*batch 46"]) -> Float[Tensor, "*batch embedding"]:
        """One embedding an observation."""
        return self.network(self.standard.states(states))


class CausalInverse(nn.Module):
    """z of each step from the embeddings up to the one it leads to."""

    def __init__(self, config: DynamoConfig, context: int) -> None:
        super().__init__()
        of = config.transformer
        check_positions(context + 2, of.max_positions)
        self.input_embed = nn.Linear(config.encoder.embedding_dim, of.width)
        self.layers = nn.ModuleList(
            EncoderLayer(of.width, of.feedforward, of.num_heads, of.dropout) for _ in range(of.num_encoder_layers)
        )
        self.pos_embed = nn.Embedding(of.max_positions, of.width)
        self.latent_action = nn.Linear(of.width, config.latent_dim)

    def forward(self, embeddings: Float[Tensor, "B T embedding"]) -> Float[Tensor, "B T-1 z"]:
        """Row i is read at embedding i + 1 and has seen 0 .. i + 1."""
        x = nn.functional.leaky_relu(self.input_embed(embeddings), LEAK)
        count = x.shape[1]
        for layer in self.layers:
            x = cast(EncoderLayer, layer)(x, self.pos_embed.weight[:count], later(count, x.device))
        return self.latent_action(x[:, 1:])


class Dynamo(nn.Module):
    """See the head of this file."""

    def __init__(self, config: DynamoConfig, sizes: Sizes) -> None:
        super().__init__()
        width = config.encoder.embedding_dim
        self.encoder = StateEncoder(config.encoder, sizes)
        self.inverse = CausalInverse(config, sizes.context)
        self.forward_model = TransformerForward(width, config.latent_dim, width, sizes.context, config.transformer)

    def forward(self, states: Float[Tensor, "B T 46"], steps_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Per sample [B], 1 - cosine of each step's predicted and true embedding, their mean; and the covariance [].

        `steps_mask` [B, T - 1] is False for steps that lie outside the episode.
        """
        embeddings = self.encoder(states)
        latents = self.inverse(embeddings)
        predicted = self.forward_model(Frames(embeddings[:, :-1]), latents)
        # Only the prediction learns from the comparison: embeddings could otherwise agree by being all alike.
        apart = 1 - nn.functional.cosine_similarity(predicted, embeddings[:, 1:].detach(), dim=-1)
        dynamics = (apart * steps_mask).sum(1) / steps_mask.sum(1).clamp(min=1)
        return dynamics, covariance(embeddings.flatten(0, 1))


def covariance(embeddings: Float[Tensor, "n d"]) -> Tensor:
    """Mean square of the covariances of two different dimensions over n embeddings; the authors' code has it so."""
    found = embeddings.T.cov().square()
    dim = len(found)
    return (found.sum() - found.diagonal().sum()) / (dim * (dim - 1))


class DynamoStage:
    """Pre-training of the encoder; the covariance is one of the batch, or of each rank's or micro-batch's share.

    Args:
        config: Sizes and weights.
        sizes: What the data decide.
        statistics: Of the states.
        seed: Of dropout, together with the sample ids.
    """

    def __init__(self, config: DynamoConfig, sizes: Sizes, statistics: Statistics, seed: int = 0) -> None:
        self.config, self.sizes, self.statistics, self.seed = config, sizes, statistics, seed
        with torch.device("meta"):
            self._layers = Dynamo(config, sizes)

    def settings(self) -> dict[str, object]:
        """All of its configuration, under the names a recipe has for it."""
        return settings_of(self.config, "encoder") | {"seed": self.seed}

    def build(self) -> Dynamo:
        """Encoder, inverse and forward model."""
        return Dynamo(self.config, self.sizes)

    def init_parameter(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """The statistics, or fresh as torch's layers start."""
        if name.startswith("encoder.standard."):
            return getattr(self.statistics, name.removeprefix("encoder.standard.")).clone()
        return initial_value(self._layers, name, generator)

    def init_buffers(self, module: nn.Module) -> None:
        """There are none that are not saved."""

    def parallelize(self, module: nn.Module, mesh: DeviceMesh | None) -> list[nn.Module]:
        """The networks."""
        return [module.get_submodule(name) for name in ("encoder", "inverse", "forward_model")]

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        """Dynamics and covariance (DynaMo, section 3); metrics `dynamics`, in [0, 2], and `covariance`."""
        assert batch.states is not None, "a batch of data_mixtures.transitions"
        assert batch.steps_mask is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(batch_seed(batch.sample_ids, self.seed, _DROPOUT))
            dynamics, shared = module(batch.states, batch.steps_mask)
        loss = dynamics.mean() + self.config.covariance_weight * shared
        return loss, {"dynamics": dynamics.mean().detach(), "covariance": shared.detach()}

    def save_assets(self, folder: Path) -> None:
        """Write dynamo.json: the configuration and the sizes."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"encoder": draccus.encode(self.config), "sizes": draccus.encode(self.sizes)}, indent=2)
        (folder / CONFIG_FILE).write_text(text + "\n")


def load_encoder(folder: Path) -> StateEncoder:
    """The trained encoder from the `model` folder of a DynaMo run, frozen.

    Raises:
        ValueError: There is none.
    """
    path = folder / CONFIG_FILE
    if not path.is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise ValueError(f"{folder} holds no DynaMo encoder ({CONFIG_FILE}): give the `model` folder of its run")
    saved = json.loads(path.read_text())
    with torch.device("meta"):
        model = Dynamo(draccus.decode(DynamoConfig, saved["encoder"]), draccus.decode(Sizes, saved["sizes"]))
    load_weights(model, folder, "cpu")
    return model.encoder.eval().requires_grad_(False)
