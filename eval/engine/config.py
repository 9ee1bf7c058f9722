"""How a run is carried out: nothing here decides what an episode's result is, but for `policy_seed`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class EngineConfig:
    """Processes, batching, films and limits.

    Attributes:
        processes: Simulator processes; one a core.
        slots: Episodes under way in each process, between which a policy's batch is gathered; None: the suite's most.
        wait_ms: How long the first observation waits for others before the policy is asked. None: until every episode
            under way has one, so that batches, and with them roundings, repeat exactly; 0: not at all. Drivers that
            take no notice of neighbours are asked at once whatever this says.
        policy_seed: The policy's draws follow from it, the case's seed and the step; repeats differ in it.
        shard: "2/4": the second, fifth-after-first, ... of every four cases, into a folder of its own.
        videos: Films kept of each task, of each outcome that occurs.
        video_size: Their height in pixels, even.
        timeout_s: Time one request may take a simulator (start, reset, a chunk's actions, a film) before it is taken
            to hang.
        attempts: Times a case is played when the simulator hangs or dies in it, before it is given up.
    """

    processes: int = 1
    slots: int | None = None
    wait_ms: float | None = None
    policy_seed: int = 0
    shard: str = "1/1"
    videos: int = 1
    video_size: int = 128
    timeout_s: float = 180.0
    attempts: int = 3

    def __post_init__(self) -> None:
        for name, least in {"processes": 1, "slots": 1, "policy_seed": 0, "videos": 0, "attempts": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: {value} is too small; use {least} or more")
        if self.policy_seed >= 1_000_000:
            raise ValueError(f"policy_seed: {self.policy_seed} is too large; use less than 1,000,000")
        if self.wait_ms is not None and not 0 <= self.wait_ms <= 60_000:
            raise ValueError(f"wait_ms: {self.wait_ms} must lie in 0 to 60000 milliseconds, or be null")
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s: {self.timeout_s} must be above 0 seconds")
        if self.videos and (self.video_size < 16 or self.video_size % 2):
            raise ValueError(f"video_size: {self.video_size} must be even and at least 16")
        parsed = re.fullmatch(r"(\d+)/(\d+)", self.shard)
        if not parsed or not 1 <= int(parsed[1]) <= int(parsed[2]):
            raise ValueError(f"shard: {self.shard!r} is no share; write 1/4, 2/4, 3/4 or 4/4 for quarters")

    def share(self, cases: Sequence[Item]) -> list[Item]:
        """This shard's items, dealt round in turn so that every shard meets every task."""
        which, number = (int(part) for part in self.shard.split("/"))
        return list(cases[which - 1 :: number])
