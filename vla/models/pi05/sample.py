"""Inference: noise to actions, the prefix read once and every modulation computed before the first step."""

import torch
from torch import Tensor

from data_mixtures.spaces.unified import ACTION_GRIPPER_DIMS
from vla.models.pi05.model import NoisyActions, Pi05, Prefix
from vla.nn.flow_matching import euler_times


def sample_actions(model: Pi05, prefix: Prefix, noise: Tensor, times: Tensor | None = None) -> Tensor:
    """Integrate noise [B, S, A] at t = 1 to normalised actions [B, S, A] with `config.num_steps` Euler steps.

    Dimensions whose noise is zero all along (absent from the embodiment) stay zero, as in training. `times`
    [num_steps] are those of another clock than ours and LeRobot's.
    """
    encoded = model.encode(prefix)
    times = euler_times(model.config.num_steps, noise.device) if times is None else times
    present = (noise != 0).any(1, keepdim=True)
    x = noise
    for time, modulations in zip(times, model.step_modulations(times), strict=True):
        velocity = model.denoise(encoded, NoisyActions(x, time.expand(len(x))), modulations)
        if model.config.gripper_logit:
            velocity = gripper_velocity(velocity, x, time)
        x = torch.where(present, x - velocity / model.config.num_steps, x)
    return x


def gripper_velocity(velocity: Tensor, x_t: Tensor, time: Tensor) -> Tensor:
    """The velocity whose clean estimate is the gripper's probability, not its logit.

    With `loss: latbot`, x_t - t * v is a logit on the gripper's dimensions. The path was trained between noise and
    0 or 1, so the sampler must head for sigmoid(logit) to stay on it; its last step then lands there.
    """
    dims = [dim for dim in ACTION_GRIPPER_DIMS if dim < x_t.shape[-1]]
    probability = torch.sigmoid(x_t[..., dims] - time * velocity[..., dims])
    velocity = velocity.clone()
    velocity[..., dims] = (x_t[..., dims] - probability) / time
    return velocity
