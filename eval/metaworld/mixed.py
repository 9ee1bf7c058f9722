"""Recording one task's play of mixed expertise, as CLAM learns from it (Liang et al. 2025, section 4, appendices E, H).

The paper's data is the replay of a TD-MPC2 agent on its way from random to expert. Here four ways of acting span the
same range (behaviours.py), a quarter each. Episodes have one length and do not end at success. A stored action is what
was carried out, noise included and clipped, for that is what explains the next observation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from data_mixtures.lerobot.writer import LeRobotWriter
from eval.metaworld.behaviours import KINDS, Kind, Manner
from eval.metaworld.columns import ACTION, state_columns
from eval.metaworld.episode import LONGEST_EPISODE, SIMULATOR_STEP_HZ
from eval.metaworld.parts import (
    EPISODES_PER_SEED,
    Outcome,
    Part,
    Recorded,
    Scene,
    Wanted,
    environment_seed,
    record_in_parts,
    recorded_episodes,
)
from eval.metaworld.recording import check_cameras, fingerprint_of
from eval.metaworld.tasks import metaworld_task

ROBOT_TYPE = "metaworld_full"

_EPISODES_A_PART = 50  # 6 CPU-seconds; compiling the task for them takes a third of one

# Of a recording's groups of initial states; demonstrations have group 0.
_GROUPS = {"play": 1, "labelled": 2, "heldout": 3}


@dataclass(frozen=True)
class MixedConfig:
    """Four data sets of one task, each a folder of the run. A count of 0 leaves its data set out.

    Attributes:
        task: A name from eval/metaworld/tasks.py.
        play: Episodes of every way of acting in turn, whatever became of them: the unlabelled data.
        expert: The first so many of play's expert episodes that succeeded, once more by themselves.
        labelled: Episodes of `labelled_kinds` in turn, so that the first n are as fair a mix as all of them. Experts'
            are kept if they succeed, others if they fail.
        heldout: The same from other initial states, for early stopping.
        labelled_kinds: From `expert`, `medium`, `random`, `switch`.
        decisions: Length of every episode.
        action_repeat: Simulator steps of a decision.
        expert_noise: Standard deviation of the noise executed on top of the expert's commands (which span +-1).
        cameras: From `corner`, `wrist`; none: states only.
        image_size: Pixels a side, even.
        seed: Recordings with different seeds share no initial state, nor does any with a rollout.
        workers: Processes.
    """

    task: str
    play: int = 1000
    expert: int = 50
    labelled: int = 100
    heldout: int = 20
    labelled_kinds: tuple[Kind, ...] = ("random", "medium")
    decisions: int = 100
    action_repeat: int = 2
    expert_noise: float = 0.05
    cameras: tuple[str, ...] = ()
    image_size: int = 64
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        metaworld_task(self.task)
        check_cameras(self.cameras, self.image_size)
        counts = {name: getattr(self, name) for name in ("play", "expert", "labelled", "heldout")}
        for name, count in counts.items():
            if not 0 <= count <= EPISODES_PER_SEED:
                raise ValueError(f"{name}: {count} episodes; use 0 to {EPISODES_PER_SEED}")
        if not any(counts.values()):
            raise ValueError(f"play: all of {list(counts)} are 0, so there is nothing to record")
        if self.expert > (experts := -(-self.play // len(KINDS))):
            raise ValueError(f"expert: {self.expert} of the {experts} experts among play's {self.play}; raise `play`")
        if not self.labelled_kinds or len(set(self.labelled_kinds)) != len(self.labelled_kinds):
            raise ValueError(f"labelled_kinds: {list(self.labelled_kinds)} must name one kind or more, and none twice")
        if self.action_repeat < 1 or not 2 <= self.decisions <= LONGEST_EPISODE // self.action_repeat:
            raise ValueError(
                f"decisions: {self.decisions} of {self.action_repeat} simulator steps; use 2 decisions or more, and "
                f"no more than {LONGEST_EPISODE} steps, where Meta-World stops"
            )
        if self.seed < 0:
            raise ValueError(f"seed: {self.seed} must be 0 or more")


def _outcome(name: str, kind: Kind) -> Outcome:
    if name == "play":
        return "any"
    return "success" if kind == "expert" else "failure"


def _parts(config: MixedConfig, name: str, kinds: Sequence[Kind], folder: Path) -> list[Part]:
    """The work of one data set, a few episodes a part so that processes share it evenly."""
    scene = Scene(config.task, config.action_repeat, "full", config.cameras, config.image_size)
    manner = Manner(config.expert_noise, 0, config.decisions, switch_before=max(config.decisions // 2, 6))
    wanted = []
    for index in range(getattr(config, name)):
        kind = kinds[index % len(kinds)]
        seed = environment_seed(config.seed, index, attempt=0, group=_GROUPS[name])
        wanted.append(Wanted(kind, seed, _outcome(name, kind), config.decisions))
    return [
        Part(folder / f"{name}-{first:05d}.npz", scene, manner, tuple(wanted[first : first + _EPISODES_A_PART]))
        for first in range(0, len(wanted), _EPISODES_A_PART)
    ]


def _all_of(parts: Sequence[Part]) -> Iterator[Recorded]:
    for part in parts:
        yield from recorded_episodes(part)


def _experts(parts: Sequence[Part], count: int) -> Iterator[Recorded]:
    """The first `count` successful experts; ValueError where there are fewer."""
    found = (one for one in _all_of(parts) if one.info["kind"] == "expert" and one.info["success"])
    number = 0
    for number, one in enumerate(islice(found, count), start=1):  # noqa: B007
        yield one
    if number < count:
        raise ValueError(f"expert: {count} are wanted, but {number} of play's experts succeeded; raise `play`")


def _merge(config: MixedConfig, episodes: Callable[[], Iterator[Recorded]], root: Path) -> None:
    state = state_columns("full")
    size = (config.image_size, config.image_size)
    with LeRobotWriter(
        root,
        fps=SIMULATOR_STEP_HZ / config.action_repeat,
        robot_type=ROBOT_TYPE,
        cameras=dict.fromkeys(config.cameras, size),
        features={"observation.state": len(state), "action": len(ACTION)},
        names={"observation.state": [c.name for c in state], "action": [c.name for c in ACTION]},
    ) as writer:
        for episode in episodes():
            writer.add_episode(
                frames=episode.frames,
                columns={"observation.state": episode.states, "action": np.clip(episode.executed, -1.0, 1.0)},
                task=metaworld_task(config.task).instruction,
                info=episode.info,
            )


def record_mixed(config: MixedConfig, folder: Path) -> Path:
    """Record `play`, `expert`, `labelled` and `heldout` into `folder`, or what is missing of them.

    Args:
        config: What to record.
        folder: Its sub-folder `unfinished` holds work under way and is removed at the end.

    Returns:
        `folder`.

    Raises:
        ValueError: a data set is there that was recorded otherwise, or an episode cannot be had.
    """
    folder = Path(folder)
    work = {
        name: _parts(config, name, KINDS if name == "play" else config.labelled_kinds, folder / "unfinished")
        for name in _GROUPS
    }
    merges: dict[Path, Callable[[Path], None]] = {
        folder / name: partial(_merge, config, partial(_all_of, parts)) for name, parts in work.items() if parts
    }
    if config.expert:
        merges[folder / "expert"] = partial(_merge, config, partial(_experts, work["play"], config.expert))
    parts = [part for one in work.values() for part in one]
    record_in_parts(fingerprint_of(config), parts, folder / "unfinished", merges, config.workers)
    return folder
