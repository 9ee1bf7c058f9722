"""Policies of every ability: a search's snapshots, each with the return it reaches.

A search's returns swing from round to round, so every round's policy is kept and the best of them is the expert, not
the last.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_mixtures.storage.whole_file import write_whole
from eval.locomotion.ars import LinearPolicy, SearchConfig, search
from eval.locomotion.episode import LocomotionEpisode
from eval.locomotion.tasks import ACTION_REPEAT, MAX_DECISIONS, LocomotionTask, References, Robot

SEARCHES: dict[Robot, SearchConfig] = {
    "hopper": SearchConfig(
        80, 8, 4, step_size=0.02, noise=0.03, decisions=500, measured=4, judged_at=30, least_return=300
    ),
    "halfcheetah": SearchConfig(
        100, 12, 6, step_size=0.03, noise=0.04, decisions=125, measured=4, judged_at=40, least_return=400
    ),
}
"""Found by trying: short, and their best rounds near the best linear policies that were found for either robot."""

# Initial states that snapshots are measured from: apart from those of searches, recordings and rollouts.
_MEASURED_FROM = 900_000_000
_CLOSELY, _CANDIDATES = 24, 5

# A third of Hopper's searches fail.
_ATTEMPTS = 8


@dataclass(frozen=True)
class Snapshot:
    """A policy on its way.

    Attributes:
        policy: Acts.
        round: Updates before it.
        mean_return: Over a few whole episodes.
    """

    policy: LinearPolicy
    round: int
    mean_return: float


@dataclass(frozen=True)
class Snapshots:
    """A whole search.

    Attributes:
        all: In the order of rounds.
        expert: The best of them, its return measured closely; over the starts it was chosen by, so on the high side.
        references: Returns of random actions and of the expert.
    """

    all: Sequence[Snapshot]
    expert: Snapshot
    references: References

    def nearest(self, level: float) -> Snapshot:
        """The snapshot whose return is nearest a share of the way from random (0) to expert (1)."""
        random, expert = self.references.random, self.references.expert
        wanted = random + level * (expert - random)
        return min(self.all, key=lambda one: abs(one.mean_return - wanted))


def play(
    episode: LocomotionEpisode, policy: LinearPolicy, seed: int, decisions: int
) -> tuple[float, NDArray[np.float32]]:
    """Play a policy without noise until the limit or a fall: the return, and the observations [n, width] met."""
    episode.reset(seed)
    met: list[NDArray[np.float32]] = []
    while len(met) < decisions and not episode.fallen:
        met.append(episode.observation)
        episode.step(policy(met[-1]))
    return episode.total, np.array(met)


def train(robot: Robot, config: SearchConfig, seed: int) -> Snapshots:
    """Search for a policy and measure all it passes through; about a minute on one core.

    Raises:
        ValueError: every search of this seed went nowhere.
    """
    episode = LocomotionEpisode(robot, seed=0)
    for attempt in range(_ATTEMPTS):
        if found := _searched(episode, config, (seed, attempt)):
            return Snapshots(found, *_best(episode, found))
    raise ValueError(f"seed: {_ATTEMPTS} searches from {seed} went nowhere on {robot}; choose another")


def _searched(episode: LocomotionEpisode, config: SearchConfig, seed: tuple[int, int]) -> list[Snapshot]:
    """One search's policies; none where it went nowhere.

    The bonus for being upright is taken out of what the search sees: with it, standing still is hard to leave
    (Mania, Guy and Recht, section 4.1).
    """
    bonus = episode.task.alive_reward * ACTION_REPEAT

    def trial(policy: LinearPolicy, start: int) -> tuple[float, NDArray[np.float32]]:
        total, met = play(episode, policy, start, config.decisions)
        return total - bonus * len(met), met

    found: list[Snapshot] = []
    for policy in search(config, (len(episode.observation), episode.model.nu), trial, seed):
        found.append(Snapshot(policy, len(found), measured(episode, policy, config.measured)))
        if len(found) > config.judged_at and max(one.mean_return for one in found) < config.least_return:
            return []
    return found


def _best(episode: LocomotionEpisode, found: Sequence[Snapshot]) -> tuple[Snapshot, References]:
    candidates = sorted(found, key=lambda one: -one.mean_return)[:_CANDIDATES]
    closely = [replace(one, mean_return=measured(episode, one.policy, _CLOSELY)) for one in candidates]
    expert = max(closely, key=lambda one: one.mean_return)
    return expert, References(_random_return(episode), expert.mean_return)


def measured(episode: LocomotionEpisode, policy: LinearPolicy, episodes: int) -> float:
    """Mean return over whole episodes."""
    returns = [play(episode, policy, _MEASURED_FROM + i, MAX_DECISIONS)[0] for i in range(episodes)]
    return float(np.mean(returns))


def _random_return(episode: LocomotionEpisode) -> float:
    returns = []
    for index in range(_CLOSELY):
        draws = np.random.default_rng([_MEASURED_FROM, index])
        episode.reset(_MEASURED_FROM + index)
        for _ in range(MAX_DECISIONS):
            episode.step(draws.uniform(-1.0, 1.0, episode.model.nu))
        returns.append(episode.total)
    return float(np.mean(returns))


def write_snapshots(path: Path, snapshots: Snapshots, made_from: str) -> None:
    """Write them as one .npz without pickles; `made_from` says what they are a function of."""
    everyone = [*snapshots.all, snapshots.expert]
    sink = io.BytesIO()
    np.savez_compressed(
        sink,
        allow_pickle=False,
        made_from=np.array(made_from),
        references=np.array([snapshots.references.random, snapshots.references.expert]),
        weights=np.array([one.policy.weights for one in everyone]),
        mean=np.array([one.policy.mean for one in everyone]),
        std=np.array([one.policy.std for one in everyone]),
        round=np.array([one.round for one in everyone]),
        mean_return=np.array([one.mean_return for one in everyone]),
    )
    write_whole(path, sink.getvalue())


def read_snapshots(path: Path) -> tuple[Snapshots, str]:
    """What `write_snapshots` wrote, and what they were made from.

    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            everyone = list(_stored(stored))
            random, expert = stored["references"].tolist()
            return Snapshots(everyone[:-1], everyone[-1], References(random, expert)), str(stored["made_from"])
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{path} holds no snapshots ({error}): record the robot first, or again") from error


def _stored(stored: "np.lib.npyio.NpzFile") -> Iterator[Snapshot]:
    parts = (stored[name] for name in ("weights", "mean", "std", "round", "mean_return"))
    for weights, mean, std, number, mean_return in zip(*parts, strict=True):
        yield Snapshot(LinearPolicy(weights, mean, std), int(number), float(mean_return))


def made_from(task: LocomotionTask, config: SearchConfig, seed: int) -> str:
    """What decides a search's snapshots, as text; versions of MuJoCo are not in it."""
    return json.dumps({"robot": task.name, "search": asdict(config), "seed": seed}, sort_keys=True)
