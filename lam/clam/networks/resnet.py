"""ResNet18's last feature map, as appendix F reads pictures; published weights are taken by timm's names.

The norms are frozen, as in ACT: running means of what it was trained on, not of these batches, so that a sample's
features depend on no other sample.
"""

from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn

FEATURE_DIM = 512
_EPSILON = 1e-5
# Of the pictures published weights were trained on, for values in [0, 1].
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FrozenNorm(nn.Module):
    """Batch normalisation by numbers that do not learn, under its names."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, self.initial(name, channels))

    @staticmethod
    def initial(name: str, channels: int) -> Tensor:
        """The identity's numbers."""
        return torch.ones(channels) if name in ("weight", "running_var") else torch.zeros(channels)

    def initial_value(self, name: str, generator: torch.Generator) -> Tensor:
        """As `initial`, on the CPU."""
        with torch.device("cpu"):
            return self.initial(name, len(self.weight))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Scaled and moved by channel."""
        scale = self.weight * (self.running_var + _EPSILON).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class ResNet18(nn.Module):
    """Feature maps [B, 512, H / 32, W / 32] (rounded up) of pictures: 7 x 7 at 224 pixels a side."""

    def __init__(self) -> None:
        super().__init__()
        from vla.nn.torchvision_ops import ensure_torchvision_operators

        ensure_torchvision_operators()
        import timm  # here: it needs torchvision, and the rest of lam.clam does not

        self.net = timm.create_model("resnet18", pretrained=False, num_classes=0, global_pool="")
        for path, module in list(self.net.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                owner, _, name = path.rpartition(".")
                setattr(self.net.get_submodule(owner), name, FrozenNorm(module.num_features))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 512 h w"]:
        """Pictures in [-1, 1]."""
        mean, std = (images.new_tensor(numbers)[:, None, None] for numbers in (_MEAN, _STD))
        return self.net((images / 2 + 0.5 - mean) / std)


def published_resnet(path: str, name: str, shape: torch.Size) -> Float[Tensor, "..."]:
    """The published value of `name`, a path within `ResNet18`, from a .safetensors file with timm's names.

    Raises:
        ValueError: The file is not there, or is not of a ResNet18.
    """
    key = name.removeprefix("net.")
    if not Path(path).is_file():
        raise ValueError(f"resnet is {path!r}: no such file; download timm's resnet18 as .safetensors and name it")
    with safe_open(path, framework="pt") as file:
        if key not in file.keys():  # noqa: SIM118  (safe_open has no __contains__)
            raise ValueError(f"resnet is {path!r}: it holds no {key}; give timm's resnet18")
        value = cast(Tensor, file.get_tensor(key)).to(torch.float32)
    if value.shape != shape:
        raise ValueError(f"resnet is {path!r}: its {key} is {list(value.shape)}, a ResNet18's is {list(shape)}")
    return value
