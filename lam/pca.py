"""The control teacher: principal components of (future frame - current frame), and no model at all.

A small prototype saw it do as well as a label-free latent action model (demo.md), so it belongs beside every LAM.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from data_mixtures.batch import Batch
from data_mixtures.mixture import Mixture


class PcaTeacher:
    """Gives a window's change of the main camera as latent tokens (see `lam.teacher.LatentTeacher`).

    The leading components are rotated at random onto all tokens and values and scaled by one number to unit variance.
    A rotation keeps distances, so the squared error of a student is that of the components themselves, while every
    token and every value carries an equal share (a softmax over values needs that).

    Args:
        mean: [pixels], the average change.
        basis: [pixels, num_latents * latent_dim], components times rotation times scale.
        num_frames: Images a window.
        horizon: Frames a window spans.
        scene_tokens: The first so many tokens are called scene; there is no difference here.
        latent_dim: Values a token.
    """

    def __init__(
        self, mean: Tensor, basis: Tensor, num_frames: int, horizon: int, scene_tokens: int, latent_dim: int
    ) -> None:
        self.mean, self.basis = mean, basis
        self.num_frames, self.horizon = num_frames, horizon
        self.num_latents, self.scene_tokens, self.latent_dim = basis.shape[1] // latent_dim, scene_tokens, latent_dim
        digest = hashlib.sha256(repr((num_frames, horizon, scene_tokens, latent_dim)).encode())
        digest.update(mean.numpy().tobytes() + basis.numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    @classmethod
    def fit(
        cls,
        mixture: Mixture,
        num_latents: int,
        scene_tokens: int,
        latent_dim: int,
        num_windows: int = 2048,
        seed: int = 0,
    ) -> "PcaTeacher":
        """From `num_windows` windows spread evenly over the mixture, or all of them where there are fewer."""
        rows = torch.from_numpy(mixture.spread(num_windows))
        changes = torch.cat([_change(mixture.batch_at(part.tolist())) for part in rows.split(256)])
        mean = changes.mean(0)
        centred = changes - mean
        wanted = num_latents * latent_dim
        components = _components(centred, wanted)
        generator = torch.Generator().manual_seed(seed)
        rotation = torch.linalg.qr(torch.randn(wanted, wanted, generator=generator)).Q[: components.shape[1]]
        basis = components @ rotation
        basis = basis / (centred @ basis).square().mean().sqrt().clamp(min=1e-6)
        window = mixture.config.window
        return cls(mean, basis.contiguous(), window.frames, window.horizon, scene_tokens, latent_dim)

    def encode(self, batch: Batch) -> Tensor:
        """Latents float32 [B, num_latents, latent_dim]."""
        return ((_change(batch) - self.mean) @ self.basis).unflatten(1, (self.num_latents, self.latent_dim))

    def save(self, folder: Path) -> None:
        """Write pca.safetensors and pca.json."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"mean": self.mean, "basis": self.basis}, folder / "pca.safetensors")
        names = ("num_frames", "horizon", "scene_tokens", "latent_dim")
        (folder / "pca.json").write_text(json.dumps({name: getattr(self, name) for name in names}, indent=2))

    @classmethod
    def load(cls, folder: Path) -> "PcaTeacher":
        """Read what `save` wrote."""
        if not (folder / "pca.json").is_file():
            raise ValueError(f"{folder} holds no pca.json: fit the PCA teacher first")
        arrays = load_file(folder / "pca.safetensors")
        return cls(arrays["mean"], arrays["basis"], **json.loads((folder / "pca.json").read_text()))


def _change(batch: Batch) -> Tensor:
    """Future minus current frame of the main camera, float32 [B, 3 * H * W] in [-1, 1]."""
    frames = batch.images[:, :, 0].float() / 255.0
    return (frames[:, -1] - frames[:, 0]).flatten(1)


def _components(centred: Tensor, count: int) -> Tensor:
    """Orthonormal leading components [pixels, <= count] of centred rows [N, pixels], through the N x N products."""
    values, vectors = torch.linalg.eigh(centred.double() @ centred.double().T)
    keep = values.flip(0)[:count] > 1e-9 * values[-1]
    values, vectors = values.flip(0)[:count][keep], vectors.flip(1)[:, :count][:, keep]
    return (centred.double().T @ (vectors / values.sqrt())).float()
