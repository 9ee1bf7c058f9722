"""The latent action model: inverse model, latents, forward model, action decoder (figure 1).

    o_{t-H} .. o_{t+1} ─► inverse ─► z_{t-N+1} .. z_t ─┬─► quantiser, where latents are discrete
                                                       ├─► forward (o_{t-H} .. o_t, z) ─► o_{t-N+2} .. o_{t+1}
                                                       └─► decoder ─► a_{t-N+1} .. a_t, on labelled windows

B windows, N transitions with a latent (1 for MLPs and convolutions, H + 1 for transformers), S state and A action
dimensions. An observation o is a state, or with `space_time` and `impala` a picture of C channels, H x W.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lam.clam.config import LamConfig
from lam.clam.decoder import ActionDecoder
from lam.clam.frames import Frames, pixels
from lam.clam.networks.impala_dynamics import ImpalaForward, ImpalaInverse
from lam.clam.networks.mlp import MlpForward, MlpInverse
from lam.clam.networks.space_time import SpaceTimeForward, SpaceTimeInverse
from lam.clam.networks.transformer import TransformerForward, TransformerInverse
from lam.clam.quantise import quantiser
from lam.clam.standard import Standard


@dataclass(frozen=True)
class Sizes:
    """What the data decide.

    Attributes:
        state_columns: Of the 46, those there are.
        action_columns: Of the 44, those there are.
        context: H.
        cameras: Pictures a frame.
        image_size: Pixels a side.
    """

    state_columns: list[int]
    action_columns: list[int]
    context: int
    cameras: int = 0
    image_size: int = 0


class Latents(NamedTuple):
    """What the inverse model says of B windows.

    Attributes:
        values: float32 [B, N, z], quantised where latents are discrete; what the forward model reads.
        passed_on: float32 [B, N, z], what the decoder and the policy read: `values`, or what was quantised.
        codes: int64 [B, N, G], or None where they are continuous.
        loss: float32 [B], what quantisation or the prior asks for; 0 without.
    """

    values: Tensor
    passed_on: Tensor
    codes: Tensor | None
    loss: Tensor

    def first(self, count: int) -> "Latents":
        """Of the first so many windows."""
        return Latents(*(None if part is None else part[:count] for part in self))  # type: ignore[arg-type]


class Windows(NamedTuple):
    """What the model reads of a Batch; see its legend.

    Attributes:
        states: float32 [B, H + 1 + F, 46], F future frames.
        actions: float32 [B, H + F, 44].
        action_mask: bool [B, H + F, 44].
        steps_mask: bool [B, H + F].
        sample_ids: int64 [B].
        num_unlabelled: The first so many windows are reconstructed, the others ground the decoder.
        images: uint8 [B, H + 1 + F, cameras, 3, H, W]; without cameras none are read.
    """

    states: Tensor
    actions: Tensor
    action_mask: Tensor
    steps_mask: Tensor
    sample_ids: Tensor
    num_unlabelled: int
    images: Tensor

    def first(self, count: int) -> "Windows":
        """The first so many."""
        parts = [part[:count] if isinstance(part, Tensor) else min(count, part) for part in self]
        return Windows(*parts)  # type: ignore[arg-type]


def inverse_model(config: LamConfig, sizes: Sizes, head_dim: int) -> nn.Module:
    """The network that names latents, by what the recipe names."""
    of, context = _shown_dim(config, sizes), sizes.context
    if config.transformer is not None:
        return TransformerInverse(of, head_dim, context, config.transformer)
    if config.space_time is not None:
        return SpaceTimeInverse(of, head_dim, context, config.space_time)
    if config.impala is not None:
        return ImpalaInverse(of, head_dim, context, config.impala)
    assert config.mlp is not None
    return MlpInverse(of, head_dim, context, config.mlp)


def _forward_model(config: LamConfig, sizes: Sizes) -> nn.Module:
    of, z, context = _shown_dim(config, sizes), config.latent_dim, sizes.context
    if config.transformer is not None:
        return TransformerForward(of, z, len(sizes.state_columns), context, config.transformer)
    num_pixels = 3 * sizes.cameras * sizes.image_size**2
    if config.space_time is not None:
        return SpaceTimeForward(of, z, num_pixels, context, config.space_time)
    if config.impala is not None:
        return ImpalaForward(of, z, num_pixels, context, config.impala)
    assert config.mlp is not None
    return MlpForward(of, z, len(sizes.state_columns), context, config.mlp)


def _shown_dim(config: LamConfig, sizes: Sizes) -> int:
    """Numbers of a state, or channels of a picture, with the changes beside them."""
    observed = len(sizes.state_columns) if config.image_size is None else 3 * sizes.cameras
    return observed * (2 if config.inputs == "change" else 1)


def shown(config: LamConfig, standard: Standard, states: Tensor, images: Tensor) -> Frames:
    """What the networks see of states [B, T, 46] and pictures uint8 [B, T, cameras, 3, H, W].

    `inputs: change` shows, beside every state or picture, the scaled change that led to it; the first frame's is 0.
    Beside a picture `space_time` sees the state's first columns.
    """
    state = standard.states(states)
    if config.image_size is None:
        return Frames(_with_changes(state, standard.changes(states), -1) if config.inputs == "change" else state)
    image = pixels(images)
    if config.inputs == "change":
        image = _with_changes(image, image.diff(dim=1) / standard.picture_change, 2)
    columns = 0 if config.space_time is None else config.space_time.state_columns
    return Frames(state[..., :columns] if columns else None, image)


def _with_changes(values: Tensor, changes: Tensor, dim: int) -> Tensor:
    led_to = torch.cat([torch.zeros_like(values[:, :1]), changes], dim=1)
    return torch.cat([values, led_to], dim=dim)


class LatentActionModel(nn.Module):
    """See the head of this file.

    Args:
        config: Networks, latents, decoder.
        sizes: What the data decide.
    """

    def __init__(self, config: LamConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        _check_pictures(config, sizes)
        self.standard = Standard(sizes.state_columns, sizes.action_columns, pictures=sizes.cameras > 0)
        action_dim = len(sizes.action_columns)
        self.inverse = inverse_model(config, sizes, config.head_dim(action_dim))
        self.forward_model = None if config.supervised else _forward_model(config, sizes)
        self.quantiser = None if config.quantiser is None else quantiser(config.latent_dim, config.quantiser)
        self.decoder = None if config.supervised else ActionDecoder(config.latent_dim, action_dim, config.decoder)

    def frames(self, states: Float[Tensor, "batch T 46"], images: Tensor) -> Frames:
        """See `shown`."""
        return shown(self.config, self.standard, states, images)

    def infer(self, frames: Frames, sample_ids: Int[Tensor, " batch"], noise: Tensor | None = None) -> Latents:
        """Latents of windows of H + 2 frames.

        Args:
            frames: As `frames` makes them.
            sample_ids: What draws depend on.
            noise: float32 [B, N, z], how far from its mean a latent with a prior is drawn; None takes the mean.
        """
        out = self.inverse(frames)
        nothing = out.new_zeros(len(out))
        if self.config.supervised:
            return Latents(torch.tanh(out), torch.tanh(out), None, nothing)
        if self.config.prior_weight:
            mean, log_variance = out.chunk(2, dim=-1)
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean(-1)
            drawn = mean if noise is None else mean + (0.5 * log_variance).exp() * noise
            return Latents(drawn, drawn, None, self.config.prior_weight * divergence)
        if self.quantiser is None:
            return Latents(out, out, None, nothing)
        assert self.config.quantiser is not None
        quantised, codes, loss = self.quantiser(out, sample_ids)
        return Latents(quantised, out if self.config.quantiser.passes_on == "before" else quantised, codes, loss)

    def predicted(self, frames: Frames, latents: Tensor) -> Float[Tensor, "batch N S"]:
        """The forward model's words on the frames after each of the last N: scaled changes, or what is there (`raw`).

        Of a picture they are its pixels laid flat, S = C H W.
        """
        assert self.forward_model is not None
        return self.forward_model(frames, latents)

    def actions(self, latents: Float[Tensor, "*batch z"]) -> Float[Tensor, "*batch A"]:
        """Actions in [-1, 1] that latents stand for."""
        return latents if self.decoder is None else self.decoder(latents)

    def forward(self, windows: Windows, noise: Tensor | None = None) -> dict[str, Tensor]:
        """Per-sample errors.

        Returns:
            Of the unlabelled windows [U]: `reconstruction`, `copy` (what predicting no change would err by) and
            `latent_loss`; of the labelled ones [L]: `action`, if there are any; else `idle`, a 0 that reaches the
            decoder, so that every parameter has a gradient in every update, as DDP asks.
        """
        context, count = self.sizes.context, windows.num_unlabelled
        frames = self.frames(windows.states, windows.images)
        latents = self.infer(frames[: context + 2], windows.sample_ids, noise)
        found: dict[str, Tensor] = {}
        if count:
            of = windows.first(count), latents.first(count)
            pictures = self.config.image_size is not None
            found |= self._picture_errors(*of, frames.first(count)) if pictures else self._reconstruction(*of)
        if count < len(windows.states):
            found["action"] = self._action_error(windows, latents.passed_on, count)
        elif self.decoder is not None and self.config.joint:
            found["idle"] = 0 * self.decoder(latents.values[:1]).sum()
        return found

    def _reconstruction(self, windows: Windows, latents: Latents) -> dict[str, Tensor]:
        """Errors [U] of the frames after each transition, the mean over `predicted_steps` of them."""
        context, steps = self.sizes.context, self.config.predicted_steps
        errors, copies, loss = [], [], latents.loss
        seen = windows.states
        for ahead in range(steps):
            span = slice(ahead, ahead + context + 2)
            if ahead:
                later = self.infer(self.frames(windows.states[:, span], windows.images), windows.sample_ids)
                latents, loss = later, loss + later.loss
            window = seen[:, span]
            prediction = self.predicted(self.frames(window[:, : context + 1], windows.images), latents.values)
            count = prediction.shape[1]
            target = self._target(windows.states[:, span])[:, -count:]
            mask = windows.steps_mask[:, ahead : ahead + context + 1][:, -count:, None]
            errors.append(_masked_mean((prediction - target).square(), mask))
            copies.append(_masked_mean((self._unchanged(window)[:, -count:] - target).square(), mask))
            if ahead + 1 < steps:
                seen = self._with_prediction(seen, ahead + context + 1, prediction[:, -1])
        return {
            "reconstruction": torch.stack(errors).mean(0),
            "copy": torch.stack(copies).mean(0),
            "latent_loss": loss / steps,
        }

    def _picture_errors(self, windows: Windows, latents: Latents, frames: Frames) -> dict[str, Tensor]:
        """Errors [U] of the picture after each transition; `copy` is table 9's cheat loss, of the one before it."""
        assert frames.image is not None
        prediction = self.predicted(frames[: self.sizes.context + 1], latents.values)
        count = prediction.shape[1]
        seen = frames.image[:, -count - 1 :]
        channels = 3 * self.sizes.cameras
        if self.config.inputs == "raw":
            target, unchanged = seen[:, 1:].flatten(2), seen[:, :-1].flatten(2)
        else:
            target = seen[:, 1:, channels:].flatten(2)
            unchanged = torch.zeros_like(target)
        mask = windows.steps_mask[:, -count:, None]
        return {
            "reconstruction": _masked_mean((prediction - target).square(), mask),
            "copy": _masked_mean((unchanged - target).square(), mask),
            "latent_loss": latents.loss,
        }

    def _target(self, states: Tensor) -> Tensor:
        """What is predicted of each step of windows [B, T, 46]: [B, T - 1, S]."""
        if self.config.inputs == "raw":
            return self.standard.states(states[:, 1:])
        return self.standard.changes(states)

    def _unchanged(self, states: Tensor) -> Tensor:
        """The same, of a world that stands still."""
        if self.config.inputs == "raw":
            return self.standard.states(states[:, :-1])
        return torch.zeros_like(self.standard.changes(states))

    def _with_prediction(self, states: Tensor, place: int, prediction: Tensor) -> Tensor:
        """Windows whose frame at `place` is the predicted one, to predict the next from."""
        columns, standard = self.standard.state_columns, self.standard
        states = states.clone()
        if self.config.inputs == "raw":
            states[:, place, columns] = prediction * standard.std + standard.mean
        else:
            states[:, place, columns] = states[:, place - 1, columns] + prediction * standard.change_std
        return states

    def _action_error(self, windows: Windows, latents: Tensor, first: int) -> Tensor:
        """Squared error [L] of decoded actions on the labelled windows, in the units of [-1, 1]."""
        context, count = self.sizes.context, latents.shape[1]
        steps = slice(context + 1 - count, context + 1)
        decoded = self.actions(latents[first:])
        columns = self.standard.action_columns
        mask = windows.action_mask[first:, steps][..., columns]
        return _masked_mean((decoded - self.standard.actions(windows.actions[first:, steps])).square(), mask)


def _check_pictures(config: LamConfig, sizes: Sizes) -> None:
    if config.image_size is not None and (not sizes.cameras or config.image_size != sizes.image_size):
        raise ValueError(
            f"lam looks at pictures of {config.image_size} pixels a side, and the data show {sizes.cameras} cameras of "
            f"{sizes.image_size}: name data.cameras, and give data.image_size the same value"
        )


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Per sample, the mean of values [B, N, D] where the mask (broadcast) holds; 0 where it holds nowhere."""
    mask = mask.expand_as(values)
    return (values * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
