"""A world a few numbers wide, known exactly: points that go where actions push them, and a dimension of their own."""

from dataclasses import replace

import numpy as np
import torch

from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.spaces.recorded_columns import RecordedColumns
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.transitions import Trajectories

STATES, ACTIONS = 3, 2
ROBOT = Embodiment("pushed_point", recorded=RecordedColumns(list(range(STATES)), list(range(ACTIONS))))


def pushed_points(seed: int, episodes: int = 8, length: int = 20) -> Trajectories:
    """o = (x, y, constant); x and y move by a tenth of the actions, uniform in [-1, 1]."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (episodes, length, ACTIONS)).astype(np.float32)
    moved = np.cumsum(0.1 * actions, axis=1)
    points = np.concatenate([np.zeros((episodes, 1, ACTIONS), np.float32), moved[:, :-1]], axis=1)
    points += rng.normal(size=(episodes, 1, ACTIONS)).astype(np.float32)
    states = np.zeros((episodes * length, STATE_DIM), np.float32)
    states[:, :2], states[:, 2] = points.reshape(-1, 2), 5.0
    padded = np.zeros((episodes * length, ACTION_DIM), np.float32)
    padded[:, :ACTIONS] = actions.reshape(-1, ACTIONS)
    return Trajectories(
        states=torch.from_numpy(states),
        state_mask=torch.arange(STATE_DIM) < STATES,
        actions=torch.from_numpy(padded),
        action_mask=torch.arange(ACTION_DIM) < ACTIONS,
        images=torch.zeros(episodes * length, 0, 3, 0, 0, dtype=torch.uint8),
        first=torch.arange(0, episodes * length + 1, length),
        robot=ROBOT,
        control_hz=10.0,
    )


def moving_dots(seed: int, episodes: int = 8, length: int = 12, size: int = 8) -> Trajectories:
    """Pictures of `size` pixels a side of a dot that goes up to 0.8 pixels an action; o = (x, y, constant).

    The state is in pixels. The dot is two pixels wide and may leave the picture.
    """
    world = pushed_points(seed, episodes, length)
    places = 8 * (world.states[:, :2] - world.states[::length, :2].repeat_interleave(length, 0)) + (size - 1) / 2
    grid = torch.arange(size)
    near = torch.exp(-((grid - places[:, :, None]) ** 2) / 2)  # [R, 2, size]
    dots = (255 * near[:, 1, :, None] * near[:, 0, None, :]).round().byte()
    states = world.states.clone()
    states[:, :2] = places
    return replace(world, states=states, images=dots[:, None, None].expand(-1, 1, 3, -1, -1).clone())
