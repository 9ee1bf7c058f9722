"""What drives an episode: a policy that sees pictures, or one of the two references."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data_mixtures.spaces.embodiments import METAWORLD_SAWYER
from data_mixtures.spaces.unified import ACTION_DIM
from eval.metaworld import CompiledTask, MetaWorldEpisode

if TYPE_CHECKING:
    from vla.policy import UnifiedObservation

# Decisions an episode can have at most, for keying draws by (episode seed, decision).
_DECISIONS_PER_SEED = 1000


class ChunkPolicy(Protocol):
    """What the engine asks of a policy."""

    def unified_chunks(self, observations: "list[UnifiedObservation]", seeds: list[int]) -> Any:
        """Unified action chunks [n, S, 44] (array or CPU tensor, physical units), one for each observation.

        Draws are a function of the observation's seed, so a chunk does not depend on its neighbours in the batch.
        """
        ...


class Driver(Protocol):
    """Plans commands for the running episodes of one task, all at the same decision."""

    @property
    def execute(self) -> int:
        """Commands of each plan that are carried out before the next one."""
        ...

    def plan(self, compiled: CompiledTask, episodes: Sequence[MetaWorldEpisode]) -> NDArray[np.float32]:
        """Raw commands [n, >= execute, 4] in [-1, 1]."""
        ...

    @property
    def latencies_s(self) -> list[float]:
        """Wall seconds of each policy call so far, pictures not counted."""
        ...


def draw_seed(episode: MetaWorldEpisode) -> int:
    """The seed of the draws made at the episode's present decision."""
    return episode.seed * _DECISIONS_PER_SEED + episode.decisions


class PolicyDriver:
    """Shows a policy pictures, states and the instruction, and turns its unified actions into commands."""

    def __init__(self, policy: ChunkPolicy, cameras: Sequence[str], image_size: int, execute: int) -> None:
        self.policy, self.cameras, self.image_size, self.execute = policy, tuple(cameras), image_size, execute
        self.latencies_s: list[float] = []

    def observe(self, compiled: CompiledTask, episode: MetaWorldEpisode) -> "UnifiedObservation":
        """What the policy is shown: pictures drawn now, the state in the unified space."""
        # Here, not above: worker processes of the references then need no torch, which takes seconds to import.
        from vla.policy import UnifiedObservation

        return UnifiedObservation(
            images={camera: compiled.render(episode, camera, self.image_size) for camera in self.cameras},
            state=METAWORLD_SAWYER.to_unified_state(episode.state),
            state_mask=METAWORLD_SAWYER.state_mask,
            instruction=episode.task.instruction,
        )

    def plan(self, compiled: CompiledTask, episodes: Sequence[MetaWorldEpisode]) -> NDArray[np.float32]:
        """One batched policy call."""
        observations = [self.observe(compiled, episode) for episode in episodes]
        started = time.perf_counter()
        actions = np.asarray(self.policy.unified_chunks(observations, [draw_seed(episode) for episode in episodes]))
        self.latencies_s.append(time.perf_counter() - started)
        return METAWORLD_SAWYER.action_from_unified(self._checked(actions, len(episodes)))

    def _checked(self, actions: NDArray, number: int) -> NDArray:
        if actions.ndim != 3 or actions.shape[0] != number or actions.shape[2] != ACTION_DIM:
            raise ValueError(f"the policy's chunks have shape {actions.shape}; expected [{number}, S, {ACTION_DIM}]")
        if actions.shape[1] < self.execute:
            raise ValueError(
                f"execute: {self.execute} decisions are to be carried out but the policy's chunks hold "
                f"{actions.shape[1]}; lower execute"
            )
        if not np.isfinite(actions).all():
            raise ValueError("the policy gave a number that is not finite; check the checkpoint and its statistics")
        return actions


class ExpertDriver:
    """Meta-World's scripted expert: it reads object positions, so it is a ceiling and no competitor."""

    execute = 1

    def __init__(self) -> None:
        self.latencies_s: list[float] = []

    def plan(self, compiled: CompiledTask, episodes: Sequence[MetaWorldEpisode]) -> NDArray[np.float32]:
        """One command each, from the privileged state."""
        return np.stack([episode.expert_command() for episode in episodes])[:, None]


class RandomDriver:
    """Uniform commands: the floor."""

    def __init__(self, execute: int) -> None:
        self.execute = execute
        self.latencies_s: list[float] = []

    def plan(self, compiled: CompiledTask, episodes: Sequence[MetaWorldEpisode]) -> NDArray[np.float32]:
        """A function of each episode's seed and decision alone."""
        draws = [np.random.default_rng(draw_seed(e)).uniform(-1, 1, (self.execute, 4)) for e in episodes]
        return np.stack(draws).astype(np.float32)
