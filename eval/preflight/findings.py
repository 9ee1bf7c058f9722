"""What a preflight found: a verdict for each thing looked at, in words that say what, where, why and what to do."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_mixtures.storage.whole_file import write_whole

Verdict = Literal["passed", "not checked", "warning", "refused"]
_GRAVITY: tuple[Verdict, ...] = ("passed", "not checked", "warning", "refused")
_COLOURS = {"passed": "green", "not checked": "dim", "warning": "yellow", "refused": "bold red"}

Check = Literal["replay", "cases", "states", "pictures", "actions", "protocol", "statistics"]
CHECKS: dict[Check, str] = {
    "actions": "columns of states and actions, by name and unit",
    "statistics": "how the checkpoint's numbers are scaled",
    "protocol": "chunk, steps, rate, readings, cameras",
    "cases": "the same case begins alike, different ones differ",
    "replay": "recorded demonstrations, played open loop",
    "states": "the simulator's states against the checkpoint's",
    "pictures": "the simulator's pictures against the checkpoint's",
}

FILE_NAME = "preflight.json"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: The kind of look, of `CHECKS`.
        verdict: What came out; "refused" means that numbers from such an evaluation would mean nothing.
        where: What it is about by name and unit, as "position x (m)", "camera 'image'".
        what: One sentence with the value found and the value expected.
        cause: The likely cause; "" where there is nothing to explain.
        fix: What to change; "" likewise.
        values: The figures, JSON values.
    """

    check: Check
    verdict: Verdict
    where: str
    what: str
    cause: str = ""
    fix: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        cause = f" Likely cause: {self.cause}." if self.cause else ""
        fix = f" Fix: {self.fix}." if self.fix else ""
        return f"{self.where}: {self.what}.{cause}{fix}"


def worst(findings: Iterable[Finding]) -> Verdict:
    """The gravest verdict; "not checked" where there is no finding."""
    found = {finding.verdict for finding in findings}
    for verdict in reversed(_GRAVITY):
        if verdict in found:
            return verdict
    return "not checked"


@dataclass(frozen=True)
class Report:
    """Everything a preflight found.

    Attributes:
        suite: Its name.
        policy: The checkpoint's name, or what acts in its place.
        findings: In the order of `CHECKS`.
        seconds: What it took.
        facts: The simulator's versions and asset kind.
    """

    suite: str
    policy: str
    findings: Sequence[Finding]
    seconds: float
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """One of "passed", "warning" and "refused": what could not be checked refuses nothing."""
        gravest = worst(self.findings)
        return "passed" if gravest == "not checked" else gravest

    def of(self, check: Check) -> list[Finding]:
        """The findings of one kind."""
        return [finding for finding in self.findings if finding.check == check]

    def save(self, folder: Path) -> None:
        """Write `preflight.json` into a run's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        words = {"verdict": self.verdict, **asdict(self)}
        write_whole(folder / FILE_NAME, json.dumps(words, indent=2, default=float))

    def show(self, console: Console) -> None:
        """A table of verdicts, then every warning and refusal in full."""
        table = Table(title=f"preflight: {self.policy} on {self.suite} ({self.seconds:.0f} s)", title_justify="left")
        for name in ("check", "verdict", "what was found"):
            table.add_column(name)
        for check, words in CHECKS.items():
            found = self.of(check)
            verdict = worst(found)
            table.add_row(f"{check}\n[dim]{words}[/]", f"[{_COLOURS[verdict]}]{verdict}[/]", _summary(found))
        table.add_section()
        table.add_row("verdict", f"[{_COLOURS[self.verdict]}]{self.verdict}[/]", "")
        console.print(table)
        grave = [finding for finding in self.findings if finding.verdict in ("warning", "refused")]
        for (verdict, cause, fix), alike in groupby(grave, key=lambda one: (one.verdict, one.cause, one.fix)):
            lines = [f"[{_COLOURS[verdict]}]{verdict}[/] {escape(f'{one.where}: {one.what}')}" for one in alike]
            lines += [f"  [bold]likely cause[/]: {escape(cause)}"] if cause else []
            lines += [f"  [bold]fix[/]: {escape(fix)}"] if fix else []
            console.print("\n".join(lines), highlight=False, soft_wrap=True)


def _summary(found: Sequence[Finding]) -> str:
    """A line for each of the gravest findings, at most four."""
    if not found:
        return "[dim]nothing to look at[/]"
    gravest = [finding for finding in found if finding.verdict == worst(found)]
    lines = [escape(f"{finding.where}: {finding.what}") for finding in gravest[:4]]
    more = [f"[dim]and {len(gravest) - 4} more[/]"] if len(gravest) > 4 else []
    return "\n".join(lines + more)
