"""Recording, rolling out and reporting: the recipes around the three stages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eval.record import RecordConfig
from eval.rollout import RolloutConfig
from recipes.checks import check_alone, check_input
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
        from eval.record import record

        with done_when_whole(Path(self.run)):
            record(self.record, Path(self.run) / "data")


@dataclass(frozen=True)
class RolloutRecipe:
    """Roll a policy out; `policy` is a run folder with a `model`, or `expert` or `random`.

    `arm`, `demos` and `train_seed` are columns of every row of results.jsonl.
    """

    stage: Literal["rollout"]
    run: str
    policy: str
    rollout: RolloutConfig
    arm: str
    demos: int | None = None
    train_seed: int | None = None

    def check(self, made: set[Path], ranks: int | None = None) -> None:
        """The policy is there, or will be."""
        check_alone(self.stage, ranks)
        if self.policy not in ("expert", "random"):
            check_input("policy", self.policy, made, "fine-tune it first, or write `expert` or `random`.", part="model")

    def is_done(self) -> bool:
        """True once all of it is written."""
        return has_all(Path(self.run), "done.json")

    def execute(self) -> None:
        """Roll out, or go on."""
        from eval.rollout import rollout, rollout_expert, rollout_random
        from vla.policy import Policy

        run = Path(self.run)
        labels = {"demos": self.demos, "train_seed": self.train_seed}
        with done_when_whole(run):
            if self.policy == "expert":
                rollout_expert(self.rollout, run)
            elif self.policy == "random":
                rollout_random(self.rollout, run)
            else:
                policy = Policy.from_pretrained(Path(self.policy) / "model")
                rollout(policy, self.rollout, run, self.arm, labels)


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
