"""Where a student's parameters start: fresh, or from another run's or a published checkpoint."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from vla.models.pi05.config import Pi05Config
from vla.models.pi05.convert import EXPERT_PARTS, WeightFile
from vla.models.pi05.initial import initial_value
from vla.models.pi05.load import NameReport, check_fit, compare_names
from vla.models.pi05.model import Pi05

_READOUT = "latent_readout."


class Start:
    """Gives each parameter its starting value.

    All names and shapes are compared when it is made, so that a run stops before anything is allocated.

    Attributes:
        report: What became of every name of the checkpoint and of the model; None without a checkpoint.

    Args:
        config: Of the student.
        init_from: Folder or file of weights to start from; None for a fresh start. A plain PaliGemma has no action
            expert: it and the projections then start fresh.
        fresh: Beginnings of names that start fresh although the checkpoint has them.

    Raises:
        ValueError: Names that are missing or unexpected, or shapes that differ, each with its name.
    """

    def __init__(self, config: Pi05Config, init_from: str | None, fresh: tuple[str, ...] = ()) -> None:
        self.config = config
        self.weights = WeightFile(Path(init_from)) if init_from else None
        self.report = _fitting_report(config, self.weights, fresh) if self.weights else None
        self._loaded = frozenset(self.report.loaded if self.report else ())

    def value(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """The full float32 starting value of one parameter."""
        if self.weights is not None and name in self._loaded:
            return self.weights.read(name, tuple(shape))
        return initial_value(self.config, name, shape, generator)

    def log(self, logger: logging.Logger) -> None:
        """Say what a warm start took and what it left."""
        if self.weights is None or self.report is None:
            return
        logger.info("init_from %s", self.weights.path)
        if not self.weights.has_expert:
            logger.info("a plain PaliGemma: the action expert and its projections start fresh")
        for line in self.report.lines():
            logger.info("%s", line)


def _fitting_report(config: Pi05Config, weights: WeightFile, fresh: tuple[str, ...]) -> NameReport:
    with torch.device("meta"):
        model = Pi05(config)
    names = [name for name, _ in model.named_parameters()]
    for beginning in fresh:
        if not any(name.startswith(beginning) for name in names):
            raise ValueError(f"fresh: no parameter's name begins with {beginning!r}; there is for example {names[-1]}")
    may_be_new = (_READOUT,) if weights.has_expert else (_READOUT, *EXPERT_PARTS)
    report = compare_names(model, weights, may_be_new, fresh)
    if model.latent_readout is None:
        report = report.ignoring(_READOUT)
    try:
        check_fit(model, weights, report)
    except ValueError as error:
        raise ValueError(
            f"init_from {error}. Give the model the sizes the checkpoint was trained with, or name in `fresh` what "
            "should start anew"
        ) from None
    return report
