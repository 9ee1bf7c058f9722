"""A trained LatBot, and its frozen tower, as labelling and caching see them."""

import hashlib
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from data_mixtures.batch import Batch
from lam.latbot.encoder import tower_features, vision_config
from lam.latbot.initialise import TOWER
from lam.latbot.model import LatBot
from lam.latbot.stage import LatBotStage, load_teacher
from vla.nn.torchvision_ops import ensure_torchvision_operators

ensure_torchvision_operators()

from transformers import InternVLVisionModel  # noqa: E402


class LatBotTeacher:
    """Encodes windows with a trained LatBot (see `lam.teacher.LatentTeacher`)."""

    def __init__(self, stage: LatBotStage, model: LatBot, autocast: bool = False) -> None:
        config = stage.config
        self.stage, self.model, self.autocast = stage, model.eval(), autocast
        self.num_frames, self.horizon = config.num_frames, config.horizon
        self.num_latents, self.scene_tokens = config.num_latents, config.scene_tokens
        self.latent_dim = config.latent_dim
        self.device = next(model.parameters()).device
        self.fingerprint = weights_fingerprint(model.encoder, repr(config) + str(autocast))

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", autocast: bool = False) -> "LatBotTeacher":
        """From the `model` folder of a stage-1 run; `autocast` computes in bfloat16."""
        return cls(*load_teacher(folder, device), autocast)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Tensor:
        """Latents float32 [B, num_latents, latent_dim] on CPU, scene tokens first."""
        inputs = self.stage.encoding_inputs(batch.to(self.device))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            result = self.model(inputs, "encode")
        return torch.cat([result["scene"], result["motion"]], dim=1).cpu()


class LatBotTower:
    """The frozen tower of a LatBot recipe (see `lam.teacher.VisionTower`); needs no trained teacher."""

    def __init__(self, stage: LatBotStage, device: str = "cpu") -> None:
        self.config = stage.config.vision
        self.device = torch.device(device)
        self.num_tokens, self.feature_width = self.config.num_tokens, self.config.feature_width
        with torch.device("meta"):
            tower = InternVLVisionModel(vision_config(self.config))
        tower.to_empty(device=device)
        unused = torch.Generator()  # the tower draws from its own seed, or is read from published files
        with torch.no_grad():
            for name, value in tower.state_dict().items():
                value.copy_(stage.init_parameter(TOWER + name, value.shape, unused))
        self.tower = cast(InternVLVisionModel, tower.eval())
        self.fingerprint = weights_fingerprint(tower, repr(self.config))

    def features(self, images: Tensor) -> Tensor:
        """Images uint8 [N, 3, H, W] -> features float16 [N, P, F] on CPU."""
        return tower_features(self.tower, images.to(self.device), self.config).cpu()


def weights_fingerprint(module: torch.nn.Module, settings: str) -> str:
    """A hash over settings and every weight, names included."""
    digest = hashlib.sha256(settings.encode())
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
