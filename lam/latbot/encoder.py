"""The latent action encoder: InternVL reads frames and instruction, learned queries come out as Z_sce and Z_mot."""

from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from lam.latbot.config import LatBotConfig, VisionConfig
from lam.latbot.template import Prompt
from vla.nn.attention import runs_on_cpu
from vla.nn.norms import rms_normalise
from vla.nn.torchvision_ops import ensure_torchvision_operators

ensure_torchvision_operators()

from transformers import InternVLConfig, InternVLModel, InternVLVisionConfig, InternVLVisionModel, Qwen3Config  # noqa: E402

# InternVL's tower was trained on images normalised with ImageNet's statistics.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def vision_config(config: VisionConfig) -> InternVLVisionConfig:
    """The vision tower's configuration for transformers."""
    return InternVLVisionConfig(
        hidden_size=config.width,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.mlp_width,
        image_size=(config.image_size,) * 2,
        patch_size=(config.patch_size,) * 2,
        attention_bias=True,
        attn_implementation="sdpa",  # pyright: ignore[reportCallIssue]  (taken by the base class)
    )


def internvl_config(config: LatBotConfig) -> InternVLConfig:
    """The whole VLM's configuration for transformers."""
    language = config.language
    text = Qwen3Config(
        vocab_size=language.vocab_size,
        hidden_size=language.width,
        intermediate_size=language.mlp_width,
        num_hidden_layers=language.num_layers,
        num_attention_heads=language.num_heads,
        num_key_value_heads=language.num_kv_heads,
        head_dim=language.head_dim,
        rms_norm_eps=1e-6,
        max_position_embeddings=40960,
        rope_parameters={"rope_type": "default", "rope_theta": language.rope_theta},
        attn_implementation="sdpa",  # pyright: ignore[reportCallIssue]  (taken by the base class)
    )
    return InternVLConfig(
        vision_config=vision_config(config.vision),
        text_config=text,
        image_seq_length=config.vision.num_tokens,
        downsample_ratio=config.vision.downsample,
        attn_implementation="sdpa",  # pyright: ignore[reportCallIssue]  (taken by the base class)
    )


def preprocess(images: UInt8[Tensor, "n 3 h w"], image_size: int) -> Float[Tensor, "n 3 s s"]:
    """Images uint8 [N, 3, H, W] -> float32 [N, 3, image_size, image_size], normalised as InternVL expects."""
    pixels = images.to(torch.float32) / 255.0
    if pixels.shape[-2:] != (image_size, image_size):
        pixels = F.interpolate(pixels, (image_size, image_size), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (_MEAN, _STD))
    return (pixels - mean) / std


def pixel_shuffle(tokens: Float[Tensor, "n p w"], downsample: float) -> Float[Tensor, "n q f"]:
    """Patch tokens [N, P, W] -> [N, P * downsample^2, W / downsample^2], in InternVL's channel order."""
    n, count, width = tokens.shape
    side = int(count**0.5)
    factor = int(1 / downsample)
    # InternVL's two reshape-and-transpose steps put a cell's channels in the order (row, column, channel).
    blocks = tokens.reshape(n, side // factor, factor, side // factor, factor, width).permute(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, count // factor**2, width * factor**2)


def tower_features(
    tower: InternVLVisionModel, images: UInt8[Tensor, "n 3 h w"], config: VisionConfig
) -> Float[Tensor, "n p f"]:
    """What the cache stores: frozen features before the projector, float16 [N, P, F].

    The one path for the cache and for live use. Rounding to float16 and the tower's own arithmetic (whatever autocast
    surrounds the call) are part of it, so a run from the cache equals a run without.
    """
    kind = images.device.type
    dtype = torch.bfloat16 if config.compute == "bfloat16" else torch.float32
    with torch.no_grad(), torch.autocast(kind, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        tokens = tower(pixel_values=preprocess(images, config.image_size)).last_hidden_state[:, 1:]
    features = pixel_shuffle(tokens, config.downsample)
    if config.pool > 1:
        side = config.grid * config.pool
        maps = features.float().transpose(1, 2).unflatten(2, (side, side))
        features = F.avg_pool2d(maps, config.pool).flatten(2).transpose(1, 2)
    return features.to(torch.float16)


class DifferenceProjector(nn.Module):
    """Projects a frame's features minus the first frame's into the language model's width.

    Without a LayerNorm, unlike InternVL's projector: a patch where nothing changed must stay near zero, and a
    normalisation would blow its compression noise up to the size of real motion.
    """

    def __init__(self, feature_width: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(feature_width, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, difference: Tensor) -> Tensor:
        """Differences [..., F] -> [..., width]."""
        return self.linear_2(F.gelu(self.linear_1(difference)))


class Bottleneck(nn.Module):
    """A linear map to the latent width, then to unit root mean square.

    That is what the language model's last norm gives the published latents, so a student sees targets of one scale at
    every size.
    """

    def __init__(self, width: int, latent_width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, latent_width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden [B, N, width] -> latents [B, N, latent width], float32."""
        return rms_normalise(self.linear(hidden), eps=1e-6)


class LatentActionEncoder(nn.Module):
    """InternVL with two query tables in its prompt; the vision tower is frozen."""

    def __init__(self, config: LatBotConfig) -> None:
        super().__init__()
        self.config = config
        width = config.language.width
        self.vlm = InternVLModel(internvl_config(config))
        self.vlm.vision_tower.requires_grad_(False)
        self.vlm.language_model.embed_tokens.requires_grad_(config.language.train_embedding)
        self.scene_queries = nn.Parameter(torch.empty(config.scene_tokens, width))
        self.motion_queries = nn.Parameter(torch.empty(config.motion_tokens, width))
        self.difference_projector = (
            DifferenceProjector(config.vision.feature_width, width) if config.difference_features else None
        )
        self.bottleneck = Bottleneck(width, config.latent_width) if config.latent_width else nn.Identity()

    def vision_features(self, images: UInt8[Tensor, "b t c 3 h w"]) -> Float[Tensor, "b t c p f"]:
        """Frozen features of a window's frames, float16: exactly what `lam/features.py` caches."""
        tower = cast(InternVLVisionModel, self.vlm.vision_tower)
        return tower_features(tower, images.flatten(0, 2), self.config.vision).unflatten(0, images.shape[:3])

    def forward(self, features: Float[Tensor, "b t c p f"], prompt: Prompt) -> tuple[Tensor, Tensor]:
        """Features [B, T, cameras, P, F] and the prompt -> z_scene [B, Ns, D], z_motion [B, Nm, D]."""
        embeds = self.vlm.language_model.embed_tokens(prompt.token_ids)
        embeds = embeds.index_copy(1, prompt.image_index, self._image_tokens(features).to(embeds.dtype))
        embeds = _put(embeds, self.scene_queries, prompt.scene_start)
        embeds = _put(embeds, self.motion_queries, prompt.motion_start)
        language_model = self.vlm.language_model
        # On CPU the fused kernel's bfloat16 backward costs ten times that of plain products (vla/nn/attention.py).
        language_model.config._attn_implementation = "eager" if runs_on_cpu(embeds) else "sdpa"
        hidden = language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        scene = _take(hidden, prompt.scene_start, self.config.scene_tokens)
        motion = _take(hidden, prompt.motion_start, self.config.motion_tokens)
        return self.bottleneck(scene), self.bottleneck(motion)

    def _image_tokens(self, features: Tensor) -> Tensor:
        projector = self.vlm.multi_modal_projector
        features = features.to(projector.linear_1.weight.dtype)
        tokens = projector(features)
        if self.difference_projector is not None:
            tokens = tokens + self.difference_projector(features - features[:, :1])
        return tokens.flatten(1, 3)


def _columns(start: Tensor, count: int) -> Tensor:
    return start[:, None] + torch.arange(count, device=start.device)


def _put(embeds: Tensor, table: Tensor, start: Tensor) -> Tensor:
    """Write the query table [N, D] into every row of embeds [B, L, D] from column start [B] on."""
    index = _columns(start, len(table))[..., None].expand(-1, -1, embeds.shape[-1])
    return embeds.scatter(1, index, table.to(embeds.dtype).expand(len(embeds), -1, -1))


def _take(hidden: Tensor, start: Tensor, count: int) -> Tensor:
    index = _columns(start, count)[..., None].expand(-1, -1, hidden.shape[-1])
    return hidden.gather(1, index)
