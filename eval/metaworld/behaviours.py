"""Ways of acting in a recorded episode, from the scripted expert to random, so that the data spans expertise."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from eval.metaworld.episode import MetaWorldEpisode, Snapshot

Kind = Literal["expert", "medium", "random", "switch"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Decisions a random command is held: shorter ones average out to no motion at all.
_SHORTEST_BLOCK, _LONGEST_BLOCK = 3, 9

_EARLIEST_SWITCH = 5

# Share of blocks that `medium` leaves to the expert.
_EXPERT_SHARE = 0.6


@dataclass(frozen=True)
class Trajectory:
    """One episode as simulated, not yet drawn.

    Attributes:
        states: [T, 4 or 39] float32, raw observation.state before each command.
        commands: [T, 4] float32 in [-1, 1]: the intended command, without the noise that was executed on top.
        executed: [T, 4] float32: what was carried out, with that noise, before it was clipped to +-1.
        touched: [T] bool, whether an object was touched while the command was carried out; False if not watched.
        snapshots: T moments to draw.
        success: Whether the task succeeded at any simulator step.
        rewards: Sum of the simulator steps' rewards.
    """

    states: NDArray[np.float32]
    commands: NDArray[np.float32]
    executed: NDArray[np.float32]
    touched: NDArray[np.bool_]
    snapshots: list[Snapshot]
    success: bool
    rewards: float


@dataclass(frozen=True)
class Manner:
    """How recorded episodes of every kind are played.

    Attributes:
        noise: Standard deviation of what is executed on top of the expert's commands (which span +-1).
        past_success: Decisions an episode goes on after its first success.
        min_decisions: Shortest episode.
        switch_before: A `switch` episode turns random at a decision from 5 to below this one.
        watch_contacts: Fill `Trajectory.touched`.
    """

    noise: float
    past_success: int
    min_decisions: int
    switch_before: int = 25
    watch_contacts: bool = False


class Behaviour:
    """Chooses commands of one kind.

    `expert`: the scripted expert. `medium`: the expert, with blocks of held random commands in between.
    `random`: such blocks only. `switch`: the expert until a random moment, blocks of random commands after it.
    """

    def __init__(self, kind: Kind, rng: np.random.Generator, max_decisions: int, switch_before: int) -> None:
        self._kind, self._rng = kind, rng
        self._switch_at = {"expert": max_decisions, "medium": max_decisions, "random": 0}.get(
            kind, int(rng.integers(_EARLIEST_SWITCH, switch_before))
        )
        self._block_left, self._held = 0, None

    def _draw_block(self, decision: int) -> NDArray[np.float32] | None:
        """A command to hold, or None for the expert."""
        self._block_left = int(self._rng.integers(_SHORTEST_BLOCK, _LONGEST_BLOCK))
        wants_expert = decision < self._switch_at and (self._kind != "medium" or self._rng.random() < _EXPERT_SHARE)
        return None if wants_expert else self._rng.uniform(-1.0, 1.0, 4).astype(np.float32)

    def command(self, episode: MetaWorldEpisode) -> tuple[NDArray[np.float32], bool]:
        """The intended command [4] and whether it is the expert's."""
        if self._kind == "expert":
            return episode.expert_command(), True
        if self._block_left == 0 or episode.decisions == self._switch_at:
            self._held = self._draw_block(episode.decisions)
        self._block_left -= 1
        return (episode.expert_command(), True) if self._held is None else (self._held, False)


def simulate(
    episode: MetaWorldEpisode, kind: Kind, rng: np.random.Generator, manner: Manner, max_decisions: int
) -> Trajectory:
    """Play one episode without drawing it.

    The expert's commands are executed with Gaussian noise of standard deviation `manner.noise` and stored without it:
    the states visited are wider than the expert's own, the labels are what it would do there. Random commands are
    stored as executed. The episode goes on `manner.past_success` decisions after the first success, to at least
    `manner.min_decisions`, at most to `max_decisions`.
    """
    behaviour = Behaviour(kind, rng, max_decisions, manner.switch_before)
    states, commands, carried_out, touched, snapshots = [], [], [], [], []
    left = manner.past_success
    while episode.decisions < max_decisions and (left > 0 or episode.decisions < manner.min_decisions):
        left -= episode.success_any
        states.append(episode.state)
        snapshots.append(episode.snapshot())
        command, from_expert = behaviour.command(episode)
        executed = command + rng.normal(0.0, manner.noise, 4).astype(np.float32) if from_expert else command
        episode.step(executed, manner.watch_contacts)
        commands.append(command)
        carried_out.append(executed)
        touched.append(episode.touched)
    return Trajectory(
        np.array(states),
        np.array(commands),
        np.array(carried_out),
        np.array(touched),
        snapshots,
        episode.success_any,
        episode.rewards,
    )
