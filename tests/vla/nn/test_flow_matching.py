"""The flow's convention: t = 1 is noise, t = 0 is data."""

import pytest
import torch

from vla.nn.flow_matching import beta_time, euler_sample, euler_times, interpolate, sincos_embedding, velocity_target


def test_ends_of_the_path():
    data, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(interpolate(data, noise, torch.ones(2)), noise)
    torch.testing.assert_close(interpolate(data, noise, torch.zeros(2)), data)


def test_the_true_velocity_leads_to_the_data():
    data, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    steps = []

    def velocity(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        torch.testing.assert_close(x, interpolate(data, noise, time), atol=1e-5, rtol=1e-5)
        steps.append(time[0].item())
        return velocity_target(data, noise)

    torch.testing.assert_close(euler_sample(velocity, noise, 10), data, atol=1e-5, rtol=1e-5)
    assert steps == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert euler_times(10).tolist() == steps


def test_times_are_beta():
    time = beta_time(torch.linspace(0, 1, 100_001))
    assert time.min() == pytest.approx(0.001)
    assert time.max() == pytest.approx(1.0)
    assert time.mean().item() == pytest.approx(0.001 + 0.999 * 0.6, abs=1e-4)  # Beta(1.5, 1) has mean 0.6


def test_time_embedding():
    embedded = sincos_embedding(torch.tensor([0.0, 0.25]), 8)
    assert embedded[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert embedded[1, 3].item() == pytest.approx(torch.sin(torch.tensor(2 * torch.pi * 0.25 / 4)).item())
