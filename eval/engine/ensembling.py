"""Temporal ensembling: every action is an average over the chunks that speak of its moment (ACT, Zhao et al. 2023).

step      0    1    2    3          planned at every step; the action of step 2 is the average of
chunk 0   a    b   [c]              c, with weight 1 (the oldest), f, with exp(-m), and g, with exp(-2m),
chunk 1        e   [f]   .          over the weights' sum
chunk 2            [g]   .    .
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from eval.engine.drivers import Ask, ChunkPolicy, PolicyDriver, checked
from eval.suite import Suite


class EnsemblingDriver(PolicyDriver):
    """A policy in this process, asked for a chunk at every action.

    Args:
        policy: What acts.
        checkpoint: SHA-256 of its weights.
        decay: m. The i-th chunk, counted from the oldest, weighs exp(-m i): 0 averages evenly, more minds new chunks
            less.
        cameras: As PolicyDriver's.
    """

    def __init__(
        self, policy: ChunkPolicy, checkpoint: str, decay: float, cameras: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(policy, checkpoint, cameras)
        self.decay, self.name = decay, f"policy, ensemble {decay:g}"
        self._chunks: dict[str, dict[int, NDArray[np.float32]]] = {}

    def begin(self, suite: Suite) -> None:
        """Beside a policy's own conditions: every action must be asked for."""
        if suite.execute != 1:
            raise ValueError(f"ensemble: it plans at every action, and execute is {suite.execute}; give execute 1")
        super().begin(suite)
        self._chunks.clear()

    def end(self) -> None:
        """Forget all episodes."""
        super().end()
        self._chunks.clear()

    def plan(self, asks: Sequence[Ask]) -> list[NDArray[np.float32]]:
        """One batched call for whole chunks; of each episode, the average over those that cover its next action."""
        assert self._suite is not None
        chunks = [checked(chunk, self._suite, "the policy", count=len(chunk)) for chunk in self._answers(asks)]
        return [self._averaged(ask, chunk) for ask, chunk in zip(asks, chunks, strict=True)]

    def _averaged(self, ask: Ask, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """The action [1, action_dim] of this step.

        Chunks are held by episode, and only those of its own earlier steps count: one that begins anew, after its
        simulator died, is at step 0 and has none.
        """
        held = self._chunks.get(ask.case.key, {})
        held = {step: old for step, old in held.items() if step < ask.step < step + len(old)} | {ask.step: chunk}
        self._chunks[ask.case.key] = held
        rows = np.stack([held[step][ask.step - step] for step in sorted(held)]).astype(np.float64)
        weights = np.array([math.exp(-self.decay * i) for i in range(len(rows))])
        return (weights @ rows / weights.sum()).astype(np.float32)[None]
