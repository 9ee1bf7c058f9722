"""Every layer starts as torch would start it, out of the generator alone."""

import math

import pytest
import torch
from torch import nn

from lam.clam.initialise import initial_value


class _Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(40, 300), nn.Linear(300, 7)])
        self.attention = nn.MultiheadAttention(48, 4)
        self.norm = nn.LayerNorm(9)
        self.batch_norm = nn.BatchNorm2d(5)
        self.table = nn.Embedding(60, 50)
        self.conv = nn.Conv2d(3, 50, 4)
        self.up = nn.ConvTranspose2d(20, 30, 4)


def _values(seed: int = 0) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        model = _Everything()
    generator = torch.Generator().manual_seed(seed)
    return {name: initial_value(model, name, generator) for name in model.state_dict()}


def test_values_are_distributed_as_torch_s_own() -> None:
    ours = _values()
    theirs = _Everything().state_dict()
    for name, value in ours.items():
        assert value.shape == theirs[name].shape
        if not theirs[name].is_floating_point():
            continue
        assert value.dtype == torch.float32
        if theirs[name].unique().numel() == 1:
            assert torch.equal(value, theirs[name]), name
        elif value.numel() > 200:
            assert value.std().item() == pytest.approx(theirs[name].std().item(), rel=0.1), name
            assert value.abs().max().item() == pytest.approx(theirs[name].abs().max().item(), rel=0.3), name


def test_a_bias_is_within_the_range_of_its_layer_s_input() -> None:
    values = _values()
    assert 0.9 / math.sqrt(40) < values["layers.0.bias"].abs().max() < 1 / math.sqrt(40)
    assert 0.9 / math.sqrt(48) < values["conv.bias"].abs().max() < 1 / math.sqrt(48)
    assert values["attention.out_proj.bias"].abs().max() == 0


def test_values_are_functions_of_the_generator() -> None:
    first, again, other = _values(3), _values(3), _values(4)
    torch.manual_seed(5)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


def test_a_module_with_tensors_of_its_own_says_where_they_start() -> None:
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.empty(2))

    class Named(Token):
        def initial_value(self, name: str, generator: torch.Generator) -> torch.Tensor:
            return {"token": torch.full((2,), 5.0)}[name]

    assert initial_value(nn.Sequential(Named()), "0.token", torch.Generator()).tolist() == [5, 5]
    with pytest.raises(ValueError, match=r"0\.token: no starting value is known for a Token"):
        initial_value(nn.Sequential(Token()), "0.token", torch.Generator())
