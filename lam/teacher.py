"""What labelling and health need of a teacher, whichever it is."""

from typing import Protocol

from torch import Tensor

from data_mixtures.batch import Batch


class LatentTeacher(Protocol):
    """Turns windows into latent action tokens.

    Attributes:
        fingerprint: changes whenever the same window could get another latent.
        num_frames: images it needs a window.
        horizon: frames the window spans.
        num_latents: tokens a window, scene tokens first.
        scene_tokens: how many of them are scene.
        latent_dim: values a token.
    """

    fingerprint: str
    num_frames: int
    horizon: int
    num_latents: int
    scene_tokens: int
    latent_dim: int

    def encode(self, batch: Batch) -> Tensor:
        """Latents float32 [B, num_latents, latent_dim] on CPU."""
        ...


class VisionTower(Protocol):
    """A frozen vision tower whose output is worth caching.

    Attributes:
        fingerprint: changes whenever the same image could get other features.
        num_tokens: P in the batch's legend.
        feature_width: F in the batch's legend.
    """

    fingerprint: str
    num_tokens: int
    feature_width: int

    def features(self, images: Tensor) -> Tensor:
        """Images uint8 [N, 3, H, W] -> features float16 [N, P, F] on CPU."""
        ...
