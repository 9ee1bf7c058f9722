"""A source whose samples are their ids, and which can fail: what worker processes import."""

import os
import signal
from collections.abc import Sequence

import torch

from data_mixtures.batch import Batch
from data_mixtures.defects import BadEpisodeError


class CountingSource:
    """Sample i has state i in every dimension and (i % 251) in every pixel."""

    def __init__(self, fails_at: int = -1, dies_at: int = -1, size: int = 8) -> None:
        self.fails_at, self.dies_at, self.size = fails_at, dies_at, size

    def batch(self, sample_ids: Sequence[int]) -> Batch:
        ids = torch.tensor(sample_ids)
        if self.fails_at in sample_ids:
            raise BadEpisodeError("episode 7", "truncated", "the film ends in the middle")
        if self.dies_at in sample_ids:
            os.kill(os.getpid(), signal.SIGKILL)
        count = len(ids)
        pixels = (ids % 251).to(torch.uint8)[:, None, None, None, None, None]
        return Batch(
            images=pixels.expand(count, 2, 1, 3, self.size, self.size).contiguous(),
            camera_mask=torch.ones(count, 1, dtype=torch.bool),
            state=ids[:, None].float().repeat(1, 46),
            state_mask=torch.ones(count, 46, dtype=torch.bool),
            actions=torch.zeros(count, 4, 44),
            action_mask=torch.zeros(count, 4, 44, dtype=torch.bool),
            instruction=[f"do {i}" for i in ids.tolist()],
            subtask=[""] * count,
            sample_ids=ids,
        )
