"""Recording and reporting: the recipes around the three stages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eval.metaworld.recording import RecordConfig
from recipes.checks import check_alone
from recipes.finished import done_when_whole, has_all
from recipes.loading import RecipeError


@dataclass(frozen=True)
class RecordRecipe:
    """Record demonstrations in Meta-World; `run` becomes the LeRobot v3.0 data set."""

    stage: Literal["record"]
    run: str
    record: RecordConfig

    def check(self, made: set[Path], ranks: int | None = None) -> None:
        """Nothing is read."""
        check_alone(self.stage, ranks)

    def is_done(self) -> bool:
        """True once all of it is written."""
        return has_all(Path(self.run), "done.json")

    def execute(self) -> None:
        """Record, or go on recording."""
        from eval.metaworld.recording import record

        with done_when_whole(Path(self.run)):
            record(self.record, Path(self.run) / "data")


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
