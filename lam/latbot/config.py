"""Sizes and choices of the LatBot teacher. The defaults are the published size; `nano()` is what tests use."""

from dataclasses import dataclass, field
from typing import Literal

from lam.clam import config as clam


@dataclass(frozen=True)
class VisionConfig:
    """The frozen vision tower (InternViT-300M by default) and what is done to its output.

    `pool` averages pool x pool neighbouring tokens after pixel shuffle (2 turns 256 tokens a frame into 64).
    `compute` is the arithmetic of the tower, for the cache and for live use alike, so that the two agree.
    `seed` draws the tower's weights where there is no checkpoint: it is apart from the training seed, so every run
    of a recipe shares one feature cache.
    """

    image_size: int = 448
    patch_size: int = 14
    width: int = 1024
    mlp_width: int = 4096
    num_layers: int = 24
    num_heads: int = 16
    downsample: float = 0.5
    pool: int = 1
    compute: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 0

    @property
    def grid(self) -> int:
        """Tokens along one side of a frame, after pixel shuffle and pooling."""
        return int(self.image_size // self.patch_size * self.downsample) // self.pool

    @property
    def num_tokens(self) -> int:
        """Vision tokens a frame (P in the batch's legend)."""
        return self.grid**2

    @property
    def feature_width(self) -> int:
        """Width of a vision token before the projector (F in the batch's legend)."""
        return int(self.width / self.downsample**2)

    def __post_init__(self) -> None:
        patches = self.image_size / self.patch_size
        if patches != int(patches) or (patches * self.downsample) % self.pool:
            raise ValueError(
                f"vision.image_size={self.image_size} must be a multiple of patch_size / downsample * pool = "
                f"{self.patch_size / self.downsample * self.pool:g}; change image_size or patch_size"
            )


@dataclass(frozen=True)
class LanguageConfig:
    """The Qwen3 language model. `tokenizer` is a folder `AutoTokenizer` can read; None trains a small BPE.

    `train_embedding` is off by default: the queries enter through `inputs_embeds`, so a pretrained embedding
    (311 M parameters at the published size) need not be touched by the optimiser.
    """

    width: int = 2048
    mlp_width: int = 6144
    num_layers: int = 28
    num_heads: int = 16
    num_kv_heads: int = 8
    head_dim: int = 128
    vocab_size: int = 151936
    rope_theta: float = 1e6
    train_embedding: bool = False
    tokenizer: str | None = None


@dataclass(frozen=True)
class DecoderConfig:
    """The unified decoder: SANA's sizes, and the action stream beside it.

    `position_embedding` adds SANA's optional sine-cosine positions; the 1.6B model at 512 and 1024 px has none.
    `zero_head` starts a decoder trained from scratch from a zero output.
    `exchange`: "all" lets action queries read image and scene tokens, and image and scene queries the whole action
    stream; "tokens" keeps the noisy future frame and the noisy actions out of the exchange (actions read scene
    tokens, image reads motion tokens), so neither stream can copy the answer from the other's noisy input.
    """

    num_layers: int = 20
    num_heads: int = 70
    head_dim: int = 32
    num_cross_heads: int = 20
    cross_head_dim: int = 112
    caption_width: int = 2304
    mlp_ratio: float = 2.5
    qk_norm: str | None = None
    position_embedding: bool = False
    zero_head: bool = False
    action_width: int = 1024
    action_heads: int = 16
    exchange: Literal["all", "tokens"] = "all"

    @property
    def width(self) -> int:
        """Width of the image stream."""
        return self.num_heads * self.head_dim

    def __post_init__(self) -> None:
        if self.num_cross_heads * self.cross_head_dim != self.width:
            raise ValueError(
                f"decoder.num_cross_heads x cross_head_dim = {self.num_cross_heads * self.cross_head_dim} must equal "
                f"num_heads x head_dim = {self.width}"
            )
        if self.action_width % self.action_heads:
            raise ValueError(
                f"decoder.action_width={self.action_width} must be a multiple of action_heads={self.action_heads}"
            )


@dataclass(frozen=True)
class CodecConfig:
    """Where frames are reconstructed: DC-AE's latent space, or pixels rearranged into blocks (lossless, no weights).

    `image_size` is the side of the reconstructed frame in pixels, `patch_size` the block of the pixel codec
    (DC-AE's is 32 by construction), `scale` multiplies latents (SANA's 0.41407 for DC-AE, 1 for pixels in [-1, 1]).
    """

    kind: Literal["dcae", "pixel"] = "dcae"
    image_size: int = 256
    patch_size: int = 32
    scale: float = 0.41407

    @property
    def channels(self) -> int:
        """Latent channels."""
        return 32 if self.kind == "dcae" else 3 * self.patch_size**2

    @property
    def grid(self) -> int:
        """Latent cells along one side."""
        return self.image_size // self.patch_size

    def __post_init__(self) -> None:
        if self.kind == "dcae" and self.patch_size != 32:
            raise ValueError(f"codec.patch_size={self.patch_size} must be 32 for codec.kind=dcae")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"codec.image_size={self.image_size} must be a multiple of codec.patch_size={self.patch_size}"
            )


@dataclass(frozen=True)
class FlowConfig:
    """The flow-matching objective.

    `frame_target`: "frame" generates the future latent; "change" generates (future - current) / `change_scale`, so a
    zero output is the copy of the current frame. `frame_prediction`: the network's output is the velocity
    (published SANA) or the clean target, turned into a velocity by (x_t - x) / t; "clean" is needed where latent
    channels outnumber the decoder's width, since noise cannot pass through it. Both are trained on the velocity's
    squared error; `min_time` bounds the factor 1 / t of the second.
    `frame_time_shift` is SANA's 3 for DC-AE latents. Pixels need more: neighbouring ones agree, so at a time of 0.75 a
    blurred future frame can still be seen through the noise, and the latent tokens are not needed to draw it.
    `num_draws` noise and time draws share one pass of the encoder. Weights 1 : 1 as the paper leaves them open.
    """

    frame_target: Literal["frame", "change"] = "frame"
    change_scale: float = 1.0
    frame_prediction: Literal["velocity", "clean"] = "velocity"
    frame_time_shift: float = 3.0
    min_time: float = 0.1
    num_draws: int = 1
    frame_weight: float = 1.0
    action_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("change_scale", "frame_time_shift", "min_time", "num_draws"):
            if getattr(self, name) <= 0:
                raise ValueError(f"flow.{name}={getattr(self, name)} must be positive")


@dataclass(frozen=True)
class GroundingConfig:
    """An action decoder on the motion tokens, as CLAM grounds its latents (section 3.1).

    `action_weight` is CLAM's beta, on a mean over all samples with 0 for those without labels: where a share p of
    them has labels, the pull is that of the paper's labelled batch every K-th step at K = 1 / p.
    `joint`: its gradients shape the latents; False has it read them only (CLAM's ablation, tables 2 and 6).
    """

    action_weight: float = 1.0
    joint: bool = True
    decoder: clam.DecoderConfig = field(default_factory=clam.DecoderConfig)

    def __post_init__(self) -> None:
        if self.action_weight <= 0:
            raise ValueError(
                f"grounding.action_weight={self.action_weight} must be positive; without a decoder: `grounding: null`"
            )


@dataclass(frozen=True)
class PretrainedConfig:
    """Folders (or .safetensors files) of published weights; None draws that part at random."""

    internvl: str | None = None
    sana: str | None = None
    dcae: str | None = None


@dataclass(frozen=True)
class LatBotConfig:
    """The whole teacher (seed paper: 16 frames, 64 + 64 latent tokens, InternVL3.5-2B, SANA-1.6B).

    `latent_width` puts a linear bottleneck after the language model; None keeps its width, as published.
    `difference_features` adds a projection of every frame's features minus the first frame's beside the frame.
    `num_cameras`: how many of the batch's cameras are read, in order; the first is the one reconstructed.
    `grounding`: an action decoder beside the unified one (docs/clam_grounding.md). No part of what makes a latent,
    hence not of the representation that a teacher's fingerprint is taken of.
    """

    num_frames: int = 16
    horizon: int = 16
    num_cameras: int = 1
    scene_tokens: int = 64
    motion_tokens: int = 64
    latent_width: int | None = None
    difference_features: bool = False
    query_std: float = 0.5
    vision: VisionConfig = field(default_factory=VisionConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    codec: CodecConfig = field(default_factory=CodecConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    pretrained: PretrainedConfig = field(default_factory=PretrainedConfig)
    grounding: GroundingConfig | None = field(default=None, repr=False)

    @property
    def latent_dim(self) -> int:
        """Width of one latent token (D in the batch's legend)."""
        return self.latent_width or self.language.width

    @property
    def num_latents(self) -> int:
        """Scene plus motion tokens (L in the batch's legend)."""
        return self.scene_tokens + self.motion_tokens

    def __post_init__(self) -> None:
        for name in ("horizon", "num_cameras", "scene_tokens", "motion_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.num_frames < 2:
            raise ValueError(
                f"num_frames={self.num_frames}: a latent action needs at least 2 frames; set window.frames"
            )


def nano() -> LatBotConfig:
    """The smallest size that still walks every path: what tests use."""
    return LatBotConfig(
        num_frames=3,
        horizon=4,
        scene_tokens=4,
        motion_tokens=4,
        latent_width=16,
        difference_features=True,
        vision=VisionConfig(32, 8, 192, 192, 1, 4, compute="float32"),
        language=LanguageConfig(48, 96, 2, 3, 3, 16, 768),
        decoder=DecoderConfig(
            2, 4, 12, 4, 12, 32, position_embedding=True, zero_head=True, action_width=32, action_heads=2
        ),
        codec=CodecConfig("pixel", 32, 8, 1.0),
        flow=FlowConfig("change", 0.2, "clean", frame_time_shift=10.0, min_time=0.5),
    )
