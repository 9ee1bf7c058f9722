"""What episodes showed before, for policies that look at more than the present moment."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vla.observation import Observation

if TYPE_CHECKING:
    from eval.engine.drivers import Ask

_EPISODES = 1024  # more than are under way at once; those that ended are the first to go


@runtime_checkable
class LooksBack(Protocol):
    """A policy that reads `Observation.before`.

    Attributes:
        frame_stack: Moments it looks at, the present one included.
    """

    frame_stack: int


class Memory:
    """The last moments of every episode under way.

    Args:
        frame_stack: Moments a policy looks at, the present one included.
    """

    def __init__(self, frame_stack: int) -> None:
        self.frame_stack = frame_stack
        self._seen: dict[str, dict[int, Observation]] = {}

    def remembered(self, asks: "Sequence[Ask]", observations: Sequence[Observation]) -> list[Observation]:
        """The observations, each with what its episode showed before."""
        return [self._remembered(ask, observation) for ask, observation in zip(asks, observations, strict=True)]

    def _remembered(self, ask: "Ask", observation: Observation) -> Observation:
        """Held by episode and step: one that begins anew, after its simulator died, is at step 0 and has nothing."""
        held = self._seen.pop(ask.case.key, {})
        held = {step: seen for step, seen in held.items() if ask.step - self.frame_stack < step < ask.step}
        assert len(held) == min(ask.step, self.frame_stack - 1), "asked at every action"
        self._seen[ask.case.key] = held | {ask.step: observation}
        if len(self._seen) > _EPISODES:
            del self._seen[next(iter(self._seen))]
        return replace(observation, before=tuple(held[step] for step in sorted(held)))

    def clear(self) -> None:
        """Forget all episodes."""
        self._seen.clear()
