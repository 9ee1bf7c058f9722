"""Published weights onto a module built on the meta device, and an account of every name on either side."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from vla.models.pi05.convert import WeightFile
from vla.train.initialise import largest_first, replace_parameter


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

    def ignoring(self, beginning: str) -> "NameReport":
        """The same with unexpected names of this beginning ignored."""
        known = tuple(name for name in self.unexpected if name.removeprefix("model.").startswith(beginning))
        return replace(
            self,
            ignored=tuple(sorted([*self.ignored, *known])),
            unexpected=tuple(name for name in self.unexpected if name not in known),
        )

    def lines(self) -> list[str]:
        """A line a kind: the count, and the names where they say something."""
        lines = [f"loaded      {len(self.loaded)}"]
        for kind in ("new", "ignored", "missing", "unexpected"):
            names = getattr(self, kind)
            lines.append(f"{kind:<12}{len(names)}{': ' if names else ''}{_some(names)}")
        return lines


def compare_names(
    module: nn.Module, weights: WeightFile, may_be_new: tuple[str, ...] = (), fresh: tuple[str, ...] = ()
) -> NameReport:
    """Compare a module's parameters with a file's.

    Args:
        module: Its parameters have the published names.
        weights: The file.
        may_be_new: Beginnings of names that need not be in the file.
        fresh: Beginnings of names that are new even if the file has them; its own are then ignored.
    """
    ours = {name for name, _ in module.named_parameters()}
    afresh = {name for name in ours if fresh and name.startswith(fresh)}
    absent = ours - set(weights) - afresh
    new = {name for name in absent if may_be_new and name.startswith(may_be_new)}
    passed_over = [weights.foreign(name) for name in weights if name in afresh]
    return NameReport(
        loaded=tuple(sorted((ours & set(weights)) - afresh)),
        new=tuple(sorted(new | afresh)),
        ignored=tuple(sorted([*weights.left_out, *passed_over])),
        missing=tuple(sorted(absent - new)),
        unexpected=tuple(sorted(weights.foreign(name) for name in weights if name not in ours)),
    )


def load_published(
    module: nn.Module,
    weights: WeightFile,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
) -> NameReport:
    """Give every parameter of a module on meta its value from the file.

    Nothing is allocated before all names and shapes fit. The largest tensors come first, so that the copy made of
    each on the way is gone, or small, when memory is fullest.

    Args:
        module: On meta, without buffers of its own.
        weights: Names under which it may find more than the module has are those of `convert.py`'s dead ones.
        device: Where the parameters go.
        dtype: What they become; None keeps what the meta parameters have.

    Raises:
        ValueError: Names that are missing or unexpected, shapes that differ, or numbers that are not floating; the
            message names them.
    """
    report = compare_names(module, weights)
    check_fit(module, weights, report)
    for name, parameter in largest_first(module):
        value = torch.empty(parameter.shape, dtype=dtype or parameter.dtype, device=device)
        value.copy_(weights.read(name, tuple(parameter.shape)))
        replace_parameter(module, [name], nn.Parameter(value, requires_grad=parameter.requires_grad))
    return report


def check_fit(module: nn.Module, weights: WeightFile, report: NameReport) -> None:
    """Raise ValueError, naming what does not fit, where the report, a shape or a dtype says so."""
    troubles = []
    if report.missing:
        troubles.append(f"{len(report.missing)} missing: {_some(report.missing)}")
    if report.unexpected:
        troubles.append(f"{len(report.unexpected)} unexpected: {_some(report.unexpected)}")
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    wrong = [
        f"{weights.foreign(name)} is {weights.shape(name)} and not {shapes[name]}"
        for name in report.loaded
        if not weights.fits(name, shapes[name])
    ]
    if wrong:
        troubles.append(f"{len(wrong)} of another shape: {_some(wrong)}")
    whole = [
        f"{weights.foreign(name)} is {weights.dtype(name)}" for name in report.loaded if not weights.is_floating(name)
    ]
    if whole:
        troubles.append(f"{len(whole)} not of floating numbers, as a quantised file has them: {_some(whole)}")
    if troubles:
        raise ValueError(f"{weights.path} does not fit the model. " + "; ".join(troubles))


def _some(names: tuple[str, ...] | list[str], most: int = 8) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
