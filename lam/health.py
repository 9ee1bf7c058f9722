"""Is a latent action model alive? Reconstruction, spread and rank of its latents, probes, and a swap test.

- reconstruction: error of the predicted future frame over that of copying the current one, on held-out windows:
  `..._one_step` from one Euler step (the posterior mean), `..._sampled` from several.
- spread, of scene and of motion tokens: variance, its share of the mean square, effective rank.
- probes: R^2 of a linear map to the true actions (summed over each quarter of the window: what the robot did there,
  0 once the episode is over), from motion, scene and both, on windows not fitted on.
- swap: motion (or scene) tokens of another window with all else of this one.
- actions: error of the normalised actions that the teacher itself decodes, over that of always giving their mean:
  `flow_action_error` from one Euler step of the unified decoder, `grounded_action_error` from the action decoder.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from data_mixtures.batch import Batch
from data_mixtures.mixture import Mixture
from data_mixtures.storage.whole_file import write_whole
from lam.latbot.autoencoder import to_codec_frames, to_uint8
from lam.latbot.stage import LatBotStage
from lam.probes import effective_rank, relative_variance, ridge_r2

# On the [-1, 1] scale: a pixel that changes by less than 8 of 255 is background; video compression moves it by 2 or 3.
_STILL = 2 * 8 / 255
_FEWEST_LABELLED = 32
Run = Callable[..., dict[str, Tensor]]


@dataclass(frozen=True)
class HealthConfig:
    """How much is looked at.

    Attributes:
        num_windows: windows that are reconstructed, spread evenly over the mixture.
        num_probe_windows: windows that are encoded, for spread and probes: many, since a probe has many weights.
        num_steps: Euler steps of the sampled reconstruction.
        num_pictures: windows shown.
        batch_size: windows a call.
        lowest_rank: a table of tokens with a lower effective rank has collapsed.
        lowest_variance: so has one whose variance is a smaller share of its mean square.
    """

    num_windows: int = 256
    num_probe_windows: int = 1024
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
        file = BytesIO()
        arrays = {name: getattr(self, name) for name in ("current", "predicted", "true", "swapped")}
        np.savez_compressed(file, **arrays, captions=np.array(self.captions, dtype=np.str_))
        write_whole(path, file.getvalue())


@dataclass(frozen=True)
class _Encoded:
    """Latents of many windows, and the actions they should tell.

    `grounded` float32 [N, S, 44]: the normalised actions an action decoder reads from them; S is 0 without one.
    """

    scene: Tensor
    motion: Tensor
    actions: Tensor
    action_mask: Tensor
    grounded: Tensor


@dataclass(frozen=True)
class _Drawn:
    """Frames of fewer windows, float [N, 3, H, W] in [-1, 1].

    `mean` and `sample` are predictions from the window's own latents; `motion_swapped` and `scene_swapped` have that
    part from a donor, whose own predicted change is `donor_change`. `still_in_both` bool [N, H, W] marks the pixels
    that change in neither window. `actions` [N, S, 44] are normalised, drawn with `mean`.
    """

    current: Tensor
    future: Tensor
    mean: Tensor
    sample: Tensor
    motion_swapped: Tensor
    scene_swapped: Tensor
    donor_change: Tensor
    still_in_both: Tensor
    actions: Tensor


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
    run = cast(Run, module)
    encoded = _joined(
        [_encode(stage, run, batch) for batch in _batches(mixture, config.num_probe_windows, config.batch_size)]
    )
    batches = list(_batches(mixture, config.num_windows, config.batch_size))
    drawn = _joined([_draw(stage, run, batch, config.num_steps) for batch in batches])
    figures = {
        **_reconstruction(drawn),
        **_spread("scene", encoded.scene),
        **_spread("motion", encoded.motion),
        **_probes(encoded),
        **_swap(drawn),
        **_decoded(stage, encoded, drawn, batches),
    }
    captions = [caption for batch in batches for caption in batch.instruction]
    return figures, _pictures(drawn, captions, config.num_pictures)


def _batches(mixture: Mixture, count: int, batch_size: int) -> Iterator[Batch]:
    """At most `count` windows, spread evenly over the mixture."""
    rows = torch.from_numpy(mixture.spread(count))
    return (mixture.batch_at(part.tolist()) for part in rows.split(batch_size))


Part = TypeVar("Part", _Encoded, _Drawn)


def _joined(parts: list[Part]) -> Part:
    return type(parts[0])(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(parts[0])))


def check_alive(figures: dict[str, float], config: HealthConfig | None = None) -> None:
    """Raise ValueError if the latents have collapsed."""
    config = config or HealthConfig()
    for part in ("scene", "motion"):
        rank, variance = figures[f"effective_rank_{part}"], figures[f"relative_variance_{part}"]
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
    write_whole(folder / "health.json", json.dumps(figures, indent=2) + "\n")
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


def _encode(stage: LatBotStage, run: Run, batch: Batch) -> _Encoded:
    latents = run(stage.encoding_inputs(batch), "encode")
    grounded = latents.get("actions", batch.actions[:, :0])
    return _Encoded(latents["scene"].float(), latents["motion"].float(), batch.actions, batch.action_mask, grounded)


def _draw(stage: LatBotStage, run: Run, batch: Batch, num_steps: int) -> _Drawn:
    def both(scene: Tensor, motion: Tensor, steps: int = 1) -> tuple[Tensor, Tensor]:
        drawn = run(stage.sampling_inputs(batch, torch.cat([scene, motion], dim=1)), "sample", steps)
        return drawn["frame"].float(), drawn["actions"].float()

    def sample(scene: Tensor, motion: Tensor, steps: int = 1) -> Tensor:
        return both(scene, motion, steps)[0]

    own = _encode(stage, run, batch)
    # Half a batch away is another episode more often than not.
    half = max(1, len(batch) // 2)
    current, future = (to_codec_frames(batch.images[:, index, 0], stage.config.codec) for index in (0, -1))
    mean, actions = both(own.scene, own.motion)
    still = ((future - current).abs() < _STILL).all(dim=1)
    return _Drawn(
        current,
        future,
        mean,
        sample(own.scene, own.motion, num_steps),
        sample(own.scene, own.motion.roll(half, dims=0)),
        sample(own.scene.roll(half, dims=0), own.motion),
        (mean - current).roll(half, dims=0),
        still & still.roll(half, dims=0),
        actions,
    )


def _reconstruction(seen: _Drawn) -> dict[str, float]:
    # Squared error on the [0, 1] scale, so that it can be compared across codecs.
    copy, mean, sample = (
        float(((frames.clamp(-1, 1) - seen.future) / 2).square().mean())
        for frames in (seen.current, seen.mean, seen.sample)
    )
    floor = max(copy, 1e-12)
    return {
        "copy_error": copy,
        "one_step_error": mean,
        "sampled_error": sample,
        "reconstruction_ratio_one_step": mean / floor,
        "reconstruction_ratio_sampled": sample / floor,
    }


def _spread(part: str, latents: Tensor) -> dict[str, float]:
    flat = latents.flatten(1)
    per_dimension = flat.var(dim=0, correction=0)
    return {
        f"variance_{part}": float(per_dimension.mean()),
        f"variance_min_{part}": float(per_dimension.min()),
        f"relative_variance_{part}": relative_variance(flat),
        f"effective_rank_{part}": effective_rank(flat),
        f"num_values_{part}": float(flat.shape[1]),
    }


def _probes(encoded: _Encoded) -> dict[str, float]:
    dims = encoded.action_mask.flatten(0, 1).any(dim=0)
    seen = encoded.action_mask.flatten(1).any(dim=1)
    if seen.sum() < _FEWEST_LABELLED:
        return {}  # video only: nothing to probe for
    done = (encoded.actions * encoded.action_mask)[seen][:, :, dims]
    target = torch.stack([part.sum(dim=1) for part in done.tensor_split(4, dim=1)], dim=1).flatten(1)
    scene, motion = encoded.scene[seen].flatten(1), encoded.motion[seen].flatten(1)
    parts = {"motion": motion, "scene": scene, "both": torch.cat([scene, motion], dim=1)}
    return {f"probe_r2_{name}": ridge_r2(part, target) for name, part in parts.items()}


def _decoded(stage: LatBotStage, encoded: _Encoded, drawn: _Drawn, batches: list[Batch]) -> dict[str, float]:
    """What the teacher's own decoders make of held-out actions; nothing for one that was not trained."""
    figures: dict[str, float] = {}
    if stage.config.grounding is not None:
        figures |= _action_error(stage, "grounded", encoded.grounded, encoded.actions, encoded.action_mask)
    if stage.config.flow.action_weight > 0:
        actions, mask = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("actions", "action_mask"))
        figures |= _action_error(stage, "flow", drawn.actions, actions, mask)
    return figures


def _action_error(stage: LatBotStage, name: str, found: Tensor, actions: Tensor, mask: Tensor) -> dict[str, float]:
    """Squared error of `found` [N, S, 44] over that of the mean of every dimension; {} where there are no labels."""
    if mask.flatten(1).any(dim=1).sum() < _FEWEST_LABELLED:
        return {}
    true = stage.normalisation.normalise_action(actions) * mask
    mean = true.sum(dim=(0, 1)) / mask.sum(dim=(0, 1)).clamp(min=1)
    error, spread = (((guess - true) * mask).square().sum() for guess in (found, mean))
    return {f"{name}_action_error": float(error / spread.clamp(min=1e-12))}


def _swap(seen: _Drawn) -> dict[str, float]:
    """What a donor's tokens do to the predicted change.

    `moves_like_donor_<part>`: share of windows whose change, drawn with that part from the donor, lies closer (cosine)
    to the change predicted for the donor than to their own. `background_kept`: share of pixels still in both windows
    that the motion swap left as they were.
    """
    own, swapped = seen.mean - seen.current, seen.motion_swapped - seen.current
    kept = (swapped.abs() < _STILL).all(dim=1) & seen.still_in_both
    return {
        "swap_moves_like_donor_motion": _nearer_donor(swapped, own, seen.donor_change),
        "swap_moves_like_donor_scene": _nearer_donor(seen.scene_swapped - seen.current, own, seen.donor_change),
        "swap_background_kept": float(kept.sum() / seen.still_in_both.sum().clamp(min=1)),
    }


def _nearer_donor(swapped: Tensor, own: Tensor, donor: Tensor) -> float:
    return float((_cosine(swapped, donor) > _cosine(swapped, own)).float().mean())


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    return torch.cosine_similarity(one.flatten(1), other.flatten(1), dim=1)


def _pictures(seen: _Drawn, captions: list[str], count: int) -> Pictures:
    """The windows that change most, one from every stretch of the mixture, so that there is something to see."""
    change = (seen.future - seen.current).square().mean(dim=(1, 2, 3))
    parts = torch.arange(len(change)).tensor_split(min(count, len(change)))
    rows = torch.stack([part[change[part].argmax()] for part in parts])
    frames = (seen.current, seen.mean, seen.future, seen.motion_swapped)
    arrays = [to_uint8(f[rows]).permute(0, 2, 3, 1).cpu().numpy() for f in frames]
    return Pictures(*arrays, captions=[captions[row] for row in rows.tolist()])
