"""Recording play of mixed expertise on one robot, as CLAM learns from it: the stand-in for D4RL's medium-replay.

    search ──► snapshots.npz ──► play, expert, labelled, heldout (LeRobot v3.0, no cameras)

D4RL's medium-replay is what an agent met until it was half-way good. Here snapshots of a search, from its beginning
up to `medium` of the way to its best, play with noise on their actions, and random actions are among them. A stored
action is what was carried out, noise included and cut to its range, for that is what explains the next observation.
A hopper's episode ends where it falls, as in D4RL.

Each file and folder appears whole; interrupted anywhere, the same call goes on with what is missing and ends with the
same bytes of data on the same machine.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_mixtures.lerobot.writer import LeRobotWriter
from data_mixtures.storage.whole_file import write_whole
from eval.locomotion.episode import LocomotionEpisode
from eval.locomotion.snapshots import SEARCHES, Snapshots, made_from, read_snapshots, train, write_snapshots
from eval.locomotion.tasks import ACTION_REPEAT, MAX_DECISIONS, Robot, locomotion_task

RECORDED_SEEDS_FROM = 1_000_000
"""Initial states of recordings are drawn with seeds from here on; those of rollouts with smaller ones."""

_GROUPS = {"play": 0, "expert": 1, "labelled": 2, "heldout": 3}
_EPISODES_A_GROUP = 100_000
_LARGEST_SEED = 500  # beyond it seeds would meet those snapshots are measured with

# Expert episodes played for each one kept: a few of even a good cheetah's starts end on its back.
_SPARE = 1.25

Acts = Callable[[NDArray[np.float32]], NDArray[np.floating]]


@dataclass(frozen=True)
class LocomotionRecordConfig:
    """Four data sets of one robot, each a folder of the run. A count of 0 leaves its data set out.

    The defaults give about as many decisions as D4RL's HalfCheetah medium-replay has (its 202 episodes of 1000 steps
    are 101,000 decisions of action repeat 2), in more and shorter episodes, since labels are counted in episodes.

    Attributes:
        robot: hopper or halfcheetah.
        play: Episodes of every ability up to `medium`, random actions among them: the unlabelled data.
        expert: Episodes of the search's best snapshot.
        labelled: The same mix as play, from other initial states; the first n are as fair a mix as all of them.
        heldout: The same once more, for early stopping.
        decisions: Length of an episode that does not end in a fall; one of an evaluation is 500.
        medium: The highest return among play's snapshots, as a share of the way from random to expert.
        random_share: Share of play's episodes in which actions are uniformly random.
        noise: Largest standard deviation of the noise on a snapshot's actions (which span +-1), drawn anew for every
            episode.
        expert_noise: The same on the expert's, in every episode.
        seed: Of the search too; recordings with different seeds share no initial state, nor does any with a rollout.
    """

    robot: Robot
    play: int = 400
    expert: int = 100
    labelled: int = 100
    heldout: int = 20
    decisions: int = 250
    medium: float = 0.5
    random_share: float = 0.2
    noise: float = 0.3
    expert_noise: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        locomotion_task(self.robot)
        counts = {name: getattr(self, name) for name in _GROUPS}
        for name, count in counts.items():
            if not 0 <= count <= _EPISODES_A_GROUP // 2:
                raise ValueError(f"{name}: {count} episodes; use 0 to {_EPISODES_A_GROUP // 2}")
        if not any(counts.values()):
            raise ValueError(f"play: all of {list(counts)} are 0, so there is nothing to record")
        if not 2 <= self.decisions <= MAX_DECISIONS:
            raise ValueError(f"decisions: {self.decisions} must lie in 2 to {MAX_DECISIONS}, an episode's end")
        for name in ("medium", "random_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is a share, from 0 to 1")
        for name in ("noise", "expert_noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is a standard deviation; use 0 or more")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise ValueError(f"seed: {self.seed} must lie in 0 to {_LARGEST_SEED}")


@dataclass(frozen=True)
class Recorded:
    """One episode of T decisions.

    Attributes:
        states: float32 [T, observations], before each action.
        actions: float32 [T, actions] in [-1, 1], as carried out.
        info: What else is kept of it: kind, seed, return (of these T decisions), fallen, and the snapshot's round.
    """

    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    info: dict[str, str | int | float | bool]


def environment_seed(seed: int, group: str, index: int) -> int:
    """An episode's initial state; distinct over all arguments."""
    return RECORDED_SEEDS_FROM * (seed + 1) + _EPISODES_A_GROUP * _GROUPS[group] + index


def spread(index: int) -> float:
    """The index-th number of van der Corput's sequence in base 2: the first n, whatever n, fill 0 to 1 evenly."""
    value, part = 0.0, 0.5
    while index:
        value, index, part = value + part * (index & 1), index >> 1, part / 2
    return value


def record_locomotion(config: LocomotionRecordConfig, folder: Path) -> Path:
    """Record `play`, `expert`, `labelled` and `heldout` into `folder`, or what is missing of them.

    Beside them `snapshots.npz` has the search's policies, and `references.json` the returns of random actions and of
    the expert as this machine measured them.

    Args:
        config: What to record.
        folder: The run's.

    Returns:
        `folder`.

    Raises:
        ValueError: a data set is there that was recorded otherwise.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fingerprint = json.dumps(asdict(config), indent=2, sort_keys=True)
    wanted = [name for name in _GROUPS if getattr(config, name)]
    missing = [name for name in wanted if not _is_recorded(folder / name, fingerprint)]
    if not missing:
        return folder
    snapshots = _snapshots(config, folder / "snapshots.npz")
    write_whole(folder / "references.json", json.dumps(asdict(snapshots.references)))
    for name in missing:
        episodes = _experts(config, snapshots) if name == "expert" else _mixed(config, name, snapshots)
        _write(config, folder / name, fingerprint, episodes)
    return folder


def _is_recorded(root: Path, fingerprint: str) -> bool:
    """Whether the data set is there; ValueError where another one is."""
    marker = root / "meta" / "recording.json"
    if root.exists() and not (marker.exists() and marker.read_text() == fingerprint):
        raise ValueError(f"root: {root} exists and was not recorded from this configuration; name another or delete it")
    return root.exists()


def _snapshots(config: LocomotionRecordConfig, path: Path) -> Snapshots:
    """Those of the search, from the file where an interrupted recording left it."""
    text = made_from(locomotion_task(config.robot), SEARCHES[config.robot], config.seed)
    if path.exists():
        snapshots, theirs = read_snapshots(path)
        if theirs != text:
            raise ValueError(f"{path} is of another search; name another run folder or delete it")
        return snapshots
    snapshots = train(config.robot, SEARCHES[config.robot], config.seed)
    write_snapshots(path, snapshots, text)
    return snapshots


def _mixed(config: LocomotionRecordConfig, group: str, snapshots: Snapshots) -> Iterator[Recorded]:
    """Episodes of every ability in turn: the first n are as fair a mix as all of them, whatever n."""
    episode, randoms = LocomotionEpisode(config.robot, seed=0), 0
    for index in range(getattr(config, group)):
        seed = environment_seed(config.seed, group, index)
        draws = np.random.default_rng([seed, 1])
        if int((index + 1) * config.random_share) > randoms:
            randoms += 1
            yield _recorded(episode, partial(_random_action, draws, episode.model.nu), seed, config, {"kind": "random"})
            continue
        snapshot = snapshots.nearest(config.medium * spread(index - randoms))
        noise = float(draws.uniform(0.0, config.noise))
        info = {"kind": "snapshot", "round": snapshot.round, "noise": noise}
        yield _recorded(episode, partial(_noisy, draws, snapshot.policy, noise), seed, config, info)


def _experts(config: LocomotionRecordConfig, snapshots: Snapshots) -> Iterator[Recorded]:
    """The best of a few more episodes than are wanted, in the order they were played."""
    episode, policy = LocomotionEpisode(config.robot, seed=0), snapshots.expert.policy
    played = []
    for index in range(int(np.ceil(config.expert * _SPARE))):
        seed = environment_seed(config.seed, "expert", index)
        acts = partial(_noisy, np.random.default_rng([seed, 1]), policy, config.expert_noise)
        info = {"kind": "expert", "round": snapshots.expert.round, "noise": config.expert_noise}
        played.append(_recorded(episode, acts, seed, config, info))
    best = sorted(range(len(played)), key=lambda place: -float(played[place].info["return"]))[: config.expert]
    return (played[place] for place in sorted(best))


def _noisy(draws: np.random.Generator, policy: Acts, noise: float, observation: NDArray[np.float32]) -> NDArray:
    # Cut before the noise: a search's weights grow, and what reaches far beyond the range would hide it.
    action = np.clip(policy(observation), -1.0, 1.0)
    return action + noise * draws.standard_normal(len(action))


def _random_action(draws: np.random.Generator, width: int, observation: NDArray[np.float32]) -> NDArray[np.float64]:
    return draws.uniform(-1.0, 1.0, width)


def _recorded(
    episode: LocomotionEpisode,
    acts: Acts,
    seed: int,
    config: LocomotionRecordConfig,
    info: dict[str, str | int | float],
) -> Recorded:
    """Play one episode to its limit or a fall."""
    episode.reset(seed)
    states, actions = [], []
    while len(states) < config.decisions and not episode.fallen:
        states.append(episode.observation)
        actions.append(np.clip(acts(states[-1]), -1.0, 1.0).astype(np.float32))
        episode.step(actions[-1])
    outcome = {"seed": seed, "return": float(episode.total), "fallen": episode.fallen}
    return Recorded(np.array(states), np.array(actions), {"environment": config.robot, **info, **outcome})


def _write(config: LocomotionRecordConfig, root: Path, fingerprint: str, episodes: Iterator[Recorded]) -> None:
    task = locomotion_task(config.robot)
    names = {"observation.state": list(task.state_names), "action": list(task.actuators)}
    features = {name: len(columns) for name, columns in names.items()}
    writer = LeRobotWriter(root, task.step_hz / ACTION_REPEAT, task.robot_type, {}, features, names=names)
    try:
        for one in episodes:
            columns = {"observation.state": one.states, "action": one.actions}
            writer.add_episode({}, columns, task.instruction, info=one.info)
    except BaseException:
        writer.abort()
        raise
    writer.finish(beside={"meta/recording.json": fingerprint})
