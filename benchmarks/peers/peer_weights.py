"""What both peers are told about a file of weights: its sizes, and its tensors under the published names.

Run by a peer's own interpreter, so it imports nothing of this project but the modules that read weights.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from vla.models.pi05.config import GemmaConfig, Pi05Config  # noqa: E402
from vla.models.pi05.convert import WeightFile  # noqa: E402
from vla.models.pi05.sizes import Heads, config_of  # noqa: E402

HEAD = "paligemma_with_expert.paligemma.lm_head.weight"
LOOKUP = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
DEAD_HEAD = "paligemma_with_expert.gemma_expert.lm_head.weight"


@dataclass(frozen=True)
class PeerWeights:
    """Weights, and the sizes of the model they belong to."""

    file: WeightFile
    config: Pi05Config

    @classmethod
    def open(cls, path: Path, horizon: int, vision_heads: int = 16, head_dim: int = 256) -> "PeerWeights":
        """Read a file's header; what shapes do not tell is given, and is the published model's otherwise."""
        file = WeightFile(path)
        vision = "paligemma_with_expert.paligemma.model.vision_tower.vision_model.embeddings."
        patches = file.shape(f"{vision}position_embedding.weight")[0]
        patch = file.shape(f"{vision}patch_embedding.weight")[2]
        return cls(file, config_of(file, Heads(vision_heads, head_dim), round(patches**0.5) * patch, horizon))

    def load_into(self, module: torch.nn.Module) -> None:
        """Give a peer's module its values, tensor by tensor; a name on either side without a partner is an error."""
        wanted: dict[str, Tensor] = dict(module.state_dict(keep_vars=False))
        given = {name: name for name in self.file} | {LOOKUP: HEAD}
        missing = sorted(set(wanted) - set(given) - {DEAD_HEAD})
        unknown = sorted(set(given) - set(wanted))
        if missing or unknown:
            raise ValueError(f"{self.file.path} does not fit the peer: missing {missing}, unknown {unknown}")
        with torch.no_grad():
            for name, source in given.items():
                wanted[name].copy_(self.file.read(source, tuple(wanted[name].shape)))


def peer_gemma(config: GemmaConfig) -> SimpleNamespace:
    """A stack's sizes under the names both peers use."""
    return SimpleNamespace(
        width=config.width,
        depth=config.depth,
        mlp_dim=config.mlp_dim,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        lora_configs={},
    )


def set_sizes(paligemma: Any, ours: Pi05Config) -> None:
    """Write what the peers leave at PaliGemma's own values into its transformers configuration."""
    vision = paligemma.vision_config
    vision.hidden_size, vision.intermediate_size = ours.vision.width, ours.vision.mlp_dim
    vision.num_hidden_layers, vision.num_attention_heads = ours.vision.depth, ours.vision.num_heads
    vision.image_size, vision.patch_size = ours.vision.image_size, ours.vision.patch_size
    vision.projection_dim = paligemma.projection_dim = ours.vlm.width
    paligemma.text_config.vocab_size = ours.vocab_size


def require_eight_heads(config: Pi05Config) -> None:
    """Raise ValueError unless the peers can run it."""
    if config.vlm.num_heads != 8 or config.vlm.num_kv_heads != 1:
        raise ValueError(f"the peers write 8 heads into their code, and these weights have {config.vlm.num_heads}")
