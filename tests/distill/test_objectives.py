"""Stage 2's terms against numbers worked out by hand."""

import math

import pytest
import torch

from distill.alignment import divergence, explained_variance, squared_error
from vla.nn.next_token import next_token_loss, token_accuracy


def test_squared_error_is_a_mean_per_sample():
    student, teacher = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]]), torch.tensor([[[0.0, 0.0]], [[0.0, 4.0]]])
    assert squared_error(student, teacher).tolist() == [2.5, 8.0]


def test_softmax_divergence_student_first():
    student, teacher = torch.tensor([[[math.log(3.0), 0.0]]]), torch.zeros(1, 1, 2)
    # p = (3/4, 1/4), q = (1/2, 1/2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert divergence(student, teacher, "softmax").item() == pytest.approx(expected)
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert divergence(teacher, student, "softmax").item() == pytest.approx(reverse)


def test_divergence_is_a_mean_over_tokens():
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    for kind in ("softmax", "gaussian"):
        tokens = [divergence(student[:, i : i + 1], teacher[:, i : i + 1], kind) for i in range(3)]
        torch.testing.assert_close(divergence(student, teacher, kind), torch.stack(tokens).mean(0))
        torch.testing.assert_close(divergence(teacher, teacher, kind), torch.zeros(2))


def test_gaussian_divergence():
    student, teacher = torch.randn(1, 1, 50) * 2 + 1, torch.randn(1, 1, 50)
    normals = [torch.distributions.Normal(x.mean(), x.std(correction=0)) for x in (student, teacher)]
    expected = torch.distributions.kl_divergence(*normals)
    torch.testing.assert_close(divergence(student, teacher, "gaussian")[0], expected)


def test_explained_variance():
    teacher = torch.randn(50, 2, 3)
    assert explained_variance(teacher, teacher) == 1
    assert explained_variance(teacher.mean(0).expand_as(teacher), teacher).abs() < 1e-5


def test_next_token_loss_by_hand():
    logits = torch.zeros(2, 3, 4)
    logits[0, 0, 2] = math.log(5.0)  # probability 5/8
    labels, mask = torch.tensor([[2, 1, 0], [0, 0, 0]]), torch.tensor([[True, True, False], [False] * 3])
    expected = (math.log(8 / 5) + math.log(4)) / 2
    assert next_token_loss(logits, labels, mask).tolist() == pytest.approx([expected, 0.0])
    assert token_accuracy(logits, labels, mask).item() == 0.5  # token 1 scores no higher than token 0
