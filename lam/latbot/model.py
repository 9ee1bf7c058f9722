"""The teacher: encoder, unified decoder and codec, and the flow-matching mathematics between them."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lam.latbot.autoencoder import build_codec, to_codec_frames
from lam.latbot.config import LatBotConfig
from lam.latbot.decoder import UnifiedDecoder
from lam.latbot.encoder import LatentActionEncoder
from lam.latbot.grounding import MotionDecoder
from lam.latbot.template import Prompt
from vla.nn.flow_matching import euler_sample, interpolate, velocity_target

Task = Literal["train", "encode", "sample"]


@dataclass(frozen=True)
class Inputs:
    """What one call reads; K flow draws a sample, S action steps, a plain object so that no wrapper casts it.

    images       uint8   [B, T, cameras, 3, H, W]
    features     float16 [B, T, cameras, P, F] or None   cached; None computes them from images
    prompt       token ids and places
    latents      float   [B, Ns + Nm, D] or None         used instead of the encoder's ("sample" only)
    actions      float32 [B, S, 44]        normalised, 0 where masked ("train" only)
    action_mask  bool    [B, S, 44]        ("train" only)
    frame_noise  float32 [B, K, c, h, w]   action_noise  float32 [B, K, S, 44]
    frame_time   float32 [B, K]            action_time   float32 [B, K]        ("train" only)
    """

    images: Tensor
    features: Tensor | None
    prompt: Prompt
    latents: Tensor | None = None
    actions: Tensor | None = None
    action_mask: Tensor | None = None
    frame_noise: Tensor | None = None
    action_noise: Tensor | None = None
    frame_time: Tensor | None = None
    action_time: Tensor | None = None


class LatBot(nn.Module):
    """The latent action model. Everything goes through `forward`, so that data-parallel wrappers see it."""

    def __init__(self, config: LatBotConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = LatentActionEncoder(config)
        self.decoder = UnifiedDecoder(config)
        self.codec = build_codec(config.codec)
        self.grounding = None if config.grounding is None else MotionDecoder(config)

    def forward(self, inputs: Inputs, task: Task = "train", num_steps: int = 1) -> dict[str, Tensor]:
        """Run one task.

        Returns:
            "train": per-sample `frame_loss`, `action_loss` (0 without labels), `frame_error` (mean squared error of
            the clean target), `copy_error` (the same for the copied current frame), and with grounding
            `grounding_loss` (0 without labels), all [B].
            "encode": `scene` [B, Ns, D] and `motion` [B, Nm, D], and with grounding the normalised `actions`
            [B, S, 44] it decodes them to, float32.
            "sample": `frame` [B, 3, h, w] in about [-1, 1] and normalised `actions` [B, S, 44].
        """
        if task == "train":
            return self._train(inputs)
        if task == "encode":
            scene, motion = self._encode(inputs)
            grounded = {} if self.grounding is None else {"actions": self.grounding(motion)}
            return {"scene": scene.float(), "motion": motion.float(), **grounded}
        return self._sample(inputs, num_steps)

    def _encode(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        cameras = self.config.num_cameras
        features = inputs.features
        if features is None:
            features = self.encoder.vision_features(inputs.images[:, :, :cameras])
        return self.encoder(features[:, :, :cameras], inputs.prompt)

    def _frame(self, images: Tensor, index: int) -> Float[Tensor, "b c h w"]:
        return self.codec.encode(to_codec_frames(images[:, index, 0], self.config.codec))

    def _train(self, inputs: Inputs) -> dict[str, Tensor]:
        flow = self.config.flow
        scene, motion = self._encode(inputs)
        current, future = self._frame(inputs.images, 0), self._frame(inputs.images, -1)
        copy = (current if flow.frame_target == "frame" else torch.zeros_like(current)).float()
        target = (future if flow.frame_target == "frame" else (future - current) / flow.change_scale).float()
        draws = _Draws(inputs, flow.num_draws)
        clean, actions = draws.repeat(target), draws.repeat(_given(inputs.actions, "actions"))
        noisy = interpolate(clean, draws.frame_noise, draws.frame_time)
        output, velocity = self.decoder(
            noisy,
            draws.repeat(current),
            interpolate(actions, draws.action_noise, draws.action_time),
            draws.repeat(scene),
            draws.repeat(motion),
            draws.frame_time,
            draws.action_time,
        )
        frame_loss, clean_estimate = self._frame_loss(output, noisy, clean, draws.frame_noise, draws.frame_time)
        mask = draws.repeat(_given(inputs.action_mask, "action_mask"))
        error = (velocity - velocity_target(actions, draws.action_noise)).square()
        return {
            "frame_loss": draws.mean(frame_loss),
            "action_loss": draws.mean(_masked_mean(error, mask)),
            "frame_error": draws.mean((clean_estimate - clean).square().flatten(1).mean(1)).detach(),
            "copy_error": (copy - target).square().flatten(1).mean(1).detach(),
            **self._grounding_loss(motion, inputs),
        }

    def _grounding_loss(self, motion: Tensor, inputs: Inputs) -> dict[str, Tensor]:
        """Per-sample squared error of the actions read from the motion tokens, where there is a decoder."""
        if self.grounding is None:
            return {}
        error = (self.grounding(motion) - _given(inputs.actions, "actions")).square()
        return {"grounding_loss": _masked_mean(error, _given(inputs.action_mask, "action_mask"))}

    def _frame_loss(
        self, output: Tensor, noisy: Tensor, clean: Tensor, noise: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Per-sample squared error of the velocity, and the clean target the output stands for."""
        t = time.view(-1, 1, 1, 1)
        if self.config.flow.frame_prediction == "velocity":
            error = (output - velocity_target(clean, noise)).square()
            return error.flatten(1).mean(1), noisy - t * output
        # The velocity's error is the clean target's over t; the bound keeps nearly noiseless draws from ruling.
        error = ((output - clean) / t.clamp(min=self.config.flow.min_time)).square()
        return error.flatten(1).mean(1), output

    def _sample(self, inputs: Inputs, num_steps: int) -> dict[str, Tensor]:
        config = self.config
        if inputs.latents is None:
            scene, motion = self._encode(inputs)
        else:
            scene, motion = inputs.latents.split([config.scene_tokens, config.motion_tokens], dim=1)
        current = self._frame(inputs.images, 0)
        frame_noise, action_noise = _given(inputs.frame_noise, "frame_noise"), _given(inputs.action_noise, "noise")
        cells = current[0].numel()

        def velocity(x: Tensor, time: Tensor) -> Tensor:
            frame, actions = x[:, :cells].view_as(current), x[:, cells:].view_as(action_noise[:, 0])
            output, action_velocity = self.decoder(frame, current, actions, scene, motion, time, time)
            if config.flow.frame_prediction == "clean":
                output = (frame - output) / time.view(-1, 1, 1, 1)
            return torch.cat([output.flatten(1), action_velocity.flatten(1)], dim=1)

        noise = torch.cat([frame_noise[:, 0].flatten(1), action_noise[:, 0].flatten(1)], dim=1)
        sampled = euler_sample(velocity, noise, num_steps)
        latent = sampled[:, :cells].view_as(current)
        if config.flow.frame_target == "change":
            latent = current + latent * config.flow.change_scale
        return {"frame": self.codec.decode(latent), "actions": sampled[:, cells:].view_as(action_noise[:, 0])}


class _Draws:
    """The K flow draws of every sample, flattened to B * K rows (sample-major)."""

    def __init__(self, inputs: Inputs, count: int) -> None:
        self.count = count
        self.frame_noise = _given(inputs.frame_noise, "frame_noise").flatten(0, 1)
        self.action_noise = _given(inputs.action_noise, "action_noise").flatten(0, 1)
        self.frame_time = _given(inputs.frame_time, "frame_time").flatten()
        self.action_time = _given(inputs.action_time, "action_time").flatten()

    def repeat(self, value: Tensor) -> Tensor:
        return value if self.count == 1 else value.repeat_interleave(self.count, dim=0)

    def mean(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (-1, self.count)).mean(1)


def _masked_mean(error: Tensor, mask: Tensor) -> Tensor:
    """Mean over each row's valid elements [N]; a row without any gives 0 (and a zero gradient)."""
    valid = mask.flatten(1).sum(1).clamp(min=1)
    return (error * mask).flatten(1).sum(1) / valid


def _given(value: Tensor | None, name: str) -> Tensor:
    assert value is not None, f"this task needs {name}"
    return value
