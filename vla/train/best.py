"""The weights of the best evaluation so far, kept beside the run until they become its model."""

import json
import math
from pathlib import Path

from vla.train.checkpoint import write_json
from vla.train.distributed import World

_NOTE = "best.json"


class Best:
    """Which evaluation was lowest. A run that resumes before it forgets it, and meets it again.

    Args:
        folder: Where its weights are kept.
        name: Of the number, as an evaluator yields it.
        step: How far the run is.
        world: The processes taking part; all see the same evaluations.
    """

    def __init__(self, folder: Path, name: str, step: int, world: World) -> None:
        self.folder, self._name, self._world = folder, name, world
        self._path, self._lowest = folder.with_name(_NOTE), math.inf
        if self._path.exists():
            kept = json.loads(self._path.read_text())
            if kept["step"] <= step and kept["name"] == name and folder.exists():
                self._lowest = kept["value"]
        world.barrier()

    def takes(self, step: int, evaluations: dict[str, float]) -> bool:
        """Whether these weights are better than any before; the caller then writes them to `folder`.

        Raises:
            ValueError: No evaluator yields the number.
        """
        if not evaluations:
            return False
        if f"eval/{self._name}" not in evaluations:
            known = ", ".join(name.removeprefix("eval/") for name in evaluations)
            raise ValueError(f"loop.keep_best is {self._name!r}, which nothing here evaluates: choose from {known}")
        value = evaluations[f"eval/{self._name}"]
        if not value < self._lowest:
            return False
        self._lowest = value
        if self._world.is_main:  # before the weights: a note without them, or of newer ones, is met again and mended
            write_json(self._path, {"name": self._name, "step": step, "value": value})
        return True

    def become(self, folder: Path) -> None:
        """Make the best weights the run's model.

        Raises:
            ValueError: Not one evaluation was finite.
        """
        if not math.isfinite(self._lowest):
            raise ValueError(f"loop.keep_best is {self._name!r}, which was never a finite number in this run")
        if self._world.is_main and self.folder.exists():
            self.folder.replace(folder)
        self._world.barrier()
