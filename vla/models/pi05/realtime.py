"""Real-time chunking: a new chunk that agrees with what an earlier one still has the robot doing.

A robot goes on moving while the next chunk is computed. The first steps of the new chunk are therefore already
decided (frozen), and those after them should not contradict what the robot has begun. Black et al. 2025, "Real-Time
Execution of Action Chunking Flow Policies", treat this as inpainting: each Euler step is steered by how far the
clean estimate lies from the earlier chunk, weighted by a soft mask and carried back through the network
(pseudo-inverse guidance). In their notation tau = 1 - t: here t = 1 is noise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from vla.models.pi05.model import NoisyActions, Pi05, Prefix
from vla.models.pi05.sample import gripper_velocity
from vla.nn.flow_matching import euler_times


def soft_mask(frozen: Sequence[int], steps: Sequence[int], horizon: int) -> Tensor:
    """How much each step of a new chunk is bound by the earlier one: [B, S] float32, the paper's equation 5.

    1 on frozen steps, falling over the other steps the earlier chunk has, 0 where it ended.

    Args:
        frozen: For each sample, how many steps will be carried out whatever comes.
        steps: For each sample, how many steps the earlier chunk has from now on; 0 where there is no such chunk.
        horizon: S.

    Raises:
        ValueError: Not 0 <= frozen <= steps <= horizon.
    """
    for first, count in zip(frozen, steps, strict=True):
        if not 0 <= first <= count <= horizon:
            raise ValueError(
                f"frozen {first} of {count} committed steps, in chunks of {horizon}: "
                "commit at most a chunk, and freeze at most what is committed"
            )
    index = torch.arange(horizon)
    first, count = torch.tensor(frozen)[:, None], torch.tensor(steps)[:, None]
    fall = ((count - index) / (count - first + 1)).clamp(0.0, 1.0)
    fall = fall * torch.expm1(fall) / (math.e - 1.0)
    return torch.where(index < first, 1.0, fall)


def sample_committed(model: Pi05, prefix: Prefix, noise: Tensor, committed: Tensor, weights: Tensor) -> Tensor:
    """Integrate noise to normalised actions [B, S, A] that continue a committed chunk.

    Where all weights of a sample are 0 this is `sample_actions`. Dimensions whose noise is zero stay zero. It needs
    the network's gradient with respect to its noisy actions, so a step costs about three of `sample_actions`.

    Args:
        model: Its parameters should be frozen, or their activations are kept for nothing.
        prefix: What the policy observes.
        noise: [B, S, A].
        committed: [B, S, A], normalised, step 0 at the moment of observation; not read where the weight is 0.
        weights: [B, S] in 0..1, as `soft_mask` makes them; steps of weight 1 come back exactly as committed.
    """
    with torch.inference_mode(False), torch.no_grad(), _precision(model):
        prefix = Prefix(*(_ordinary(getattr(prefix, part.name)) for part in fields(prefix)))
        noise, committed, weights = _ordinary(noise), _ordinary(committed), _ordinary(weights)[..., None]
        present = (noise != 0).any(1, keepdim=True)
        committed = torch.where((weights > 0) & present, committed, 0.0)
        x = _integrate(model, prefix, noise, present, committed, weights * present)
        return torch.where((weights == 1) & present, committed, x)


def _precision(model: Pi05) -> torch.autocast:
    """bfloat16 weights beside float32 islands run as in training; a model of one precision as it is."""
    dtype = model.embedding.weight.dtype
    return torch.autocast(model.embedding.weight.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def _ordinary(x: Tensor) -> Tensor:
    """A tensor that autograd may keep, as those made under `inference_mode` are not."""
    return x.clone() if x.is_inference() else x


def _integrate(
    model: Pi05, prefix: Prefix, noise: Tensor, present: Tensor, committed: Tensor, weights: Tensor
) -> Tensor:
    num_steps = model.config.num_steps
    encoded = model.encode(prefix)
    times = euler_times(num_steps, noise.device)
    x = noise
    for time, modulations in zip(times, model.step_modulations(times), strict=True):

        def velocity(x_t: Tensor, time: Tensor = time, modulations: list[Tensor] = modulations) -> Tensor:
            out = model.denoise(encoded, NoisyActions(x_t, time.expand(len(x_t))), modulations)
            return gripper_velocity(out, x_t, time) if model.config.gripper_logit else out

        guided = guided_velocity(velocity, x, time, committed, weights, limit=float(num_steps))
        x = torch.where(present, x - guided / num_steps, x)
    return x


def guided_velocity(
    velocity: Callable[[Tensor], Tensor], x_t: Tensor, time: Tensor, committed: Tensor, weights: Tensor, limit: float
) -> Tensor:
    """The velocity at x_t [B, S, A], steered so that the clean estimate comes nearer to `committed` [B, S, A].

    The paper's equation 2. Its guidance weight grows without bound towards t = 1 and t = 0; `limit` caps it. With
    `limit` = number of Euler steps, one step at most closes the whole gap: 5 of 5 in the paper, 10 of 10 here.
    """
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        plain = velocity(x)
        clean = x - time * plain
        error = (weights * (committed - clean)).detach()
        (correction,) = torch.autograd.grad(clean, x, error)
    tau = 1.0 - time
    strength = ((tau**2 + time**2) / (tau * time)).clamp(max=limit)
    return plain.detach() - strength * correction
