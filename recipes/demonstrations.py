"""Recording and reporting: the recipes around the three stages."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eval.libero.recording import LiberoRecordConfig
from eval.locomotion.recording import LocomotionRecordConfig
from eval.metaworld.mixed import MixedConfig
from eval.metaworld.recording import RecordConfig
from recipes.checks import check_alone
from recipes.finished import done_when_whole, has_all
from recipes.loading import RecipeError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordRecipe:
    """Record in a simulator; `run` gets the LeRobot v3.0 data set, in `data`.

    `mixed` and `locomotion` make several, each in a folder of its name.

    Attributes:
        stage: record.
        run: The folder.
        record: Demonstrations in Meta-World; or
        mixed: one Meta-World task's play of mixed expertise; or
        libero: demonstrations in LIBERO; or
        locomotion: play of mixed expertise on Hopper or HalfCheetah.
    """

    stage: Literal["record"]
    run: str
    record: RecordConfig | None = None
    mixed: MixedConfig | None = None
    libero: LiberoRecordConfig | None = None
    locomotion: LocomotionRecordConfig | None = None

    def __post_init__(self) -> None:
        if sum(part is not None for part in (self.record, self.mixed, self.libero, self.locomotion)) != 1:
            raise ValueError(
                "name one of `record` and `mixed` (Meta-World), `libero` and `locomotion`: what is to be recorded, and "
                "where"
            )

    def check(self, made: set[Path], ranks: int | None = None) -> None:
        """Nothing is read; LIBERO must be set up."""
        check_alone(self.stage, ranks)
        if self.libero is not None and not self.is_done():
            from eval.environments import python_of
            from eval.libero.install import LIBERO

            python_of(LIBERO)

    def is_done(self) -> bool:
        """True once all of it is written."""
        return has_all(Path(self.run), "done.json")

    def execute(self) -> None:
        """Record, or go on recording."""
        from eval.libero.recording import record_libero
        from eval.locomotion.recording import record_locomotion
        from eval.metaworld.mixed import record_mixed
        from eval.metaworld.recording import record

        folder = Path(self.run) / "data"
        with done_when_whole(Path(self.run)):
            if self.record is not None:
                record(self.record, folder)
            if self.mixed is not None:
                record_mixed(self.mixed, Path(self.run))
            if self.libero is not None:
                record_libero(self.libero, folder, _say)
            if self.locomotion is not None:
                record_locomotion(self.locomotion, Path(self.run))


def _say(task: str, of_task: int, of_all: int) -> None:
    logger.info("%s: %d episodes; %d of all tasks", task, of_task, of_all)


@dataclass(frozen=True)
class ReportRecipe:
    """Write the report of the pipeline whose run folder is `pipeline`."""

    stage: Literal["report"]
    run: str
    pipeline: str

    def check(self, made: set[Path], ranks: int | None = None) -> None:
        """The pipeline's folder holds a pipeline.json once it runs."""
        check_alone(self.stage, ranks)

    def is_done(self) -> bool:
        """True once all of it is written."""
        return has_all(Path(self.run), "done.json")

    def execute(self) -> None:
        """Write `report.html` into the pipeline's folder."""
        from eval.report import write_report

        root = Path(self.pipeline)
        if not (root / "pipeline.json").exists():
            raise RecipeError(f"`pipeline: {root}` holds no pipeline.json; it must be a pipeline's run folder.")
        with done_when_whole(Path(self.run)):
            write_report(root, root / "report.html")
