"""Published weights onto a module built on the meta device, and an account of every name on either side."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from vla.models.pi05.convert import WeightFile
from vla.train.initialise import replace_parameter


@dataclass(frozen=True)
class NameReport:
    """What became of every name of a module and of a file; sorted.

    Attributes:
        loaded: In both.
        new: In the module only, and allowed to start fresh.
        ignored: In the file only, and known to be of no use, under the file's names.
        missing: In the module only, though the file should have them.
        unexpected: In the file only, and unknown, under the file's names.
    """

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def lines(self) -> list[str]:
        """A line a kind: the count, and the names where they say something."""
        lines = [f"loaded      {len(self.loaded)}"]
        for kind in ("new", "ignored", "missing", "unexpected"):
            names = getattr(self, kind)
            lines.append(f"{kind:<12}{len(names)}{': ' if names else ''}{_some(names)}")
        return lines


def compare_names(module: nn.Module, weights: WeightFile, may_be_new: tuple[str, ...] = ()) -> NameReport:
    """Compare a module's parameters with a file's; `may_be_new` holds beginnings of names that need not be there."""
    ours = {name for name, _ in module.named_parameters()}
    absent = ours - set(weights)
    new = {name for name in absent if may_be_new and name.startswith(may_be_new)}
    return NameReport(
        loaded=tuple(sorted(ours & set(weights))),
        new=tuple(sorted(new)),
        ignored=tuple(sorted(weights.left_out)),
        missing=tuple(sorted(absent - new)),
        unexpected=tuple(sorted(weights.foreign(name) for name in weights if name not in ours)),
    )


def load_published(module: nn.Module, weights: WeightFile) -> NameReport:
    """Give every parameter of a module on meta its float32 value from the file.

    Nothing is allocated before all names and shapes fit. The largest tensors come first, so that the copy made of
    each on the way is gone, or small, when memory is fullest.

    Raises:
        ValueError: Names that are missing or unexpected, or shapes that differ; the message names them.
    """
    report = compare_names(module, weights)
    check_fit(module, weights, report)
    parameters = sorted(module.named_parameters(), key=lambda item: -math.prod(item[1].shape))
    for name, parameter in parameters:
        value = torch.empty(parameter.shape, dtype=torch.float32)
        value.copy_(weights.read(name, tuple(parameter.shape)))
        replace_parameter(module, [name], nn.Parameter(value, requires_grad=parameter.requires_grad))
    return report


def check_fit(module: nn.Module, weights: WeightFile, report: NameReport) -> None:
    """Raise ValueError, naming what does not fit, unless the file is exactly the module's."""
    troubles = []
    if report.missing:
        troubles.append(f"{len(report.missing)} missing: {_some(report.missing)}")
    if report.unexpected:
        troubles.append(f"{len(report.unexpected)} unexpected: {_some(report.unexpected)}")
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    wrong = [
        f"{weights.foreign(name)} is {weights.shape(name)} and not {shapes[name]}"
        for name in report.loaded
        if weights.shape(name) != shapes[name]
    ]
    if wrong:
        troubles.append(f"{len(wrong)} of another shape: {_some(wrong)}")
    if troubles:
        raise ValueError(f"{weights.path} does not fit the model. " + "; ".join(troubles))


def _some(names: tuple[str, ...] | list[str], most: int = 8) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
