"""The preflight of a rollout recipe: asked for alone (`vla eval RECIPE --preflight`), or before the first episode."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from recipes.loading import RecipeError

if TYPE_CHECKING:
    from eval.preflight.findings import Report
    from eval.suite import Suite

PreflightWish = Literal["refuse", "warn", "off"]


def preflight_wish(said: PreflightWish | bool) -> PreflightWish:
    """What the field says; YAML reads a bare `off` as false."""
    if said is True:
        raise ValueError("preflight: true is none of refuse, warn, off; write `preflight: refuse`")
    return "off" if said is False else said


def look_first(
    run: Path,
    suite: "Suite",
    model: Path | None,
    policy: str,
    demonstrations: str | None,
    cameras: Mapping[str, str],
    robot: str | None,
) -> "Report":
    """Run a preflight, print its table and keep it as `preflight.json` in the run's folder.

    Args:
        run: The run's folder.
        suite: What is to be evaluated on.
        model: The policy's folder; None for a server or a reference, of which nothing is known.
        policy: What the report calls it.
        demonstrations: Folder of recorded episodes.
        cameras: The policy's camera -> the suite's.
        robot: Whose numbers the policy speaks, where it was trained on several.
    """
    from data_mixtures.spaces.embodiments import embodiment_of
    from eval.preflight.checkpoint import Checkpoint
    from eval.preflight.preflight import PreflightConfig, preflight

    checkpoint = None if model is None else Checkpoint.load(model, None if robot is None else embodiment_of(robot))
    config = PreflightConfig(None if demonstrations is None else Path(demonstrations), cameras)
    report = preflight(suite, checkpoint, config, policy)
    report.save(run)
    report.show(Console(stderr=True))
    return report


def passed_before(run: Path) -> bool:
    """Whether the run's folder holds episodes, and a preflight that refused nothing: it is going on."""
    from eval.preflight.findings import FILE_NAME

    if not (run / "episodes.jsonl").exists():
        return False  # what was looked at may have been another recipe's
    try:
        return json.loads((run / FILE_NAME).read_text())["verdict"] in ("passed", "warning")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def refuse(report: "Report", run: Path) -> None:
    """Stop before the first episode where something was refused.

    Raises:
        RecipeError: something was; it says what to do.
    """
    if report.verdict == "refused":
        count = sum(finding.verdict == "refused" for finding in report.findings)
        raise RecipeError(
            f"preflight: {count} of {len(report.findings)} findings are refused (above, and in {run}/preflight.json): "
            "numbers from this evaluation would mean nothing. Mend them, or go on all the same with `preflight: warn`."
        )
