"""The weights of the best evaluation so far, kept beside the run until they become its model."""

import json
import math
import shutil
from pathlib import Path

from vla.train.checkpoint import write_json
from vla.train.distributed import World

_NOTE = "best.json"


class Best:
    """Which evaluation was lowest. A run that resumes before it forgets it, and meets it again.

    Args:
        folder: Where its weights are kept.
        model: What they become.
        name: Of the number, as an evaluator yields it.
        step: How far the run is.
        world: The processes taking part; all see the same evaluations.
    """

    def __init__(self, folder: Path, model: Path, name: str, step: int, world: World) -> None:
        self.folder, self._model, self._name, self._world = folder, model, name, world
        self._path, self._lowest = folder.with_name(_NOTE), math.inf
        if self._path.exists():
            kept = json.loads(self._path.read_text())
            there = folder.exists() or model.exists()  # the latter: killed between the two last writes
            if kept["step"] <= step and kept["name"] == name and there:
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

    def become_model(self) -> None:
        """Make the best weights the run's model.

        Raises:
            ValueError: Not one evaluation was finite.
        """
        if not math.isfinite(self._lowest):
            raise ValueError(f"loop.keep_best is {self._name!r}, which was never a finite number in this run")
        if self._world.is_main and self.folder.exists():
            shutil.rmtree(self._model, ignore_errors=True)  # of a run that was killed after this, and began anew
            self.folder.replace(self._model)
        self._world.barrier()
