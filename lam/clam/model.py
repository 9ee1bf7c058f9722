"""The latent action model: inverse model, latents, forward model, action decoder (figure 1).

    o_{t-H} .. o_{t+1} ─► inverse ─► z_{t-N+1} .. z_t ─┬─► quantiser, where latents are discrete
                                                       ├─► forward (o_{t-H} .. o_t, z) ─► o_{t-N+2} .. o_{t+1}
                                                       └─► decoder ─► a_{t-N+1} .. a_t, on labelled windows

B windows, N transitions with a latent (1 for MLPs, H + 1 for transformers), S state and A action dimensions.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lam.clam.config import LamConfig
from lam.clam.decoder import ActionDecoder
from lam.clam.frames import Frames
from lam.clam.networks.mlp import MlpForward, MlpInverse
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
    """

    state_columns: list[int]
    action_columns: list[int]
    context: int
    cameras: int = 0


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
    """

    states: Tensor
    actions: Tensor
    action_mask: Tensor
    steps_mask: Tensor
    sample_ids: Tensor
    num_unlabelled: int

    def first(self, count: int) -> "Windows":
        """The first so many."""
        return Windows(
            self.states[:count],
            self.actions[:count],
            self.action_mask[:count],
            self.steps_mask[:count],
            self.sample_ids[:count],
            min(count, self.num_unlabelled),
        )


class LatentActionModel(nn.Module):
    """See the head of this file.

    Args:
        config: Networks, latents, decoder.
        sizes: What the data decide.
    """

    def __init__(self, config: LamConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        self.standard = Standard(sizes.state_columns, sizes.action_columns)
        action_dim = len(sizes.action_columns)
        head_dim = action_dim if config.supervised else config.latent_dim * (2 if config.prior_weight else 1)
        self.inverse = self._inverse(head_dim)
        self.forward_model = None if config.supervised else self._forward_model()
        self.quantiser = None if config.quantiser is None else quantiser(config.latent_dim, config.quantiser)
        self.decoder = None if config.supervised else ActionDecoder(config.latent_dim, action_dim, config.decoder)

    @property
    def _feature_dim(self) -> int:
        return len(self.sizes.state_columns) * (2 if self.config.inputs == "change" else 1)

    def _inverse(self, head_dim: int) -> nn.Module:
        config, context = self.config, self.sizes.context
        if config.transformer is not None:
            return TransformerInverse(self._feature_dim, head_dim, context, config.transformer)
        assert config.mlp is not None
        return MlpInverse(self._feature_dim, head_dim, context, config.mlp)

    def _forward_model(self) -> nn.Module:
        config, context, out = self.config, self.sizes.context, len(self.sizes.state_columns)
        if config.transformer is not None:
            return TransformerForward(self._feature_dim, config.latent_dim, out, context, config.transformer)
        assert config.mlp is not None
        return MlpForward(self._feature_dim, config.latent_dim, out, context, config.mlp)

    def frames(self, states: Float[Tensor, "batch T 46"]) -> Frames:
        """What networks see: standardised states, with `inputs: change` beside the change that led to each."""
        standard = self.standard.states(states)
        if self.config.inputs == "raw":
            return Frames(standard)
        changes = self.standard.changes(states)
        led_to = torch.cat([torch.zeros_like(changes[:, :1]), changes], dim=1)
        return Frames(torch.cat([standard, led_to], dim=-1))

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
        """The forward model's words on the frames after each of the last N: scaled changes, or states (`raw`)."""
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
        frames = self.frames(windows.states)
        latents = self.infer(frames[: context + 2], windows.sample_ids, noise)
        found: dict[str, Tensor] = {}
        if count:
            found |= self._reconstruction(windows.first(count), latents.first(count))
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
                later = self.infer(self.frames(windows.states[:, span]), windows.sample_ids)
                latents, loss = later, loss + later.loss
            window = seen[:, span]
            prediction = self.predicted(self.frames(window[:, : context + 1]), latents.values)
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


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Per sample, the mean of values [B, N, D] where the mask (broadcast) holds; 0 where it holds nowhere."""
    mask = mask.expand_as(values)
    return (values * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
