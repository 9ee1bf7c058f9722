"""Real-time chunking: against its formulas, against plain sampling, and at the seam it is for."""

import math

import pytest
import torch
from torch import Tensor

from tests.vla.models.pi05.students import prefix_of, randomise, tiny_config, tiny_student
from vla.models.pi05.model import Encoded, NoisyActions, Pi05
from vla.models.pi05.realtime import guided_velocity, sample_committed, soft_mask
from vla.models.pi05.sample import sample_actions


def noise_of(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_soft_mask_is_the_papers():
    falls = [(5 - i) / (5 - 2 + 1) for i in (2, 3, 4)]
    bound = [c * (math.exp(c) - 1) / (math.e - 1) for c in falls]
    torch.testing.assert_close(soft_mask([2], [5], 7), torch.tensor([[1.0, 1.0, *bound, 0.0, 0.0]]))
    torch.testing.assert_close(soft_mask([0, 3], [0, 3], 4), torch.tensor([[0.0] * 4, [1.0, 1.0, 1.0, 0.0]]))


@pytest.mark.parametrize(("frozen", "steps"), [(3, 2), (-1, 2), (0, 8)])
def test_soft_mask_names_what_does_not_fit(frozen: int, steps: int):
    with pytest.raises(ValueError, match=f"frozen {frozen} of {steps} committed steps, in chunks of 7"):
        soft_mask([frozen], [steps], 7)


@pytest.mark.parametrize("time", [1.0, 0.6, 0.1])
def test_guidance_against_the_whole_jacobian(time: float):
    mix = noise_of((6, 6), 1) * 0.5

    def velocity(x: Tensor) -> Tensor:
        return torch.tanh(x.reshape(-1, 6) @ mix).reshape(x.shape)

    x, committed, weights = noise_of((1, 3, 2), 2), noise_of((1, 3, 2), 3), torch.tensor([1.0, 0.4, 0.0])[None, :, None]
    jacobian = torch.autograd.functional.jacobian(lambda x: x - time * velocity(x), x).reshape(6, 6)
    error = (weights * (committed - (x - time * velocity(x)))).reshape(6)
    tau = 1 - time
    strength = 10.0 if tau == 0 else min(10.0, time / tau * (tau**2 + time**2) / time**2)
    expected = velocity(x) - strength * (error @ jacobian).reshape(x.shape)
    got = guided_velocity(velocity, x, torch.tensor(time), committed, weights, limit=10.0)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gripper_logit", [False, True])
def test_nothing_committed_is_plain_sampling(gripper_logit: bool):
    model = tiny_student(gripper_logit=gripper_logit, action_dim=44)
    prefix, noise = prefix_of(model.config), noise_of((2, 4, 44))
    committed = torch.full_like(noise, float("nan"))  # never read
    with torch.inference_mode():
        guided = sample_committed(model, prefix, noise, committed, soft_mask([0, 0], [0, 0], 4))
        torch.testing.assert_close(guided, sample_actions(model, prefix, noise), rtol=0, atol=1e-6)


def test_frozen_steps_are_those_committed():
    model = tiny_student()
    noise = noise_of((2, 4, 44))
    noise[..., 20:] = 0  # dimensions the robot lacks
    committed = noise_of((2, 4, 44), 1)
    with torch.inference_mode():  # as the policy calls it, with tensors made there
        prefix = prefix_of(model.config)
        out = sample_committed(model, prefix, noise.clone(), committed.clone(), soft_mask([2, 0], [3, 4], 4))
    assert torch.equal(out[0, :2, :20], committed[0, :2, :20])
    assert not torch.equal(out[0, 2:, :20], committed[0, 2:, :20])
    assert out[..., 20:].abs().max() == 0
    plain = sample_actions(model, prefix_of(model.config), noise)
    gap, plain_gap = ((x[1, 0, :20] - committed[1, 0, :20]).norm() for x in (out, plain))
    assert gap < 0.5 * plain_gap  # bound, though not frozen


def test_samples_of_a_batch_do_not_meet():
    model = tiny_student()
    noise, committed = noise_of((2, 4, 44)), noise_of((2, 4, 44), 1)
    together = sample_committed(model, prefix_of(model.config, (5, 5)), noise, committed, soft_mask([2, 0], [3, 0], 4))
    other = committed.clone()
    other[1] += 1
    noise_too = torch.stack([noise[0], noise_of((4, 44), 9)])
    again = sample_committed(model, prefix_of(model.config, (5, 5)), noise_too, other, soft_mask([2, 1], [3, 4], 4))
    torch.testing.assert_close(together[0], again[0], rtol=0, atol=1e-5)


class TwoWays(Pi05):
    """Round an obstacle on the left (-1) or on the right (+1): the exact velocity of that mixture, spread 0.05."""

    def denoise(self, encoded: Encoded, noisy: NoisyActions, modulations: list[Tensor] | None = None) -> Tensor:
        """The velocity [B, S, A]."""
        t, x, spread = noisy.time[:, None, None], noisy.x_t, 0.05
        variance = t**2 + ((1 - t) * spread) ** 2
        ways = torch.tensor([-1.0, 1.0])
        likelihood = torch.stack([-((x - (1 - t) * way) ** 2 / (2 * variance)).sum((1, 2)) for way in ways], -1)
        taken = likelihood.softmax(-1)
        clean = [way + (1 - t) * spread**2 / variance * (x - (1 - t) * way) for way in ways]
        expected = sum(taken[:, i, None, None] * clean[i] for i in range(2))
        return (x - expected) / t


def test_no_jump_at_the_seam():
    model = TwoWays(tiny_config(horizon=10, action_dim=3)).eval().requires_grad_(False)
    randomise(model)
    prefix = prefix_of(model.config, (3,))
    draws = [noise_of((1, 10, 3), seed) for seed in range(12)]
    chunks = [sample_actions(model, prefix, noise) for noise in draws]
    left = next(chunk for chunk in chunks if chunk.mean() < -0.9)
    rights = [noise for noise, chunk in zip(draws, chunks, strict=True) if chunk.mean() > 0.9]
    assert len(rights) >= 3
    passed, frozen = 3, 2  # steps carried out before the new observation, and while its chunk is computed
    committed = torch.zeros(1, 10, 3)
    committed[:, : 10 - passed] = left[:, passed:]
    weights = soft_mask([frozen], [10 - passed], 10)
    for noise in rights:
        plain, continued = (
            sample_actions(model, prefix, noise),
            sample_committed(model, prefix, noise, committed, weights),
        )
        last = left[:, passed + frozen - 1]
        assert (plain[:, frozen] - last).abs().max() > 1.5
        assert (continued[:, frozen] - last).abs().max() < 0.3
        assert torch.equal(continued[:, :frozen], left[:, passed : passed + frozen])
        steps = continued.diff(dim=1).abs().max()
        assert steps < 0.3, "no jump later in the chunk either"
