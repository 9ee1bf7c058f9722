"""Rollout rows, gathered by arm, task and number of labelled demonstrations."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.intervals import Rate
from eval.report.run_folder import Run, Step


@dataclass(frozen=True)
class Arm:
    """How an arm is named on the page; `role` is method, control or reference (no student at all)."""

    key: str
    label: str
    phrase: str  # as it stands in a sentence after "beats"
    what: str
    role: str


ARMS = (
    Arm("distilled", "Distilled", "distillation", "the teacher's latents and sub-task text, then fine-tuned", "method"),
    Arm("scratch", "From scratch", "training from scratch", "the same student, fine-tuned only", "control"),
    Arm("bc", "Behaviour cloning", "plain behaviour cloning", "pre-trained on stage 1's labels", "control"),
    Arm("pca", "PCA control", "the PCA control", "pre-trained on a PCA of the future frame; no teacher", "control"),
    Arm("expert", "Scripted expert", "the scripted expert", "privileged state; the ceiling", "reference"),
    Arm("random", "Random policy", "the random policy", "the floor", "reference"),
)
_KNOWN = {arm.key: arm for arm in ARMS}


def arm_of(key: str) -> Arm:
    """The arm of that name; one this page does not know is a control under its own name."""
    return _KNOWN.get(key) or Arm(key, key, key, "", "control")


@dataclass(frozen=True)
class Rollout:
    """One episode of one policy from one starting state; `train_seed` is the policy's training.

    The starting state is `setting`, `init` and `seed` together: in some suites all episodes of a task have one seed.
    """

    arm: str
    suite: str
    task: str
    seed: int
    demos: int | None
    train_seed: int | None
    success: bool  # solved at any step: the reading this page quotes
    success_final: bool
    steps: int
    video: Path | None
    step: Step
    init: int = 0
    setting: str = ""
    repeat: int | None = None  # the policy's seed; None where it draws nothing

    @property
    def start(self) -> tuple[str, str, str]:
        """What two arms share when they are compared: suite, task and starting state, in an order that sorts."""
        return self.suite, self.task, f"{self.setting}/{self.init:06d}/{self.seed:09d}"


@dataclass(frozen=True)
class Facet:
    """All episodes at one number of labelled demonstrations a task (None: the rows do not say)."""

    demos: int | None
    rollouts: tuple[Rollout, ...]

    @property
    def arms(self) -> list[Arm]:
        """The arms present: the known ones in their fixed order, then the others by name."""
        present = {r.arm for r in self.rollouts}
        return [a for a in ARMS if a.key in present] + [arm_of(k) for k in sorted(present - _KNOWN.keys())]

    @property
    def tasks(self) -> list[tuple[str, str]]:
        """(suite, task) pairs in the order in which they were rolled out."""
        return list(dict.fromkeys((r.suite, r.task) for r in self.rollouts))

    def of(self, arm: str, task: tuple[str, str] | None = None, train_seed: int | None = None) -> list[Rollout]:
        """The rows of one arm, of one task or training seed where given."""
        return [
            r
            for r in self.rollouts
            if r.arm == arm
            and (task is None or (r.suite, r.task) == task)
            and (train_seed is None or r.train_seed == train_seed)
        ]

    def train_seeds(self, arm: str) -> list[int]:
        """The training seeds of one arm; empty for references."""
        return sorted({r.train_seed for r in self.of(arm) if r.train_seed is not None})

    @property
    def words(self) -> str:
        """`2 demonstrations a task`."""
        if self.demos is None:
            return "an unstated number of demonstrations"
        return f"{self.demos} demonstration{'' if self.demos == 1 else 's'} a task"


def tally(rollouts: Iterable[Rollout], final: bool = False) -> Rate:
    """Count the successes, at any step or (`final`) at the last one."""
    outcomes = [r.success_final if final else r.success for r in rollouts]
    return Rate(sum(outcomes), len(outcomes))


def read_rollouts(run: Run) -> list[Rollout]:
    """Every episode of the run; one that was written twice (after a resume) counts once, the later row."""
    found: dict[tuple[Any, ...], Rollout] = {}
    repeated = 0
    for step in run.of_kind("rollout"):
        path = step.folder / "episodes.jsonl"
        bad = unplayed = 0
        for row in run.rows(path):
            if row.get("error"):
                unplayed += 1
                continue
            rollout = _rollout(row, step)
            if rollout is None:
                bad += 1
                continue
            key = (rollout.arm, rollout.demos, rollout.train_seed, rollout.repeat, *rollout.start)
            repeated += key in found
            found[key] = rollout
        if bad:
            run.problems.append(f"{step.name}/episodes.jsonl: {bad} rows lack policy, task, init, seed or success_any.")
        if unplayed:
            words = f"{unplayed} episode{'' if unplayed == 1 else 's'} could not be played, and"
            run.problems.append(f"{step.name}: {words} count{'s' if unplayed == 1 else ''} nowhere.")
    if repeated:
        run.problems.append(f"{repeated} rollout rows repeat an earlier episode; each episode counts once.")
    return list(found.values())


def facets(rollouts: list[Rollout]) -> list[Facet]:
    """One facet for each number of demonstrations, fewest first; references stand in all of them."""
    references = tuple(r for r in rollouts if arm_of(r.arm).role == "reference")
    students = [r for r in rollouts if arm_of(r.arm).role != "reference"]
    counts = sorted({r.demos for r in students}, key=lambda d: (d is None, d or 0))
    if not counts and references:
        return [Facet(None, references)]
    return [Facet(d, tuple(r for r in students if r.demos == d) + references) for d in counts]


def _rollout(row: dict[str, Any], step: Step) -> Rollout | None:
    try:
        arm, success = str(row["policy"]), bool(row["success_any"])
        reference, labels = arm_of(arm).role == "reference", row.get("labels") or {}
        return Rollout(
            arm=arm,
            suite=str(row.get("suite") or ""),
            task=str(row["task"]),
            seed=int(row["seed"]),
            demos=None if reference else _whole(labels.get("demos")),
            train_seed=None if reference else _whole(labels.get("train_seed")),
            success=success,
            success_final=bool(row.get("success_final", success)),
            steps=int(row.get("steps") or 0),
            video=_video(step, row.get("video")),
            step=step,
            init=int(row["init"]),
            setting=str(row.get("setting") or ""),
            repeat=_whole(row.get("policy_seed")),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _video(step: Step, name: Any) -> Path | None:
    """The video's path if it lies inside the step's folder; a row cannot make the page read another file."""
    if not name:
        return None
    path = (step.folder / str(name)).resolve()
    return path if path.is_relative_to(step.folder.resolve()) else None
