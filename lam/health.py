"""Is a latent action model alive? Reconstruction, spread and rank of its latents, probes, and a swap test.

reconstruction   error of the predicted future frame over that of copying the current one, on held-out windows:
`ratio_mean` from one Euler step (the posterior mean), `ratio_sample` from several
latents          scene / motion: variance, its share of the mean square, effective rank
probes           R^2 of a linear map to the true actions, from motion, scene and both, on windows not fitted on
swap             motion tokens of another window with this window's current frame and scene tokens
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from data_mixtures.batch import Batch
from data_mixtures.mixture import Mixture
from lam.latbot.autoencoder import to_codec_frames, to_uint8
from lam.latbot.stage import LatBotStage
from lam.probes import effective_rank, relative_variance, ridge_r2

_STILL = 8 / 255  # a pixel that changes by less is background (video compression alone moves it by 2 or 3)
Run = Callable[..., dict[str, Tensor]]


@dataclass(frozen=True)
class HealthConfig:
    """How much is looked at.

    Attributes:
        num_windows: windows, spread evenly over the mixture.
        num_steps: Euler steps of the sampled reconstruction.
        num_pictures: windows shown.
        batch_size: windows a call.
        lowest_rank: a table of tokens with a lower effective rank has collapsed.
        lowest_variance: so has one whose variance is a smaller share of its mean square.
    """

    num_windows: int = 256
    num_steps: int = 8
    num_pictures: int = 8
    batch_size: int = 64
    lowest_rank: float = 1.5
    lowest_variance: float = 1e-4


@dataclass(frozen=True)
class Pictures:
    """Windows to look at: uint8 [n, H, W, 3] each, and a caption each."""

    current: np.ndarray
    predicted: np.ndarray
    true: np.ndarray
    swapped: np.ndarray
    captions: list[str]

    def save(self, path: Path) -> None:
        """Write an npz (no pickles), atomically."""
        aside = path.with_name(f".{path.stem}.partial.npz")
        arrays = {name: getattr(self, name) for name in ("current", "predicted", "true", "swapped")}
        np.savez_compressed(aside, **arrays, captions=np.array(self.captions, dtype=np.str_))
        os.replace(aside, path)


@dataclass(frozen=True)
class _Seen:
    """What one pass over the windows gives; frames float [N, 3, H, W] in [-1, 1], actions unnormalised.

    `donor_change` is the change predicted for the window whose motion tokens `swapped` was drawn with, and
    `still_in_both` bool [N, H, W] the pixels that change in neither.
    """

    latents: Tensor
    current: Tensor
    future: Tensor
    mean: Tensor
    sample: Tensor
    swapped: Tensor
    donor_change: Tensor
    still_in_both: Tensor
    actions: Tensor
    action_mask: Tensor
    captions: list[str]


@torch.no_grad()
def measure(
    stage: LatBotStage, module: nn.Module, mixture: Mixture, config: HealthConfig | None = None
) -> tuple[dict[str, float], Pictures]:
    """All of the health figures over windows of a mixture the teacher was not trained on.

    Args:
        stage: The teacher's stage.
        module: Its module, wrapped or not; only called.
        mixture: Held-out windows with labels, the window and cameras of the training mixture.
        config: How much to look at.

    Returns:
        Named figures (see the top of this file), and pictures.
    """
    config = config or HealthConfig()
    rows = torch.linspace(0, mixture.num_frames - 1, min(config.num_windows, mixture.num_frames)).round().long()
    parts = [
        _look(stage, cast(Run, module), mixture.batch_at(part.tolist()), config.num_steps)
        for part in rows.split(config.batch_size)
    ]
    seen = _Seen(
        *(torch.cat([getattr(p, name) for p in parts]) for name in list(_Seen.__dataclass_fields__)[:-1]),
        captions=[caption for p in parts for caption in p.captions],
    )
    scene, motion = seen.latents.split([stage.config.scene_tokens, stage.config.motion_tokens], dim=1)
    figures = {
        **_reconstruction(seen),
        **_spread("scene", scene),
        **_spread("motion", motion),
        **_probes(scene, motion, seen.actions, seen.action_mask),
        **_swap(seen),
    }
    return figures, _pictures(seen, config.num_pictures)


def check_alive(figures: dict[str, float], config: HealthConfig | None = None) -> None:
    """Raise ValueError if the latents have collapsed."""
    config = config or HealthConfig()
    for part in ("scene", "motion"):
        rank, variance = figures[f"{part}/effective_rank"], figures[f"{part}/relative_variance"]
        if not (rank >= config.lowest_rank and variance >= config.lowest_variance):
            raise ValueError(
                f"the teacher's {part} tokens have collapsed: effective rank {rank:.2f} (at least "
                f"{config.lowest_rank}), variance {variance:.1e} of their mean square (at least "
                f"{config.lowest_variance:.0e}). They say next to nothing about the window. Train longer, lower the "
                "learning rate, or raise latent_width or query_std"
            )


def write_health(
    folder: Path, stage: LatBotStage, module: nn.Module, mixture: Mixture, config: HealthConfig | None = None
) -> dict[str, float]:
    """`measure`, then health.json and pictures.npz in `folder`, then `check_alive`."""
    figures, pictures = measure(stage, module, mixture, config)
    folder.mkdir(parents=True, exist_ok=True)
    pictures.save(folder / "pictures.npz")
    aside = folder / ".health.json.partial"
    aside.write_text(json.dumps(figures, indent=2) + "\n")
    os.replace(aside, folder / "health.json")
    check_alive(figures, config)
    return figures


class HealthEvaluator:
    """The same figures during training (see `vla.train.stage.Evaluator`); a collapse stops the run."""

    def __init__(
        self, stage: LatBotStage, mixture: Mixture, config: HealthConfig | None = None, stop_on_collapse: bool = False
    ) -> None:
        self.stage, self.mixture, self.config = stage, mixture, config or HealthConfig()
        self.stop_on_collapse = stop_on_collapse

    def run(self, module: nn.Module) -> Iterator[tuple[str, float]]:
        """Yield ("health/...", value)."""
        figures, _ = measure(self.stage, module, self.mixture, self.config)
        for name, value in figures.items():
            yield f"health/{name}", value
        if self.stop_on_collapse:
            check_alive(figures, self.config)


def _look(stage: LatBotStage, run: Run, batch: Batch, num_steps: int) -> _Seen:
    codec, scene_tokens = stage.config.codec, stage.config.scene_tokens
    encoded = run(stage.encoding_inputs(batch), "encode")
    latents = torch.cat([encoded["scene"], encoded["motion"]], dim=1)

    def sample(z: Tensor, steps: int) -> Tensor:
        return run(stage.sampling_inputs(batch, z), "sample", steps)["frame"].float()

    # Half a batch away is another episode more often than not; scene tokens and current frame stay.
    half = max(1, len(latents) // 2)
    swapped = torch.cat([latents[:, :scene_tokens], latents.roll(half, dims=0)[:, scene_tokens:]], dim=1)
    current, future = (to_codec_frames(batch.images[:, index, 0], codec) for index in (0, -1))
    mean = sample(latents, 1)
    still = ((future - current).abs() < 2 * _STILL).all(dim=1)
    return _Seen(
        latents,
        current,
        future,
        mean,
        sample(latents, num_steps),
        sample(swapped, 1),
        (mean - current).roll(half, dims=0),
        still & still.roll(half, dims=0),
        batch.actions,
        batch.action_mask,
        batch.instruction,
    )


def _reconstruction(seen: _Seen) -> dict[str, float]:
    # Squared error on the [0, 1] scale, so that it can be compared across codecs.
    copy, mean, sample = (
        float(((frames.clamp(-1, 1) - seen.future) / 2).square().mean())
        for frames in (seen.current, seen.mean, seen.sample)
    )
    floor = max(copy, 1e-12)
    return {
        "reconstruction/copy_error": copy,
        "reconstruction/mean_error": mean,
        "reconstruction/sample_error": sample,
        "reconstruction/ratio_mean": mean / floor,
        "reconstruction/ratio_sample": sample / floor,
    }


def _spread(part: str, latents: Tensor) -> dict[str, float]:
    flat = latents.flatten(1)
    per_dimension = flat.var(dim=0, correction=0)
    return {
        f"{part}/variance_mean": float(per_dimension.mean()),
        f"{part}/variance_min": float(per_dimension.min()),
        f"{part}/relative_variance": relative_variance(flat),
        f"{part}/effective_rank": effective_rank(flat),
        f"{part}/num_values": float(flat.shape[1]),
    }


def _probes(scene: Tensor, motion: Tensor, actions: Tensor, mask: Tensor) -> dict[str, float]:
    """Probes to the actions every window has, over windows that lie inside their episode."""
    whole = mask.any(dim=2).all(dim=1)
    dims = mask[whole].all(dim=0).all(dim=0)
    if whole.sum() < 32 or not dims.any():
        return {}  # video only: nothing to probe for
    target = actions[whole][:, :, dims].flatten(1)
    parts = {"motion": motion, "scene": scene, "both": torch.cat([scene, motion], dim=1)}
    return {f"probe/{name}_r2": ridge_r2(part[whole].flatten(1), target) for name, part in parts.items()}


def _swap(seen: _Seen) -> dict[str, float]:
    """What another window's motion tokens do to the predicted change.

    `moves_like_donor`: share of windows whose swapped change lies closer (cosine) to the change predicted for the
    tokens' owner than to their own. `background_kept`: share of pixels still in both windows that the swap left as
    they were.
    """
    own, swapped = seen.mean - seen.current, seen.swapped - seen.current
    closer = _cosine(swapped, seen.donor_change) > _cosine(swapped, own)
    kept = (swapped.abs() < 2 * _STILL).all(dim=1) & seen.still_in_both
    return {
        "swap/moves_like_donor": float(closer.float().mean()),
        "swap/background_kept": float(kept.sum() / seen.still_in_both.sum().clamp(min=1)),
    }


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    return torch.cosine_similarity(one.flatten(1), other.flatten(1), dim=1)


def _pictures(seen: _Seen, count: int) -> Pictures:
    """The windows that change most, one from every stretch of the mixture, so that there is something to see."""
    change = (seen.future - seen.current).square().mean(dim=(1, 2, 3))
    parts = torch.arange(len(change)).tensor_split(min(count, len(change)))
    rows = torch.stack([part[change[part].argmax()] for part in parts])
    frames = (seen.current, seen.mean, seen.future, seen.swapped)
    arrays = [to_uint8(f[rows]).permute(0, 2, 3, 1).cpu().numpy() for f in frames]
    return Pictures(*arrays, captions=[seen.captions[row] for row in rows.tolist()])
