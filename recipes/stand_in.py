"""A mixture before its data is there: what a stage asks of one, in the recipe's shapes, with every field at its widest.

All cameras are there in every sample, texts are as long as they may be, all dimensions of states and actions move.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_mixtures.batch import Batch
from data_mixtures.config import MixtureConfig
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.statistics.normalisation import Normalisation, Quantiles

# A character that no tokenizer trained on the tasks below knows: each becomes a token.
_UNKNOWN = "~"
LONGEST_TEXT = 200
SUBTASK_TOKENS = 32


@dataclass(frozen=True)
class StandInMixture:
    """Data that nobody has yet.

    Attributes:
        config: The mixture it stands for.
        text_tokens: Of an instruction; what reads it may cut it.
        action_dim: How many of the unified action dimensions move.
        latents: Tokens and width of the teacher's latents, if samples hold them.
        features: Tokens and width of a frame's cached vision features, if samples hold them.
    """

    config: MixtureConfig
    text_tokens: int = LONGEST_TEXT
    action_dim: int = ACTION_DIM
    latents: tuple[int, int] | None = None
    features: tuple[int, int] | None = None

    tasks = ("do the task",)
    subtasks = ("do a part of it",)
    robot = None

    def normalisation(self) -> Normalisation:
        """From -1 to 1 in every dimension that moves."""
        moving = tuple(float(dim < self.action_dim) for dim in range(ACTION_DIM))
        state = (1.0,) * STATE_DIM
        return Normalisation(_symmetric(state), _symmetric(moving))

    def windows(self, batch_size: int) -> Iterator[Batch]:
        """One batch."""
        yield self.batch(range(batch_size))

    def batch(self, sample_ids: Sequence[int]) -> Batch:
        """Black frames, states at random, smooth actions as a robot's are, texts of the longest length."""
        size, config = len(sample_ids), self.config
        window, cameras = config.window, len(config.cameras)
        generator = torch.Generator().manual_seed(0)
        turns, phase = torch.rand(2, size, 1, ACTION_DIM, generator=generator)
        along = torch.arange(window.horizon)[:, None] / window.horizon
        actions = torch.sin(2 * torch.pi * (turns * along + phase))  # noise would be hundreds of FAST tokens
        action_mask = torch.zeros(size, window.horizon, ACTION_DIM, dtype=torch.bool)
        action_mask[..., : self.action_dim] = True
        frames = (size, window.frames, cameras)
        return Batch(
            images=_zeros((*frames, 3, config.image_size, config.image_size), np.uint8),
            camera_mask=torch.ones(size, cameras, dtype=torch.bool),
            state=2 * torch.rand(size, STATE_DIM, generator=generator) - 1,
            state_mask=torch.ones(size, STATE_DIM, dtype=torch.bool),
            actions=actions * action_mask,
            action_mask=action_mask,
            instruction=[_UNKNOWN * self.text_tokens] * size,
            subtask=[_UNKNOWN * SUBTASK_TOKENS] * size,
            sample_ids=torch.tensor(sample_ids),
            latents=None if self.latents is None else _zeros((size, *self.latents), np.float32),
            vision_features=None if self.features is None else _zeros((*frames, *self.features), np.float16),
        )


def _zeros(shape: tuple[int, ...], dtype: type) -> Tensor:
    """Zeros that take no memory until something is written."""
    return torch.from_numpy(np.zeros(shape, dtype))


def _symmetric(high: tuple[float, ...]) -> Quantiles:
    return Quantiles(tuple(-value for value in high), high)
