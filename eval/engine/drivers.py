"""What acts in episodes: a policy, or a reference that needs none. A server's driver is in server_driver.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eval.engine.looking_back import LooksBack, Memory
from eval.suite import Case, Suite, View
from vla.observation import Observation

NO_WEIGHTS = "none"


@dataclass(frozen=True)
class Ask:
    """An episode that waits for actions.

    Attributes:
        case: Which.
        step: Actions it has carried out.
        seed: Of what is drawn at this moment; the same whenever the episode is played.
        view: What can be seen now; None where the driver does not look.
    """

    case: Case
    step: int
    seed: int
    view: View | None


class Driver(Protocol):
    """Plans the actions of episodes under way.

    Attributes:
        name: What it is, for protocol.json.
        looks: Whether it needs pictures and states; they are not drawn for one that does not.
        batched: Whether what is asked together can change an answer's rounding: then batches are made repeatable.
        scripted: The simulators' own expert acts, replanning at every action; `plan` is not called.
        draws: Whether its actions depend on `Ask.seed`.
    """

    name: str
    looks: bool
    batched: bool
    scripted: bool
    draws: bool

    @property
    def checkpoint(self) -> str:
        """SHA-256 of the weights, hex; "none" where there are none, or nobody says."""
        ...

    def begin(self, suite: Suite) -> None:
        """Before the first episode; ValueError where this driver cannot act in this suite."""
        ...

    def plan(self, asks: Sequence[Ask]) -> Sequence[NDArray[np.float32]]:
        """For each, actions [suite.execute, action_dim] in the robot's raw columns."""
        ...

    def end(self) -> None:
        """After the last episode, or what ended the run before it."""
        ...


class ChunkPolicy(Protocol):
    """What is asked of a policy in this process: `vla.policy.Policy` has it."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras it looks through."""
        ...

    @property
    def horizon(self) -> int:
        """Actions of a chunk."""
        ...

    @property
    def state_dim(self) -> int:
        """Numbers of a state."""
        ...

    @property
    def action_dim(self) -> int:
        """Numbers of an action."""
        ...

    def act_many(self, observations: Sequence[Observation], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Chunks [n, horizon, action_dim]; a chunk's draws are a function of its own seed."""
        ...


def checked(chunk: NDArray, suite: Suite, who: str, count: int | None = None) -> NDArray[np.float32]:
    """One chunk as the engine carries it out: float32 [execute, action_dim], or its first `count` rows.

    Raises:
        ValueError: it has another width, fewer actions than are carried out, or a number that is not finite.
    """
    array = np.asarray(chunk)
    width = len(suite.action)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{who} answered {array.dtype} values, not numbers")
    if array.ndim != 2 or array.shape[1] != width:
        names = ", ".join(column.name for column in suite.action)
        raise ValueError(
            f"{who} answered actions of shape {list(array.shape)}; {suite.name} takes rows of {width} numbers ({names})"
        )
    if len(array) < suite.execute:
        raise ValueError(
            f"execute: {suite.execute} actions of each chunk are to be carried out, but {who} answered chunks of "
            f"{len(array)}; lower the suite's `execute`"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is told below
        array = array[: suite.execute if count is None else count].astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{who} answered a number that is not finite in float32; check its checkpoint and statistics")
    return array


class _NothingHeld:
    """A driver that holds nothing it would have to give back."""

    def end(self) -> None:
        """Nothing to do."""


class PolicyDriver:
    """A policy in this process, shown raw observations.

    Args:
        policy: What acts.
        checkpoint: SHA-256 of its weights.
        cameras: The policy's camera -> the suite's, where they are called differently; none are left out where empty.
    """

    looks, batched, scripted, draws = True, True, False, True

    def __init__(self, policy: ChunkPolicy, checkpoint: str, cameras: Mapping[str, str] | None = None) -> None:
        self.policy, self.checkpoint, self.name = policy, checkpoint, "policy"
        self._cameras = dict(cameras or {})
        self._suite: Suite | None = None
        self._memory = Memory(policy.frame_stack) if isinstance(policy, LooksBack) and policy.frame_stack > 1 else None

    def begin(self, suite: Suite) -> None:
        """Compare widths and chunk length before any simulator starts."""
        policy, self._suite = self.policy, suite
        for what, has, wants in (
            ("state", policy.state_dim, len(suite.state)),
            ("action", policy.action_dim, len(suite.action)),
        ):
            if has != wants:
                raise ValueError(
                    f"policy: its {what} has {has} numbers, {suite.name}'s has {wants}; it was trained on another "
                    "robot, or on several: name the robot"
                )
        if policy.horizon < suite.execute:
            raise ValueError(
                f"execute: {suite.execute} actions of each chunk are to be carried out, but the policy's chunks hold "
                f"{policy.horizon}; lower it"
            )
        if self._memory is not None:
            self._memory.clear()
            if suite.execute != 1:
                raise ValueError(
                    f"execute: {suite.execute} actions pass between two looks, and the policy looks at the last "
                    f"{self._memory.frame_stack} moments, an action apart; give execute 1"
                )

    def end(self) -> None:
        """Forget what episodes showed."""
        if self._memory is not None:
            self._memory.clear()

    def plan(self, asks: Sequence[Ask]) -> list[NDArray[np.float32]]:
        """One batched call."""
        assert self._suite is not None
        return [checked(chunk, self._suite, "the policy") for chunk in self._answers(asks)]

    def _answers(self, asks: Sequence[Ask]) -> NDArray[np.float32]:
        """The policy's chunks [n, horizon, action_dim]."""
        observations = [self._observation(ask) for ask in asks]
        if self._memory is not None:
            observations = self._memory.remembered(asks, observations)
        return self.policy.act_many(observations, [ask.seed for ask in asks])

    def _observation(self, ask: Ask) -> Observation:
        view = ask.view
        assert view is not None
        images = {theirs: view.images[ours] for theirs, ours in self._named(view).items()}
        return Observation(images, view.state, view.instruction)

    def _named(self, view: View) -> dict[str, str]:
        named = self._cameras or {camera: camera for camera in view.images}
        if missing := sorted(set(named.values()) - view.images.keys()):
            raise ValueError(f"cameras: the suite shows no {missing}; it shows {sorted(view.images)}")
        if unknown := sorted(named.keys() - set(self.policy.cameras)):
            raise ValueError(
                f"cameras: the policy knows no {unknown}; it looks through {list(self.policy.cameras)}. Say which of "
                f"the suite's {sorted(view.images)} each of them is"
            )
        return named


class ExpertDriver(_NothingHeld):
    """The simulators' scripted expert: it reads what no camera shows, so it is a ceiling and no competitor."""

    name, checkpoint = "expert", NO_WEIGHTS
    looks, batched, scripted, draws = False, False, True, False

    def begin(self, suite: Suite) -> None:
        """Nothing to prepare; a simulator without an expert says so when it is asked."""

    def plan(self, asks: Sequence[Ask]) -> list[NDArray[np.float32]]:
        """Never called."""
        raise AssertionError("a scripted driver does not plan")


class RandomDriver(_NothingHeld):
    """Uniform in every column's range: the floor."""

    name, checkpoint = "random", NO_WEIGHTS
    looks, batched, scripted, draws = False, False, False, True

    def begin(self, suite: Suite) -> None:
        """Take the ranges from the suite."""
        self._low = np.array([column.low for column in suite.action])
        self._high = np.array([column.high for column in suite.action])
        self._execute = suite.execute

    def plan(self, asks: Sequence[Ask]) -> list[NDArray[np.float32]]:
        """A function of each ask's seed alone."""
        size = (self._execute, len(self._low))
        draws = [np.random.default_rng(ask.seed).uniform(self._low, self._high, size) for ask in asks]
        return [draw.astype(np.float32) for draw in draws]


class HoldDriver(_NothingHeld):
    """The number nearest zero in every column, at no cost: what is left is the simulator's and the engine's time.

    It looks, so that everything a policy would be shown is drawn and sent.
    """

    name, checkpoint = "hold", NO_WEIGHTS
    looks, batched, scripted, draws = True, False, False, False

    def begin(self, suite: Suite) -> None:
        """Make the one chunk there is."""
        row = [min(max(0.0, column.low), column.high) for column in suite.action]
        self._chunk = np.tile(np.array(row, np.float32), (suite.execute, 1))

    def plan(self, asks: Sequence[Ask]) -> list[NDArray[np.float32]]:
        """The same for all."""
        return [self._chunk] * len(asks)


class ReplayDriver(_NothingHeld):
    """Actions that were recorded, carried out open loop.

    Args:
        actions: `Case.key` -> [n, action_dim], in the suite's raw columns. Give each case as many `max_steps`; the
            last action is held where an episode goes on past its record.
    """

    name, checkpoint = "replay", NO_WEIGHTS
    looks, batched, scripted, draws = False, False, False, False

    def __init__(self, actions: Mapping[str, NDArray[np.float32]]) -> None:
        self._actions = actions

    def begin(self, suite: Suite) -> None:
        """Every case of the suite has a record of the right width."""
        self._execute = suite.execute
        for case in suite.cases():
            record = self._actions.get(case.key)
            if record is None:
                raise ValueError(f"actions: there is no record of {case.key}")
            if record.ndim != 2 or not len(record) or record.shape[1] != len(suite.action):
                raise ValueError(
                    f"actions: the record of {case.key} has shape {list(record.shape)}; "
                    f"{suite.name} takes rows of {len(suite.action)} numbers"
                )

    def plan(self, asks: Sequence[Ask]) -> list[NDArray[np.float32]]:
        """Each record's next actions."""
        return [self._next(self._actions[ask.case.key], ask.step) for ask in asks]

    def _next(self, record: NDArray[np.float32], step: int) -> NDArray[np.float32]:
        rows = np.minimum(np.arange(step, step + self._execute), len(record) - 1)
        return np.ascontiguousarray(record[rows], dtype=np.float32)
