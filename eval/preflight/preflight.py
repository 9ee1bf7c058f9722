"""The whole preflight: what is written is compared first, then a simulator is looked at, then demonstrations played."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from eval.preflight.case_check import check_begun, check_listed
from eval.preflight.checkpoint import Checkpoint
from eval.preflight.column_check import check_columns
from eval.preflight.demonstrations import Demonstrations, read_demonstrations
from eval.preflight.findings import CHECKS, Finding, Report
from eval.preflight.picture_check import check_pictures, compare_frames
from eval.preflight.playing import Player, open_player
from eval.preflight.protocol_check import check_instructions, check_protocol, check_statistics
from eval.preflight.replay_check import Replay, check_replays, play
from eval.preflight.state_check import UNKNOWN, check_states, compare_states
from eval.suite import Suite, View

OpenPlayer = Callable[[Suite, float], AbstractContextManager[Player]]


@dataclass(frozen=True)
class PreflightConfig:
    """What is looked at before the first episode.

    Attributes:
        demonstrations: Folder of recorded episodes of the suite's tasks; None plays none.
        cameras: The policy's camera -> the suite's, where they are called differently.
        episodes: How many demonstrations are played, of as many tasks as possible.
        timeout_s: Time one request may take the simulator.
    """

    demonstrations: Path | None = None
    cameras: Mapping[str, str] = field(default_factory=dict)
    episodes: int = 3
    timeout_s: float = 180.0

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"preflight.episodes is {self.episodes}: play at least 1 demonstration")
        if not self.timeout_s > 0:
            raise ValueError(f"preflight.timeout_s is {self.timeout_s}: give seconds above 0")


def preflight(
    suite: Suite,
    checkpoint: Checkpoint | None,
    config: PreflightConfig,
    policy: str = "",
    open_simulator: OpenPlayer = open_player,
) -> Report:
    """Look at everything that can be looked at before the first episode.

    Args:
        suite: What is to be evaluated on.
        checkpoint: What is to be evaluated; None for a reference, or a server that says nothing of its training.
        config: What to look at.
        policy: What acts, for the report; the checkpoint's name by default.
        open_simulator: Starts the suite's simulator.

    Raises:
        ValueError: the demonstrations cannot be read, or the simulator cannot be started; nothing was found out.
    """
    began = time.perf_counter()
    demonstrations = _demonstrations(suite, config)
    found = [*_written(suite, checkpoint, demonstrations), *check_listed(suite)]
    with open_simulator(suite, config.timeout_s) as player:
        begun, views = check_begun(player, suite)
        replays = [play(player, one) for one in demonstrations.chosen]
        found += [*begun, *_replayed(player, suite, replays, checkpoint)]
        facts = player.facts
    views = [_renamed(view, config.cameras) for view in [*views, *_trustworthy(replays)]]
    found += check_protocol(suite, checkpoint, demonstrations.chosen, views[0])
    if checkpoint is not None:
        told = [(one.cause, one.fix) for one in found if one.check == "states" and one.cause not in ("", UNKNOWN)]
        found += check_pictures(checkpoint, {name: [view.images[name] for view in views] for name in views[0].images})
        states, moving = np.stack([view.state for view in views]), any(replay.success for replay in replays)
        found += check_states(suite, checkpoint, states, moving, told[0] if told else None)
    order = list(CHECKS)
    found.sort(key=lambda finding: order.index(finding.check))
    name = policy or (checkpoint.name if checkpoint is not None else "no checkpoint")
    return Report(suite.name, name, found, time.perf_counter() - began, facts)


def _demonstrations(suite: Suite, config: PreflightConfig) -> Demonstrations:
    if config.demonstrations is None:
        return Demonstrations([], np.empty((0, len(suite.action)), np.float32))
    return read_demonstrations(config.demonstrations, suite, config.episodes)


def _written(suite: Suite, checkpoint: Checkpoint | None, demonstrations: Demonstrations) -> list[Finding]:
    if checkpoint is None:
        words = "what acts says nothing of its columns and statistics"
        return [Finding("actions", "not checked", "policy", words)]
    return [*check_columns(suite, checkpoint), *check_statistics(checkpoint, demonstrations.labels)]


def _replayed(player: Player, suite: Suite, replays: Sequence[Replay], checkpoint: Checkpoint | None) -> list[Finding]:
    """Success, and that states and pictures on the way are those that were recorded."""
    if not replays:
        fix = "name a data set of this suite's demonstrations, as `vla data generate` makes them"
        words = "no demonstrations were given, so nothing shows that actions are understood"
        return [Finding("replay", "not checked", suite.name, words, fix=fix)]
    found = check_replays(player, suite, replays)
    begun = [(replay.demonstration, replay.looks[0][1]) for replay in replays]
    found += check_instructions(begun)
    robot = None if checkpoint is None else checkpoint.robot
    found += compare_states(suite, [(one.states[0], view.state) for one, view in begun], robot)
    return found + _pictures(replays[0])


def _pictures(replay: Replay) -> list[Finding]:
    """The first moment of a replay: it is the same one that was recorded."""
    one, view = replay.demonstration, replay.looks[0][1]
    names = [camera for camera in one.cameras if camera in view.images]
    recorded = {camera: one.frames(camera, np.array([0])) for camera in names}
    return compare_frames(one.key, recorded, {camera: view.images[camera][None] for camera in names})


def _renamed(view: View, cameras: Mapping[str, str]) -> View:
    """As the policy is shown it: by its own names, and without cameras it is not given."""
    if not cameras:
        return view
    return replace(view, images={own: view.images[name] for own, name in cameras.items() if name in view.images})


def _trustworthy(replays: Sequence[Replay]) -> list[View]:
    """Views along replays; only the first of one that failed, which then went where no demonstration was."""
    return [view for replay in replays for step, view in replay.looks if replay.success or step == 0]
