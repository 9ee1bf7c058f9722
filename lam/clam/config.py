"""What a recipe may say about CLAM and the methods beside it. The defaults are the paper's (tables 10-12)."""

from dataclasses import dataclass, field
from typing import Literal


def _require(holds: bool, name: str, value: object, fix: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value!r}: {fix}")


@dataclass(frozen=True)
class MlpConfig:
    """Three layers a model (section G.3); `hidden_dims` are the widths between them."""

    hidden_dims: tuple[int, ...] = (1024, 1024)


@dataclass(frozen=True)
class TransformerConfig:
    """Encoder and decoder over the window's frames (table 12, section G.3).

    Attributes:
        num_encoder_layers: Of the inverse model.
        num_decoder_layers: Of the forward model.
        width: Of every token.
        feedforward: Hidden width of each layer's MLP.
        num_heads: Of every attention.
        dropout: Drawn once a batch, as a function of its sample ids.
        max_positions: Rows of each table of learned positions.
        sees_later_latents: The decoder's cross-attention is unmasked, as the paper has it; False masks it causally, as
            the released code does.
    """

    num_encoder_layers: int = 3
    num_decoder_layers: int = 3
    width: int = 256
    feedforward: int = 2048
    num_heads: int = 4
    dropout: float = 0.1
    max_positions: int = 200
    sees_later_latents: bool = True

    def __post_init__(self) -> None:
        _require(self.width % self.num_heads == 0, "width", self.width, f"give a multiple of {self.num_heads} heads")


@dataclass(frozen=True)
class SpaceTimeConfig:
    """Space-time attention over the patches of every frame (section G.2, figures 8-10).

    Attributes:
        image_size: Pixels a side.
        patch_size: Of a patch; `image_size` is a multiple.
        num_encoder_layers: Of the inverse model.
        num_decoder_layers: Of the forward model.
        width: Of every token.
        feedforward: Hidden width of each block's MLP.
        num_heads: Of every attention.
        dropout: Drawn once a batch, as a function of its sample ids.
        max_positions: Rows of each table of learned positions.
        state_columns: So many of the state's first columns are shown beside the picture, in Meta-World hand x, y, z
            and gripper opening, as in the released code; 0 shows pictures alone.
    """

    image_size: int = 64
    patch_size: int = 16
    num_encoder_layers: int = 3
    num_decoder_layers: int = 3
    width: int = 256
    feedforward: int = 2048
    num_heads: int = 4
    dropout: float = 0.1
    max_positions: int = 200
    state_columns: int = 4

    def __post_init__(self) -> None:
        whole = self.image_size % self.patch_size == 0
        _require(whole, "image_size", self.image_size, f"give a multiple of patch_size, {self.patch_size}")
        _require(self.width % self.num_heads == 0, "width", self.width, f"give a multiple of {self.num_heads} heads")


@dataclass(frozen=True)
class ImpalaConfig:
    """An IMPALA-CNN (Espeholt et al. 2018): residual convolutions, halving the picture after each group.

    Attributes:
        image_size: Pixels a side.
        channels: Of each group, to be multiplied by `scale`.
        scale: 4 as LAPO and CLAM's release have it.
        feature_dim: Numbers it makes of a picture, or of a stack of them.
    """

    image_size: int = 64
    channels: tuple[int, ...] = (16, 32, 32)
    scale: int = 4
    feature_dim: int = 256


@dataclass(frozen=True)
class ImpalaDynamicsConfig:
    """LAPO's networks for pictures: an IMPALA-CNN names the latent, a U-Net draws the next frame.

    Attributes:
        encoder: Of the inverse model; its `image_size` is a power of two.
        base_width: Channels of the U-Net at full size, doubled at every halving; a multiple of 8.
    """

    encoder: ImpalaConfig = field(default_factory=ImpalaConfig)
    base_width: int = 24

    def __post_init__(self) -> None:
        size = self.encoder.image_size
        _require(size >= 4 and size & (size - 1) == 0, "encoder.image_size", size, "give a power of two, such as 64")
        _require(self.base_width % 8 == 0, "base_width", self.base_width, "give a multiple of 8")


@dataclass(frozen=True)
class ChunkPolicyConfig:
    """Appendix F's policy: tokens of cameras and state, read by learned action tokens as in ACT.

    Attributes:
        chunk_size: Actions, or latents, predicted at once.
        width: Of every token.
        feedforward: Hidden width of each layer's MLP.
        num_heads: Of every attention.
        num_layers: Of the decoder; the page does not say.
        tokens_per_camera: Learned queries that read a camera's feature map; the page does not say, 16 are HPT's.
        dropout: Drawn once a batch, as a function of its sample ids.
        resnet: A .safetensors file with timm's weights of resnet18; None starts from random ones.
    """

    chunk_size: int = 5
    width: int = 512
    feedforward: int = 2048
    num_heads: int = 8
    num_layers: int = 4
    tokens_per_camera: int = 16
    dropout: float = 0.1
    resnet: str | None = None

    def __post_init__(self) -> None:
        _require(self.chunk_size >= 1, "chunk_size", self.chunk_size, "give 1 or more")
        _require(self.width % self.num_heads == 0, "width", self.width, f"give a multiple of {self.num_heads} heads")


@dataclass(frozen=True)
class QuantiserConfig:
    """Discrete latents, in place of continuous ones (table 2's first rows; LAPO, LAPA).

    The defaults of vq are LAPO's (its released config.yaml), but for `codes_per_codebook`, 4 there, and dead codes,
    which it leaves alone. LAPA's latent is 4 codes of one codebook of 8, each of 32 numbers.

    Attributes:
        kind: `vq`: codes learned by moving averages (LAPO). `fsq`: finite scalar quantisation, no codebook.
            `hybrid`: codes, plus a continuous rest of `rest_dim` numbers (an open question of section 8).
        num_codes: Of a codebook, vq and hybrid.
        num_codebooks: The latent is cut into so many parts, each with a codebook of its own, vq and hybrid.
        codes_per_codebook: Each part is cut into so many codes of its codebook, vq and hybrid.
        levels: Of each dimension, fsq only (1000 codes; CLAM's release has these).
        decay: Of the moving averages, vq and hybrid.
        commitment: Weight of the loss that keeps latents near their codes, vq and hybrid.
        dead_below: A code chosen less often than this share of an even use moves onto a latent of the batch, 0 for
            never; vq and hybrid. LAPA and CLAM's release replace codes too, by rules of their own.
        rest_dim: Of the latent, continuous, hybrid only.
        passes_on: What decoder and policy read: the `quantised` latent, as CLAM's release has it, or the latent
            `before` it was quantised, as LAPO's code has it, where only the forward model is given the quantised one.
    """

    kind: Literal["vq", "fsq", "hybrid"] = "vq"
    num_codes: int = 64
    num_codebooks: int = 2
    codes_per_codebook: int = 1
    levels: tuple[int, ...] = (8, 5, 5, 5)
    decay: float = 0.999
    commitment: float = 0.05
    dead_below: float = 0.05
    rest_dim: int = 4
    passes_on: Literal["quantised", "before"] = "quantised"

    def __post_init__(self) -> None:
        for name in ("num_codes", "num_codebooks", "codes_per_codebook", "rest_dim"):
            _require(getattr(self, name) >= 1, f"lam.quantiser.{name}", getattr(self, name), "give 1 or more")
        levels = self.levels
        _require(bool(levels) and min(levels) >= 3, "lam.quantiser.levels", levels, "give 3 or more a dimension")
        _require(0 < self.decay < 1, "lam.quantiser.decay", self.decay, "give a number between 0 and 1")
        _require(self.commitment >= 0, "lam.quantiser.commitment", self.commitment, "give 0 or more")
        _require(0 <= self.dead_below < 1, "lam.quantiser.dead_below", self.dead_below, "give 0 or more, below 1")


@dataclass(frozen=True)
class DecoderConfig:
    """The action decoder p(a|z): an embedding, then an MLP (table 11; 2.64 M parameters at these sizes)."""

    embedding_dim: int = 512
    hidden_dims: tuple[int, ...] = (1024, 1024, 1024)


@dataclass(frozen=True)
class LamConfig:
    """Stage 1: which networks, which latents, and how they are grounded. One network is named.

    Attributes:
        mlp: Frames side by side through an MLP; or
        transformer: frames as tokens; or
        space_time: patches of frames as tokens, for pictures; or
        impala: pictures through an IMPALA-CNN and a U-Net (MLP-CLAM and LAPO on pictures).
        latent_dim: Numbers of a latent action.
        quantiser: Discrete latents; None leaves them continuous.
        supervised: The inverse model names actions instead of latents and learns from labels alone, without a forward
            model (VPT).
        inputs: `change` shows the inverse model, beside every frame, the scaled change that led to it, and has the
            forward model predict the scaled change; `raw` shows and predicts frames alone.
        decoder: The action decoder.
        joint: Train it together with the latents (CLAM); False trains it afterwards, on frozen ones.
        action_weight: The decoder's loss against reconstruction, beta.
        prior_weight: Pull of the latents towards a standard normal, 0 for none (an open question of section 8).
        predicted_steps: Steps of the multi-step forward prediction, 1 for the paper's own (an open question).
    """

    mlp: MlpConfig | None = None
    transformer: TransformerConfig | None = None
    space_time: SpaceTimeConfig | None = None
    impala: ImpalaDynamicsConfig | None = None
    latent_dim: int = 16
    quantiser: QuantiserConfig | None = None
    supervised: bool = False
    inputs: Literal["raw", "change"] = "change"
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    joint: bool = True
    action_weight: float = 1.0
    prior_weight: float = 0.0
    predicted_steps: int = 1

    def __post_init__(self) -> None:
        networks = ("mlp", "transformer", "space_time", "impala")
        named = [name for name in networks if getattr(self, name) is not None]
        _require(len(named) == 1, "lam", named, f"name exactly one of {', '.join(networks)}")
        _require(self.latent_dim >= 1, "lam.latent_dim", self.latent_dim, "give 1 or more")
        for name in ("action_weight", "prior_weight"):
            _require(getattr(self, name) >= 0, f"lam.{name}", getattr(self, name), "give 0 or more")
        _require(self.predicted_steps >= 1, "lam.predicted_steps", self.predicted_steps, "give 1 or more")
        drawn = self.image_size is None or self.predicted_steps == 1
        _require(drawn, "lam.predicted_steps", self.predicted_steps, "give 1, pictures are predicted one step ahead")
        plain = not (self.supervised and (self.prior_weight or self.predicted_steps > 1))
        _require(
            plain, "lam.supervised", True, "leave out lam.prior_weight and lam.predicted_steps: there are no latents"
        )
        taught = self.joint or self.supervised or self.action_weight > 0
        _require(taught, "lam.action_weight", self.action_weight, "give more than 0: a decoder is trained by it alone")
        alone = self.quantiser is None or not (self.supervised or self.prior_weight)
        _require(alone, "lam.quantiser", self.quantiser, "leave it out beside lam.supervised or lam.prior_weight")

    @property
    def image_size(self) -> int | None:
        """Pixels a side of the pictures it looks at; None where it looks at states."""
        if self.space_time is not None:
            return self.space_time.image_size
        return None if self.impala is None else self.impala.encoder.image_size

    def head_dim(self, action_dim: int) -> int:
        """Numbers the inverse model gives a transition: a latent (with a prior, mean and log variance), or actions."""
        return action_dim if self.supervised else self.latent_dim * (2 if self.prior_weight else 1)

    def num_latents(self, context: int) -> int:
        """Transitions of a window with a latent, N."""
        return 1 if self.mlp is not None or self.impala is not None else context + 1


def _causal_transformer() -> TransformerConfig:
    return TransformerConfig(dropout=0.0, sees_later_latents=False)


@dataclass(frozen=True)
class EncoderConfig:
    """An embedding of one observation's state: an MLP, as CLAM's release has in the image encoder's place."""

    embedding_dim: int = 256
    hidden_dims: tuple[int, ...] = (256, 256)


@dataclass(frozen=True)
class DynamoConfig:
    """DynaMo: an encoder whose embeddings' dynamics are predictable (docs/clam_baselines.md).

    Attributes:
        encoder: What is wanted of it.
        transformer: Of the inverse and the forward model over embeddings, both causal.
        latent_dim: Numbers between them; its authors' recipes have 8 to 64.
        covariance_weight: Of the penalty on embeddings whose dimensions vary together.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    transformer: TransformerConfig = field(default_factory=_causal_transformer)
    latent_dim: int = 16
    covariance_weight: float = 0.04

    def __post_init__(self) -> None:
        _require(self.latent_dim >= 1, "encoder.latent_dim", self.latent_dim, "give 1 or more")
        weight = self.covariance_weight
        _require(weight >= 0, "encoder.covariance_weight", weight, "give 0 or more")
        later = self.transformer.sees_later_latents
        _require(not later, "encoder.transformer.sees_later_latents", later, "DynaMo is causal; give false")


@dataclass(frozen=True)
class PolicyConfig:
    """Stage 2: behaviour cloning of latent actions, or of actions where there is no stage 1 (table 10).

    An MLP on states, unless one of `impala`, `pretrained`, `chunk` is given.

    Attributes:
        target: What is imitated: `latent` actions that stage 1 sees in the demonstrations, or recorded `action`s.
        demonstrations: Which data they are taken from: `expert`, `labelled`, or all `unlabelled`. Recorded actions of
            `expert` are a privilege (BC-Expert).
        embedding_dim: Of the observation, for the MLP.
        hidden_dims: Of the MLP on top (section G.1).
        chunk_size: Actions the MLP predicts at once; 1 but for appendix F's robot.
        standardise: Latents are imitated in units of their own spread, so that no dimension of an unregularised
            latent outweighs the others; False imitates them as they are, as the paper does.
        impala: Pictures through an IMPALA-CNN that is learned with the policy (section G.1).
        pretrained: Pictures through the inverse model of stage 1 (section 3.2), as it is (`frozen`), or learning on
            with the policy (`tuned`).
        chunk: Appendix F's transformer in the MLP's place, with a chunk size of its own.
        frame_stack: Moments it looks at, up to the present one: 3 with pictures in Meta-World (table 14).
        state_columns: So many of the state's first columns are shown to it; None shows all. A policy of pictures must
            say: Meta-World's first 4 are the hand and its gripper, the others tell where the objects are.
    """

    target: Literal["latent", "action"] = "latent"
    demonstrations: Literal["expert", "labelled", "unlabelled"] = "expert"
    embedding_dim: int = 512
    hidden_dims: tuple[int, ...] = (1024, 1024)
    chunk_size: int = 1
    standardise: bool = True
    impala: ImpalaConfig | None = None
    pretrained: Literal["frozen", "tuned"] | None = None
    chunk: ChunkPolicyConfig | None = None
    frame_stack: int = 1
    state_columns: int | None = None

    def __post_init__(self) -> None:
        _require(self.chunk_size >= 1, "policy.chunk_size", self.chunk_size, "give 1 or more")
        _require(self.frame_stack >= 1, "policy.frame_stack", self.frame_stack, "give 1 or more")
        given = [name for name in ("impala", "pretrained", "chunk") if getattr(self, name) is not None]
        _require(len(given) <= 1, "policy", given, "name at most one of impala, pretrained, chunk")
        if self.chunk is not None:
            for name, default in (("chunk_size", 1), ("embedding_dim", 512), ("hidden_dims", (1024, 1024))):
                value, fix = getattr(self, name), f"`policy.chunk` has sizes of its own; leave this one at {default}"
                _require(value == default, f"policy.{name}", value, fix)
        latent = self.pretrained is None or self.target == "latent"
        _require(latent, "policy.pretrained", self.pretrained, "it needs stage 1, so `policy.target: latent`")
        said = self.state_columns is not None or (self.impala is None and self.pretrained is None)
        fix = "say how many of the state's columns it sees beside pictures, 0 for none"
        _require(said, "policy.state_columns", self.state_columns, fix)

    @property
    def horizon(self) -> int:
        """Actions predicted at once."""
        return self.chunk_size if self.chunk is None else self.chunk.chunk_size
