"""Recorded demonstrations, played open loop: they succeeded when they were recorded, so they must succeed here."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from data_mixtures.lerobot.layout import EXECUTED_COLUMN
from eval.preflight.action_causes import changes
from eval.preflight.demonstrations import Demonstration
from eval.preflight.findings import Finding
from eval.preflight.playing import Player
from eval.suite import Suite, View

_LOOKS = 8  # views drawn along one replay, the first and the last among them
_CAUSES_TRIED_ON = 2  # failing demonstrations that every possible cause is tried on


@dataclass(frozen=True)
class Replay:
    """One demonstration as it went here.

    Attributes:
        demonstration: What was played.
        success: Whether the task was solved at any moment.
        steps: Actions carried out.
        looks: (actions carried out before it, view), from the reset on.
    """

    demonstration: Demonstration
    success: bool
    steps: int
    looks: list[tuple[int, View]] = field(default_factory=list)


def play(player: Player, demonstration: Demonstration, looks: int = _LOOKS) -> Replay:
    """Play a demonstration's actions from where it began, looking `looks` times on the way."""
    seen = [(0, player.reset(demonstration.case))]
    ends = np.unique(np.linspace(0, len(demonstration), looks).round().astype(int))[1:].tolist()
    done, success = 0, False
    for end in ends:
        stepped = player.step(demonstration.actions[done:end], look=end < len(demonstration))
        done, success = end, success or stepped.success
        if stepped.view is not None:
            seen.append((end, stepped.view))
        if stepped.over:
            break
    return Replay(demonstration, success, done, seen)


def check_replays(player: Player, suite: Suite, replays: Sequence[Replay]) -> list[Finding]:
    """A finding a replay that failed, with the cause found by trying; or one that says that all succeeded."""
    failed = [replay for replay in replays if not replay.success]
    figures = {"played": len(replays), "succeeded": len(replays) - len(failed)}
    words = f"{figures['succeeded']} of {len(replays)} recorded demonstrations succeed when their actions are replayed"
    if not failed:
        return [Finding("replay", "passed", suite.name, words, values=figures)]
    cause, fix = _cause(player, suite, [replay.demonstration for replay in failed[:_CAUSES_TRIED_ON]])
    most = 2 * len(failed) < len(replays)
    if most and cause is None:
        cause = "noise that was carried out and not recorded, or a simulator that differs slightly"
        fix = f"record what was carried out (the column {EXECUTED_COLUMN!r}), or compare versions"
    where = ", ".join(f"{r.demonstration.case.task} {r.demonstration.key} failed" for r in failed[:3])
    return [
        Finding(
            "replay",
            "warning" if most else "refused",
            suite.name,
            f"{words} ({where})",
            cause
            or "none that was tried mends it: compare the simulator's version and assets, the initial states, "
            "the control mode and the control period with those of the recording",
            fix or "make a recorded demonstration succeed before any policy is judged",
            figures,
        )
    ]


def _cause(player: Player, suite: Suite, failed: Sequence[Demonstration]) -> tuple[str | None, str | None]:
    """The first change of the actions under which all of the failed demonstrations succeed."""
    for words, fix, change in changes(suite):
        if all(_succeeds(player, demonstration, change(demonstration)) for demonstration in failed):
            return f"{words}: with that undone the demonstrations succeed", fix
    return None, None


def _succeeds(player: Player, demonstration: Demonstration, actions: np.ndarray) -> bool:
    player.begin(demonstration.case)
    return player.step(actions, look=False).success
