"""Where a student's parameters start: fresh, or from another run's or a published checkpoint."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from vla.models.pi05.config import Pi05Config
from vla.models.pi05.convert import WeightFile
from vla.models.pi05.initial import initial_value


class Start:
    """Gives each parameter its starting value and remembers where it came from.

    Args:
        config: Of the student.
        init_from: Folder or file of weights to start from; None for a fresh start.
        fresh: Beginnings of names that start fresh although the checkpoint has them.
    """

    def __init__(self, config: Pi05Config, init_from: str | None, fresh: tuple[str, ...] = ()) -> None:
        self.config, self.fresh = config, fresh
        self.weights = WeightFile(Path(init_from)) if init_from else None
        self.warm: list[str] = []
        self.new: list[str] = []

    def value(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """The full float32 starting value of one parameter."""
        if self.weights is not None and name in self.weights and not name.startswith(self.fresh or ("\0",)):
            self.warm.append(name)
            return self.weights.read(name, tuple(shape))
        self.new.append(name)
        return initial_value(self.config, name, shape, generator)

    def log(self, logger: logging.Logger) -> None:
        """Say, once every parameter has its value, what a warm start took and what it left."""
        if self.weights is None:
            return
        report = self.report()
        logger.info("init_from %s: %s", self.weights.path, {kind: len(names) for kind, names in report.items()})
        for kind in ("new", "ignored"):
            if report[kind]:
                logger.info("%s: %s", kind, ", ".join(sorted(report[kind])))

    def report(self) -> dict[str, list[str]]:
        """After every parameter has its value: names that came `warm`, are `new`, or lie `ignored` in the file."""
        ignored = [name for name in self.weights or () if name not in self.warm]
        return {"warm": self.warm, "new": self.new, "ignored": ignored}
