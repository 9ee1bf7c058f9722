"""What the backward pass computes again is what it would have kept, to the bit, and it does keep less."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vla.nn import recompute
from vla.nn.norms import RMSNorm, rms_normalise
from vla.nn.transformer import GeGLU


def kept_bytes(function: nn.Module, x: Tensor) -> int:
    """Memory the backward pass holds, but for parameters."""
    storages: dict[int, int] = {}
    parameters = {p.untyped_storage().data_ptr() for p in function.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = function(x)
    assert output.requires_grad
    return sum(size for place, size in storages.items() if place not in parameters)


def gradients(function: nn.Module, x: Tensor, seed: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(function(x), [x, *function.parameters()], seed))


@pytest.mark.parametrize("autocast", [False, True])
def test_geglu_is_the_same_to_the_bit(autocast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x, seed = GeGLU(8, 24), torch.randn(2, 5, 8, requires_grad=True), torch.randn(2, 5, 8)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        plain, plain_gradients = layer(x), gradients(layer, x, seed)
        monkeypatch.setattr(recompute, "WORTH", 1)
        again, again_gradients = layer(x), gradients(layer, x, seed)
    assert torch.equal(plain, again)
    assert all(torch.equal(a, b) for a, b in zip(plain_gradients, again_gradients, strict=True))


class Products(TorchDispatchMode):
    """Counts matrix products where they are carried out, below autograd."""

    count = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += operator is torch.ops.aten.mm.default
        return operator(*args, **(kwargs or {}))


def test_no_matrix_product_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = GeGLU(8, 24), torch.randn(5, 8, requires_grad=True)
    monkeypatch.setattr(recompute, "WORTH", 1)
    output = layer(x)
    with Products() as products:
        output.sum().backward()
    assert products.count == 6, "two for each of three linear layers"


def test_rms_norm_has_autograds_own_gradient_and_keeps_less() -> None:
    torch.manual_seed(0)
    norm, x, seed = RMSNorm(48), torch.randn(3, 7, 48, requires_grad=True), torch.randn(3, 7, 48)
    with torch.no_grad():
        norm.weight.normal_()
    plain = rms_normalise(x, norm.eps) * (1.0 + norm.weight)
    assert torch.equal(norm(x), plain)
    expected = torch.autograd.grad(plain, [x, norm.weight], seed)
    assert all(torch.equal(a, b) for a, b in zip(gradients(norm, x, seed), expected, strict=True))
    assert kept_bytes(norm, x) == 4 * (3 * 7 * 48 + 3 * 7 + 48)
    frozen = RMSNorm(48).requires_grad_(False)
    assert torch.autograd.grad(frozen(x).sum(), x)[0].shape == x.shape


def test_rms_norm_of_bfloat16_is_computed_in_float32() -> None:
    norm, x = RMSNorm(48), torch.randn(3, 48, dtype=torch.bfloat16, requires_grad=True)
    output = norm(x)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, rms_normalise(x, norm.eps).to(torch.bfloat16))
    (gradient,) = torch.autograd.grad(output.float().square().sum(), x)
    assert gradient.dtype == torch.bfloat16


def test_what_is_large_keeps_two_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = GeGLU(16, 64), torch.randn(10, 16, requires_grad=True)
    wide = 4 * 10 * 64
    assert kept_bytes(layer, x) == 4 * 10 * 16 + 4 * wide
    monkeypatch.setattr(recompute, "WORTH", 1)
    assert kept_bytes(layer, x) == 4 * 10 * 16 + 2 * wide
